use super::parser::{MAX_ERRORS, MAX_OPTIONS, MAX_SECTIONS};
use super::*;
use serde_json::{json, Value as Json};

const SAMPLE: &str = include_str!("../../../tests/vectors/tollgate.uci");

fn shape(file: &UciFile) -> Json {
    let option = |option: &UciOption| match &option.value {
        Value::One(item) => json!([option.name, item.text]),
        Value::List(items) => {
            json!([option.name, items.iter().map(|item| item.text.as_str()).collect::<Vec<_>>()])
        }
    };
    let section = |section: &Section| {
        json!({
            "type": section.kind,
            "name": section.name,
            "anonymous": section.anonymous,
            "options": section.options.iter().map(option).collect::<Vec<_>>(),
        })
    };
    Json::Array(file.sections.iter().map(section).collect())
}

#[test]
fn every_vector_reads_as_libuci_reads_it() {
    let vectors: Json = serde_json::from_str(include_str!("../../../tests/vectors/uci.json")).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() > 70);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        match (parse(case["text"].as_str().unwrap().as_bytes()), case.get("error")) {
            (Ok(file), None) => assert_eq!(shape(&file), case["sections"], "{name}"),
            (Err(errors), Some(text)) => assert_eq!(errors[0].to_string(), text.as_str().unwrap(), "{name}"),
            (got, _) => panic!("{name}: {got:?}"),
        }
    }
}

#[test]
fn a_long_value_is_kept_whole() {
    let value = "v".repeat(50_000);
    let file = parse(format!("config a b\n\toption x '{value}'\n").as_bytes()).unwrap();
    assert_eq!(file.sections[0].option("x").unwrap().items()[0].text, value);
}

#[test]
fn a_nul_byte_is_refused_with_its_line_and_byte() {
    let errors = parse(b"config a b\n\toption x '1\x002'\n").unwrap_err();
    assert_eq!(errors[0].to_string(), "Parse error (NUL byte) at line 2, byte 12");
}

#[test]
fn a_file_above_the_limit_is_refused() {
    assert!(parse(&vec![b'\n'; MAX_BYTES]).is_ok());
    assert_eq!(parse(&vec![b'\n'; MAX_BYTES + 1]).unwrap_err()[0].reason, "file too large");
}

#[test]
fn more_sections_or_options_than_a_person_writes_are_refused() {
    let sections = "config a\n".repeat(MAX_SECTIONS + 1);
    assert_eq!(parse(sections.as_bytes()).unwrap_err()[0].reason, "too many sections");
    let options: String = (0..=MAX_OPTIONS).map(|i| format!("\toption x{i} 1\n")).collect();
    let errors = parse(format!("config a\n{options}").as_bytes()).unwrap_err();
    assert_eq!(errors[0].reason, "too many options in a section");
    assert_eq!(parse_large(sections.as_bytes()).unwrap().sections.len(), MAX_SECTIONS + 1);
}

#[test]
fn values_remember_the_line_their_command_starts_in() {
    let file = parse(b"config a b\n\toption x 'one\ntwo'\n\tlist l 1\n\n\tlist l 2\nconfig c\n").unwrap();
    assert_eq!(file.sections[0].option("x").unwrap().items()[0].line, 2);
    let lines: Vec<_> = file.sections[0].option("l").unwrap().items().iter().map(|item| item.line).collect();
    assert_eq!(lines, [4, 6]);
    assert_eq!(file.sections[1].line, 7);
}

#[test]
fn an_open_quote_names_the_line_it_was_opened_in() {
    let errors = parse(b"config a b\n\toption x 'abc\n\toption y 1\n").unwrap_err();
    assert_eq!((errors.len(), errors[0].started, errors[0].line), (1, 2, 3));
}

#[test]
fn the_last_line_is_counted_without_a_newline_too() {
    assert_eq!(parse(b"hello").unwrap_err()[0].line, 1);
    assert_eq!(parse(b"config a\nhello").unwrap_err()[0].line, 2);
}

#[test]
fn errors_of_all_lines_are_collected_but_not_those_that_follow_from_a_bad_section() {
    let errors = parse(b"config a b c\n\toption x 1\n\toption y 1 2\nfoo\nconfig b\n\tbar\n").unwrap_err();
    let lines: Vec<_> = errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [1, 3, 4, 6]);
    assert!(parse("x\n".repeat(1000).as_bytes()).unwrap_err().len() <= MAX_ERRORS);
}

#[test]
fn what_a_semicolon_drops_is_told() {
    let file = parse(b"config a b\n\toption x 1; option y 2\n\toption z 1; # nothing\n").unwrap();
    let lines: Vec<_> = file.surprises.iter().map(|surprise| surprise.line).collect();
    assert_eq!(lines, [2]);
}

#[test]
fn an_empty_value_that_takes_back_another_is_told() {
    let file = parse(b"config a b\n\toption x 1\n\toption x ''\n\toption y ''\n").unwrap();
    let lines: Vec<_> = file.surprises.iter().map(|surprise| surprise.line).collect();
    assert_eq!(lines, [3]);
}

#[test]
fn bytes_that_are_no_utf8_become_replacement_characters() {
    let file = parse(b"config a b\n\toption x 'caf\xe9'\n").unwrap();
    assert_eq!(file.sections[0].option("x").unwrap().items()[0].text, "caf\u{fffd}");
}

#[test]
fn every_prefix_and_every_changed_byte_is_read_or_refused_without_a_panic() {
    let sample = SAMPLE.as_bytes();
    for end in 0..=sample.len() {
        let _ = parse(&sample[..end]);
    }
    for at in 0..sample.len() {
        for byte in [0, b'\'', b'"', b'\\', b';', b'#', b'\n', b'\r', b' ', 0xc3, 0xff] {
            let mut changed = sample.to_vec();
            changed[at] = byte;
            let _ = parse(&changed);
            changed.truncate(at + 1);
            let _ = parse(&changed);
        }
    }
}
