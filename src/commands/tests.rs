//! What must hold for every row of the list.

use super::*;

#[test]
fn every_command_has_a_name_of_its_own_and_says_what_it_does() {
    let names: Vec<&str> = all().map(|command| command.name).collect();
    for command in all() {
        assert_eq!(names.iter().filter(|name| **name == command.name).count(), 1, "{}", command.name);
        let words: Vec<&str> = command.name.split(' ').collect();
        assert!((1..=2).contains(&words.len()), "{}", command.name);
        assert!(
            !command.summary.is_empty() && !command.summary.contains(['\n', '\u{2019}']),
            "{}",
            command.name
        );
        // A group's name alone is no command, so that the longer one is found.
        assert!(words.len() == 1 || !names.contains(&words[0]), "{}", command.name);
        assert!(std::ptr::eq(find(&words).unwrap().0, command));
    }
}

#[test]
fn what_a_command_takes_is_written_in_one_way() {
    for command in all() {
        for arg in expected(command.args) {
            let known = if arg.is_option() {
                arg.name
                    .strip_prefix("--")
                    .unwrap()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            } else {
                arg.name.bytes().all(|b| b.is_ascii_uppercase())
            };
            let value = arg.value.unwrap_or("N").bytes().all(|b| b.is_ascii_uppercase());
            assert!(known && value, "{}: {arg:?}", command.name);
        }
        assert_eq!(command.args.matches('[').count(), command.args.matches(']').count(), "{}", command.name);
    }
}

#[test]
fn what_is_the_shells_is_nobody_elses() {
    let shells: Vec<&str> = all()
        .filter(|command| matches!(command.reach, Reach::Shell(_) | Reach::Errand(..)))
        .map(|command| command.name)
        .collect();
    for name in ["run", "setup", "gate release", "wiring", "wallet seed", "wallet restore"] {
        assert!(shells.contains(&name), "{name}");
    }
}

#[test]
fn what_moves_money_or_shows_a_key_is_not_for_who_has_only_signed_in() {
    let on_http =
        |command: &&Command| !command.paths().is_empty() && !matches!(command.reach, Reach::Signed(..));
    for command in all().filter(on_http) {
        let own =
            command.name.starts_with("wallet ") && !["wallet balance", "wallet info"].contains(&command.name);
        let keys = ["card create", "card wipe", "card reprogram", "card tap"].contains(&command.name);
        assert!(!own && !keys, "{}", command.name);
    }
}

/// What changes something and moves no money. A new command has to be thought of: it is here, or it moves some.
#[test]
fn what_changes_something_moves_money_or_is_known_to_move_none() {
    const RESTS: [&str; 19] = [
        "clock accept",
        "auth rotate",
        "card create",
        "card enable",
        "card disable",
        "card limits",
        "card wipe",
        "card reprogram",
        "reload",
        // What the operator gives away, and takes back.
        "grant",
        "revoke",
        "invite create",
        "invite delete",
        "keys rotate",
        "keys rewrap",
        "operator enroll",
        "voucher sheet",
        "wallet sent",
        "wallet seed",
    ];
    for command in all() {
        let rests = !command.audited || RESTS.contains(&command.name);
        assert_eq!(command.moves_money, !rests, "{}", command.name);
    }
}

#[test]
fn paths_are_the_operators_and_lead_to_one_command() {
    let every: Vec<&str> = all().flat_map(Command::paths).copied().collect();
    for path in &every {
        let (method, place) = path.split_once(' ').unwrap();
        assert!(["GET", "POST", "DELETE"].contains(&method), "{path}");
        assert!(["/admin/", "/api/", "/connectioncodes"].iter().any(|own| place.starts_with(own)), "{path}");
        assert_eq!(every.iter().filter(|other| *other == path).count(), 1, "{path}");
        assert!(at_path(method, place).unwrap().0.paths().contains(path), "{path}");
    }
    for command in all() {
        for part in command.paths().iter().flat_map(|path| path.split('/')) {
            let is_arg = !part.is_empty() && part.bytes().all(|b| b.is_ascii_uppercase());
            let known = expected(command.args).iter().any(|arg| arg.name == part);
            assert!(!is_arg || known, "{}: {part}", command.name);
        }
    }
}

#[test]
fn an_unknown_line_is_told_what_there_is() {
    assert_eq!(usages_of(&["wallet", "x"]).unwrap().lines().next(), Some("usage: wallet balance"));
    assert!(usages_of(&["card"])
        .unwrap()
        .contains("\n       card tap LINK --mac MAC [--amount SAT | --steps N]"));
    assert_eq!(usages_of(&["fly"]), None);
    assert!(unknown().starts_with("unknown command; try status, reload, clock, clients, "), "{}", unknown());
    assert!(!unknown().contains("setup"));
}

#[test]
fn a_path_names_a_command_and_its_argument() {
    let found = |method, path| at_path(method, path).map(|(command, named)| (command.name, named));
    let seven = vec![("id".to_owned(), "7".to_owned())];
    assert_eq!(found("POST", "/admin/cards/7/wipe"), Some(("card wipe", seven.clone())));
    assert_eq!(found("GET", "//admin/cards/7/"), Some(("card show", seven)));
    assert_eq!(found("POST", "/api/createboltcard"), Some(("card create", Vec::new())));
    for (method, path) in
        [("GET", "/admin/cards/7/wipe"), ("POST", "/admin/cards/7/wipe/now"), ("GET", "/admin"), ("GET", "/")]
    {
        assert_eq!(found(method, path), None, "{method} {path}");
    }
    let (limits, named) = at_path("POST", "/admin/cards/7/limits").unwrap();
    assert!(limits.takes_more_than(&named) && limits.takes_more_than(&[]));
    let (wipe, named) = at_path("POST", "/admin/cards/7/wipe").unwrap();
    assert!(!wipe.takes_more_than(&named));
}
