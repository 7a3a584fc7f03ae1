//! What is made from the list of commands: `manual page` prints the man page, `manual table FILE` puts the table of commands
//! into a file, in place of the indented block below its heading.

use std::io::{Error, Write};
use tollgated::commands::{all, manual};

const HEADING: &str = "## Commands\n\n";

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["page"] => std::io::stdout().write_all(manual::page().as_bytes()),
        ["table", file] => {
            let text = std::fs::read_to_string(file)?;
            let (before, below) = text.split_once(HEADING).ok_or_else(|| Error::other("no heading"))?;
            let old: usize =
                below.split_inclusive('\n').take_while(|line| line.starts_with("    ")).map(str::len).sum();
            std::fs::write(file, format!("{before}{HEADING}{}{}", manual::table(all()), &below[old..]))
        }
        _ => Err(Error::other("usage: manual page | table FILE")),
    }
}
