//! Corpora as text: the first line says where the inputs are from, each further line is one.
//!
//! `\\`, `\n`, `\r`, `\t` and `\xNN` stand for their bytes; everything else stands for itself, in UTF-8.

/// The inputs of a corpus.
pub fn read(text: &str) -> Vec<Vec<u8>> {
    text.lines().filter(|line| !line.starts_with("# ")).map(unescaped).collect()
}

/// An input as a line.
pub fn escaped(input: &[u8]) -> String {
    let mut line = String::new();
    for chunk in input.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => line.push_str("\\\\"),
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                '\t' => line.push_str("\\t"),
                ' '..='~' => line.push(c),
                c => c
                    .encode_utf8(&mut [0; 4])
                    .bytes()
                    .for_each(|byte| line.push_str(&format!("\\x{byte:02x}"))),
            }
        }
        chunk.invalid().iter().for_each(|byte| line.push_str(&format!("\\x{byte:02x}")));
    }
    line
}

fn unescaped(line: &str) -> Vec<u8> {
    let mut input = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\\') {
        input.extend(before.as_bytes());
        let (byte, length) = match after.as_bytes() {
            [b'x', ..] => (u8::from_str_radix(&after[1..3], 16).unwrap(), 3),
            [b'n', ..] => (b'\n', 1),
            [b'r', ..] => (b'\r', 1),
            [b't', ..] => (b'\t', 1),
            [b'\\', ..] => (b'\\', 1),
            _ => panic!("no escape: {line}"),
        };
        input.push(byte);
        rest = &after[length..];
    }
    input.extend(rest.as_bytes());
    input
}

#[test]
fn inputs_are_read_as_they_were_written() {
    let input = b"a\\b\n\r\t\x00\xff \xc3\xa9~".to_vec();
    assert_eq!(escaped(&input), "a\\\\b\\n\\r\\t\\x00\\xff \\xc3\\xa9~");
    let text = format!("# source\n{}\n\n#x\n", escaped(&input));
    assert_eq!(read(&text), [input, Vec::new(), b"#x".to_vec()]);
}
