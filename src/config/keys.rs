//! `config keys`: what keeps the keys that vouchers' ecash is locked to. This build knows the files of this router only.

use super::fields::Fields;
use super::problem::{shown, Problems};
use super::schema::KEYS;
use super::uci::Section;
use super::values;

/// Reads the section; there is nothing in it that could be another way here.
pub(super) fn check(section: Option<&Section>, problems: &mut Problems) -> Option<()> {
    let mut fields = Fields::new(KEYS, section, problems);
    let provider = fields.one("provider", provider);
    fields.optional("address", values::mint_url)?;
    fields.optional("transit_key", values::network)?;
    for name in ["role_id_file", "secret_id_file"] {
        fields.optional(name, values::plain_path)?;
    }
    fields.one("allow_http", values::boolean)?;
    provider
}

fn provider(text: &str) -> Result<(), String> {
    match text {
        "file" => Ok(()),
        "vault" => {
            Err("'vault' is not in this build: use 'file', or a build with the feature vault".to_owned())
        }
        _ => Err(format!("{} is no keeper of keys: use 'file'", shown(text))),
    }
}
