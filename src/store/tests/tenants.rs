//! No statement of this program names a table of tenants' rows without the tenant.

use super::SCHEMA;
use std::fs;
use std::path::{Path, PathBuf};

/// The wallet goes on with its own operations, whichever tenant's vouchers they are for. Statements without a tenant as
/// their parameter are in these files only; nobody's request reaches them.
const OF_THE_WALLET: [&str; 4] = ["fundings.rs", "taken.rs", "lock_keys.rs", "locked.rs"];

/// Whether a statement of the wallet's tells with each row whose it is, before all else, or is about the rows that one of its
/// operations holds.
fn is_the_wallets(statement: &str) -> bool {
    let columns = statement.trim_start().strip_prefix("SELECT ").unwrap_or_default();
    let columns = columns.strip_prefix("DISTINCT ").unwrap_or(columns);
    let first: &str = columns.split([',', ' ']).next().unwrap_or_default();
    let tells = matches!(first, "tenant" | "k.tenant");
    tells || (statement.starts_with("UPDATE ") && statement.contains("WHERE op = ?1 AND op != 0"))
}

/// The tables whose rows belong to a tenant.
fn tables() -> Vec<String> {
    let steps = SCHEMA.steps.iter().flat_map(|step| step.split("CREATE TABLE ").skip(1));
    let of_tenants = steps.filter(|table| table.split(") STRICT").next().unwrap().contains("tenant "));
    of_tenants.map(|table| table.split_whitespace().next().unwrap().to_owned()).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match path.is_dir() {
            true if name != "tests" => sources(&path, found),
            false if name.ends_with(".rs") && name != "tests.rs" => found.push(path),
            _ => {}
        }
    }
}

/// The string that stands around this byte of a source.
fn literal(text: &str, at: usize) -> &str {
    let is_quote = |(_, pair): &(usize, &[u8])| pair[1] == b'"' && pair[0] != b'\\';
    let before = text.as_bytes()[..at].windows(2).enumerate().rfind(is_quote).map_or(0, |(at, _)| at + 2);
    let after = text.as_bytes()[at..]
        .windows(2)
        .enumerate()
        .find(is_quote)
        .map_or(text.len(), |(more, _)| at + more + 1);
    &text[before..after]
}

#[test]
fn every_statement_on_a_table_of_tenants_has_the_tenant_as_its_first_parameter() {
    let tables = tables();
    assert!(tables.iter().any(|table| table == "vouchers") && tables.iter().any(|table| table == "audit"));
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let (mut seen, mut others) = (0, Vec::new());
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        // Tests make rows of other tenants.
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for (table, word) in
            tables.iter().flat_map(|table| ["FROM ", "INTO ", "UPDATE ", "JOIN "].map(|word| (table, word)))
        {
            let named = format!("{word}{table}");
            for (at, _) in text.match_indices(&named) {
                let next = text[at + named.len()..].chars().next();
                if next.is_some_and(|next| next.is_alphanumeric() || next == '_') {
                    continue;
                }
                seen += 1;
                let statement = literal(text, at);
                if statement.contains("tenant") && statement.contains("$1") {
                    continue;
                }
                let name = file.file_name().and_then(|name| name.to_str()).unwrap();
                others.push((name.to_owned(), statement.to_owned()));
            }
        }
    }
    assert!(seen > 20, "{seen} statements");
    for file in OF_THE_WALLET {
        assert!(others.iter().any(|(name, _)| name == file), "{file} has none any more");
    }
    others.retain(|(file, statement)| !OF_THE_WALLET.contains(&file.as_str()) || !is_the_wallets(statement));
    assert!(others.is_empty(), "{others:#?}");
}
