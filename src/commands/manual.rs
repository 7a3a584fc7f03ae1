//! What is told about the commands, made from the list: the help, the operators' table and the man page.

use super::{all, Command, Reach};

const WIDTH: usize = 100;
/// Where the summaries begin.
const COLUMN: usize = 25;

const HEAD: &str = "\
tollgated - sells internet access on this router

USAGE
    tollgated COMMAND [ARGUMENT...] [-c FILE] [--json]

COMMANDS
";

const TAIL: &str = "
OPTIONS
    -c FILE              configuration to use; default /etc/config/tollgate
    --json               print JSON, for scripts (all but run, setup, wiring, gate release)
    -h, --help           this text; behind a command, what is told of that
    --version            the version

EXIT STATUS
    0 done; 1 refused or failed, or 'check' found errors; 2 wrong usage

FILES
    /etc/config/tollgate             configuration (UCI)
    /etc/tollgate                    what must survive: store and keys
    /var/run/tollgate/control.sock   how these commands reach the daemon

EXAMPLES
    tollgated setup --dry-run --mint https://mint.example.com --ssid 'Kibanda Wi-Fi'
    tollgated check && tollgated reload      after a change of the configuration
    tollgated grant 02:00:00:00:00:01 1d     let the printer in until tomorrow
    tollgated status --json                  for monitoring
";

/// What `tollgated --help` prints.
pub fn help() -> String {
    format!("{HEAD}{}{TAIL}", table(all()))
}

/// The help of the commands that begin with these words, or all of it.
pub fn help_of(words: &[&str]) -> String {
    let meant = |command: &&Command| {
        let name: Vec<&str> = command.name.split(' ').collect();
        let both = name.len().min(words.len());
        both > 0 && name.get(..both) == words.get(..both)
    };
    match table(all().filter(meant)) {
        empty if empty.is_empty() => help(),
        table => table,
    }
}

/// A command a line, its summary beside it or, where that is too narrow, below.
pub fn table(commands: impl Iterator<Item = &'static Command>) -> String {
    let mut text = String::new();
    for command in commands {
        let usage = wrapped(&command.line(), 4, 8);
        let fits = !usage.contains('\n') && usage.len() < COLUMN;
        let summary = wrapped(command.summary, COLUMN, COLUMN);
        match fits {
            true => text.push_str(&format!("{usage:COLUMN$}{}\n", summary.trim_start())),
            false => text.push_str(&format!("{usage}\n{summary}\n")),
        }
    }
    text
}

/// The man page, for section 8 (troff with the `man` macros).
pub fn page() -> String {
    let mut page = format!(
        ".TH TOLLGATED 8 \"\" \"tollgated {}\"\n.SH NAME\ntollgated \\- sells internet access on this router\n\
         .SH SYNOPSIS\n.B tollgated\nCOMMAND [ARGUMENT...] [\\-c FILE] [\\-\\-json]\n.SH COMMANDS\n",
        env!("CARGO_PKG_VERSION"),
    );
    for command in all() {
        let (line, summary) = (escaped(&command.line()), escaped(command.summary));
        page.push_str(&format!(".TP\n.B {line}\n{summary}.\n{}.\n", escaped(&reached(command))));
    }
    for line in TAIL.lines() {
        match line.strip_prefix("    ") {
            Some(line) => page.push_str(&format!("{}\n", escaped(line))),
            None if line.is_empty() => {}
            None if page.ends_with(".\n") => page.push_str(&format!(".SH {line}\n.nf\n")),
            None => page.push_str(&format!(".fi\n.SH {line}\n.nf\n")),
        }
    }
    page.push_str(".fi\n");
    page
}

/// From where a command can be called, in words.
fn reached(command: &Command) -> String {
    let role = format!("{:?}", command.role).to_lowercase();
    match command.reach {
        Reach::Shell(_) | Reach::Errand(..) => "From the router's own shell only".to_owned(),
        Reach::Socket(..) => format!("From the shell and the control socket; {role}"),
        Reach::Signed(paths, ..) => format!("Also {}, with the token only; {role}", paths.join(" or ")),
        Reach::Http(paths, ..) => format!("Also {}; {role}", paths.join(" or ")),
    }
}

/// As troff prints it: with minus signs that can be copied, and no line that is taken for a request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

/// Lines of at most `WIDTH`, the first indented by `first`, the others by `others`. Brackets are not torn.
fn wrapped(words: &str, first: usize, others: usize) -> String {
    let mut text = " ".repeat(first);
    let mut width = first;
    for word in unbroken(words) {
        if width > others && width.saturating_add(word.len()).saturating_add(1) > WIDTH {
            text.push_str(&format!("\n{}", " ".repeat(others)));
            width = others;
        } else if width > first.min(others) && !text.ends_with(' ') {
            text.push(' ');
            width = width.saturating_add(1);
        }
        text.push_str(word);
        width = width.saturating_add(word.len());
    }
    text
}

/// Words, and what is in square brackets as one word.
fn unbroken(text: &str) -> Vec<&str> {
    let mut depth = 0usize;
    text.split(|letter: char| {
        match letter {
            '[' => depth = depth.saturating_add(1),
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ' ' && depth == 0
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_has_every_command_and_fits_a_terminal() {
        let help = help();
        for command in all() {
            assert!(help.contains(&format!("\n    {}", command.name)), "{}", command.name);
        }
        assert!(help.lines().all(|line| line.chars().count() <= WIDTH && line.trim_end() == line), "{help}");
        assert!(help.contains("\n    status               whether anything can be sold"), "{help}");
        let grant = "\n    grant MAC AMOUNT [--venue VENUE]\n                         let a device through unpaid (30m";
        assert!(help.contains(grant), "{help}");
    }

    #[test]
    fn a_group_a_command_and_what_is_neither_have_help() {
        assert_eq!(help_of(&["card", "show"]), "    card show ID         one card\n");
        assert_eq!(help_of(&["card"]).matches("\n    card ").count(), 9);
        assert!(help_of(&["grant", "x"]).starts_with("    grant MAC AMOUNT"));
        assert_eq!((help_of(&["fly"]), help_of(&[])), (help(), help()));
        for command in all() {
            let name: Vec<&str> = command.name.split(' ').collect();
            assert!(help_of(&name[..1]).lines().count() < 40, "{}", command.name);
        }
    }

    #[test]
    fn what_is_in_brackets_stays_on_one_line() {
        let setup = all()
            .find(|command| command.name == "setup")
            .map(|command| wrapped(&command.line(), 4, 8))
            .unwrap();
        assert!(setup.lines().count() > 1);
        for line in setup.lines() {
            assert_eq!(line.matches('[').count(), line.matches(']').count(), "{line}");
        }
    }

    #[test]
    fn the_readme_has_the_table_of_commands() {
        let readme = include_str!("../../openwrt/README.md");
        assert!(readme.contains(&table(all())), "`make manual` puts it there");
    }

    #[test]
    fn the_man_page_has_every_command_and_every_section_of_the_help() {
        let page = page();
        for command in all() {
            assert!(page.contains(&format!("\n.TP\n.B {}\n", escaped(&command.line()))), "{}", command.name);
        }
        let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        let all = ["NAME", "SYNOPSIS", "COMMANDS", "OPTIONS", "EXIT STATUS", "FILES", "EXAMPLES"];
        assert_eq!(sections, all);
        assert!(
            page.contains("Also POST /admin/cards or POST /api/createboltcard, with the token only; owner.")
        );
        assert_eq!(page.matches("\n.nf\n").count(), page.matches("\n.fi\n").count());
    }
}
