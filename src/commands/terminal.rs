//! A QR code for a terminal, two modules in one character.

use qrcodegen::{QrCode, QrCodeEcc};
use rustix::termios::tcgetwinsize;

/// Modules of white around the code; ISO/IEC 18004 asks for 4.
const QUIET_ZONE: i32 = 4;
/// Black on white on every terminal.
const COLOURS: &str = "\x1b[30;107m";
const RESET: &str = "\x1b[0m";

/// The columns of the terminal that standard output is; `None` where it does not tell.
pub fn width() -> Option<u16> {
    tcgetwinsize(std::io::stdout()).ok().map(|size| size.ws_col).filter(|columns| *columns > 0)
}

/// The code, or why it cannot be shown.
pub fn code(text: &str, columns: Option<u16>) -> String {
    let Some(drawn) = qr(text) else {
        return "this is too long for a QR code; paste it instead\n".to_owned();
    };
    let wide =
        drawn.lines().next().map_or(0, |row| row.chars().filter(|c| !c.is_ascii() || *c == ' ').count());
    match columns.map(usize::from) {
        Some(columns) if columns < wide => format!(
            "the QR code needs {wide} columns and this terminal has {columns}: make it wider or its letters smaller, and \
             run the command that shows it again; or paste the text above\n"
        ),
        _ => drawn,
    }
}

/// `None`: too long for a code.
fn qr(text: &str) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
    let end = code.size().saturating_add(QUIET_ZONE);
    let mut drawn = String::new();
    let mut y = QUIET_ZONE.saturating_neg();
    while y < end {
        drawn.push_str(COLOURS);
        for x in QUIET_ZONE.saturating_neg()..end {
            // Outside, modules are light.
            drawn.push(match (code.get_module(x, y), code.get_module(x, y.saturating_add(1))) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        drawn.push_str(RESET);
        drawn.push('\n');
        y = y.saturating_add(2);
    }
    Some(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_square_with_a_quiet_zone() {
        let drawn = qr("boltcard://program?url=https%3A%2F%2Fc.example%2Fnew%3Fa%3D00").unwrap();
        let rows: Vec<&str> = drawn
            .lines()
            .map(|row| row.strip_prefix(COLOURS).unwrap().strip_suffix(RESET).unwrap())
            .collect();
        let side = rows[0].chars().count();
        assert_eq!(rows.len(), side.div_ceil(2));
        assert!(rows[..2].iter().all(|row| row.trim().is_empty()));
        assert!(rows[2].starts_with("    █▀▀▀▀▀█ "));
        assert!(qr(&"x".repeat(3000)).is_none());
    }

    #[test]
    fn a_terminal_that_is_too_narrow_is_told_so() {
        let (text, drawn) = ("boltcard://program", qr("boltcard://program").unwrap());
        assert_eq!((code(text, None), code(text, Some(33))), (drawn.clone(), drawn));
        assert!(code(text, Some(32)).starts_with("the QR code needs 33 columns and this terminal has 32: "));
        assert!(code(&"x".repeat(3000), Some(80)).contains("too long"));
    }
}
