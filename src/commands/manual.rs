//! What is told about the commands, made from the list: the help, the operators' table and the man page.

use super::{all, expected, find, Arg, Command, Reach};

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
    --json               print {\"ok\":true,\"data\"} or {\"ok\":false,\"code\",\"message\"}, for scripts
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

/// What the words of an argument stand for, in the order in which they are explained.
const EXPLAINED: [(&str, &str); 46] = [
    ("MAC", "a device: its hardware address, like 02:00:00:00:00:01"),
    ("AMOUNT", "time, like 90m, 1h30m, 2d or 1w, or data, like 500MB or 2GB (of 10^6 and 10^9 bytes)"),
    ("VENUE", "the name of a venue's section in the configuration"),
    ("ID", "a number, as the list shows it"),
    ("CLASS", "which keys: venue, or refund"),
    ("TOKEN", "a Cashu token; '-': it comes from standard input, where nobody else sees it"),
    ("WORDS", "twelve words; '-': they come from standard input, where nobody else sees them"),
    (
        "LINK",
        "what the card's chip, or a wallet, shows: lnurlw://, https://, LNURL1...; '-': from standard input",
    ),
    ("NAME", "a name of your choice"),
    ("OUTCOME", "paid, or failed"),
    ("WAY", "buy: with shillings; sell: for shillings"),
    ("NUMBER", "whole shillings, or satoshis that are sold"),
    ("SAT", "a number of satoshis"),
    ("N", "a number"),
    ("SECONDS", "a number of seconds"),
    ("DURATION", "like 90m, 1h30m, 2d or 1w"),
    ("SIZE", "like 500MB or 2GB (of 10^6 and 10^9 bytes)"),
    ("FUNDING", "none (your own promise, if not said), treasury or invoice"),
    ("BATCH", "the id of an order, as 'voucher create' and 'voucher list' show it"),
    ("--strip", "the page is for a receipt printer, not A4"),
    ("--print", "the page goes to this file, for its owner only"),
    ("TEXT", "words of your choice, up to 200 letters"),
    ("--number", "how many codes, 1 to 500"),
    ("--seconds", "a code is worth this much time"),
    ("--bytes", "a code is worth this much data"),
    ("--sats", "a code is worth what this many satoshis buy"),
    ("--uses", "how often each code lets somebody in, once if not said"),
    ("--expires", "from now on; without it codes last for ever"),
    ("--page", "which page of the list, from 1"),
    ("--limit", "codes on a page, up to 100"),
    ("ROLE", "viewer, cashier, manager or owner"),
    ("--role", "what the operator may do; an owner may do everything"),
    ("URL", "the address of a mint, like https://mint.example.com"),
    ("TIME", "like 2026-11-30 or 2026-11-30T16:00 (UTC), seconds since 1970, or 90m or 2d: so long ago"),
    ("--verify", "looks at all rows: whether each is as it was written"),
    ("--v3", "the token's older form, cashuA"),
    ("--tx-max", "most that one payment may be"),
    ("--day-max", "most that all payments of any 24 hours may be"),
    ("--uid-privacy", "the app hides the chip's number for ever"),
    ("--disabled", "it pays only after 'card enable'"),
    ("--amount", "what the card pays"),
    ("--steps", "how many steps of the venue it pays"),
    ("--system", "looks at the router: firewall, DHCP, devices, clock"),
    ("--wait", "gives a daemon that is stopping 20 s"),
    ("-c FILE", "the configuration; default /etc/config/tollgate"),
    ("--json", "the answer as {\"ok\":true,\"data\"} or {\"ok\":false,\"code\",\"message\"}"),
];

/// The help of the commands that begin with these words. Returns `None` if there is no such command.
pub fn help_of(words: &[&str]) -> Option<String> {
    if let Some((command, _)) = find(words) {
        return Some(help_of_one(command));
    }
    let of_group = |command: &&Command| {
        let name: Vec<&str> = command.name.split(' ').collect();
        !words.is_empty() && name.starts_with(words)
    };
    match table(all().filter(of_group)) {
        none if none.is_empty() => None,
        table => {
            Some(format!("{table}\nMore of one of them: tollgated {} COMMAND --help\n", words.join(" ")))
        }
    }
}

fn help_of_one(command: &'static Command) -> String {
    let usage = wrapped(&format!("usage: tollgated {}", command.line()), 0, 8);
    let mut text = format!("{usage}\n\n{}\n\n", wrapped(command.summary, 4, 4));
    let args = expected(command.args);
    for (name, what) in EXPLAINED {
        let is_taken = |arg: &Arg| arg.name == name || (arg.value == Some(name));
        let is_common = name.starts_with("-c") || name == "--json";
        if !is_common && !args.iter().any(is_taken) {
            continue;
        }
        // The wallet's amount is money.
        let what = match (name, command.name) {
            ("AMOUNT", "wallet send") => "a number of satoshis",
            ("MAC", "grant" | "revoke") => {
                "a device: its hardware address, like 02:00:00:00:00:01, or its IP address"
            }
            ("ID", command) if command.starts_with("voucher ") => "a voucher's id, as the list shows it",
            ("--expires", "voucher create") => {
                "from now on; without it as code_life in the configuration says"
            }
            ("N", "voucher create") => "how many, 1 to 500; one if not said",
            ("ID", "invite delete") => "32 letters and digits, as the list shows them; not the code itself",
            _ => what,
        };
        text.push_str(&format!("    {name:16} {}\n", wrapped(what, 21, 21).trim_start()));
    }
    text.push_str("\nExit status: 0 done; 1 refused or failed; 2 wrong usage.\n");
    text
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
    let role = command.role.as_str();
    match command.reach {
        Reach::Shell(_) | Reach::Errand(..) => "From the router's own shell only".to_owned(),
        _ if command.paths().is_empty() => format!("From the shell and the control socket; {role}"),
        Reach::Signed(paths, ..) => {
            format!("Also {}, with the token or a fresh signature; {role}", paths.join(" or "))
        }
        _ => format!("Also {}; {role}", command.paths().join(" or ")),
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
    fn a_command_tells_its_usage_and_what_its_words_mean() {
        let grant = help_of(&["grant"]).unwrap();
        assert!(
            grant.starts_with("usage: tollgated grant MAC AMOUNT [--venue VENUE]\n\n    let a device"),
            "{grant}"
        );
        for line in ["\n    MAC ", "\n    AMOUNT           time, like 90m", "\n    VENUE ", "\n    --json "] {
            assert!(grant.contains(line), "{line}: {grant}");
        }
        assert!(!grant.contains("SAT") && help_of(&["grant", "x"]) == Some(grant));
        assert!(help_of(&["wallet", "send"]).unwrap().contains("AMOUNT           a number of satoshis\n"));
    }

    #[test]
    fn a_group_has_help_and_what_is_no_command_has_none() {
        assert_eq!(help_of(&["card"]).unwrap().matches("\n    card ").count(), 9);
        assert_eq!((help_of(&["fly"]), help_of(&["card", "fly"]), help_of(&[])), (None, None, None));
    }

    #[test]
    fn help_fits_a_screen_and_explains_every_word() {
        let names: Vec<&str> = EXPLAINED.iter().map(|(name, _)| *name).collect();
        for command in all() {
            let words: Vec<&str> = command.name.split(' ').collect();
            for words in [&words[..1], &words[..]] {
                let help = help_of(words).unwrap();
                assert!(help.lines().count() < 40, "{}", command.name);
                assert!(
                    help.lines().all(|line| line.chars().count() <= WIDTH && line.trim_end() == line),
                    "{help}"
                );
            }
            // It lists its own.
            let args = if command.name == "setup" { Vec::new() } else { expected(command.args) };
            for arg in args {
                let explained =
                    names.contains(&arg.name) || arg.value.is_some_and(|value| names.contains(&value));
                assert!(explained, "{}: {}", command.name, arg.name);
            }
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
        assert!(page.contains(
            "Also POST /admin/cards or POST /api/createboltcard, with the token or a fresh signature; owner."
        ));
        assert_eq!(page.matches("\n.nf\n").count(), page.matches("\n.fi\n").count());
    }
}
