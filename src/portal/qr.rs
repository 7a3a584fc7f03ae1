//! An invoice, or a ticket's address, as a QR code in SVG: one path, dark on white on any page. Refuses what is not
//! an invoice's alphabet and what would make modules too small for a cheap camera.

use super::html::Html;
use crate::qr::svg_of;
use qrcodegen::QrSegment;

/// More characters than the largest version holds with the lowest error correction.
const LONGEST_INVOICE: usize = 1_800;

/// So that the modules stay large.
const LONGEST_TEXT: usize = 150;

/// The code of `LIGHTNING:<INVOICE>` (upper case, so that it fits the denser alphanumeric mode), or `None`
/// when the invoice is empty, too long or not letters and digits.
pub(super) fn svg(invoice: &str) -> Option<Html> {
    if invoice.is_empty()
        || invoice.len() > LONGEST_INVOICE
        || !invoice.bytes().all(|b| b.is_ascii_alphanumeric())
    {
        return None;
    }
    let uri = format!("LIGHTNING:{}", invoice.to_ascii_uppercase());
    draw(QrSegment::make_alphanumeric(&uri), None)
}

/// The code of a short text as it is; `label` is for those who do not see it.
pub(super) fn of_text(text: &str, label: &str) -> Option<Html> {
    (text.len() <= LONGEST_TEXT).then(|| draw(QrSegment::make_bytes(text.as_bytes()), Some(label)))?
}

fn draw(segment: QrSegment, label: Option<&str>) -> Option<Html> {
    svg_of(segment, label).map(Html::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use qrcodegen::{QrCode, QrCodeEcc};

    /// Draws the path again, module by module.
    fn drawn(svg: &str) -> Vec<Vec<bool>> {
        let path = svg.split("stroke=\"#000\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        let (start, moves) = path.split_once('m').unwrap();
        assert_eq!(start, "M4 4.5");
        let mut grid = vec![vec![false; 200]; 200];
        let (mut x, mut y) = (4i32, 4i32);
        for step in moves.split('m') {
            let (dx, rest) = step.split_once(' ').unwrap();
            let (dy, run) = rest.split_once('h').unwrap();
            x += dx.parse::<i32>().unwrap();
            y += dy.parse::<i32>().unwrap();
            for _ in 0..run.parse::<i32>().unwrap() {
                grid[y as usize][x as usize] = true;
                x += 1;
            }
        }
        grid
    }

    #[test]
    fn the_path_draws_every_module_inside_a_quiet_zone_of_four() {
        let invoice = "lnbc600n1p5abcdefghjkmnpqrstuvwxyz023456789".repeat(6);
        let svg = svg(&invoice).unwrap().into_string();
        let uri = format!("LIGHTNING:{}", invoice.to_uppercase());
        let code = QrCode::encode_text(&uri, QrCodeEcc::Low).unwrap();
        let grid = drawn(&svg);
        for y in 0..200i32 {
            for x in 0..200i32 {
                assert_eq!(grid[y as usize][x as usize], code.get_module(x - 4, y - 4), "{x},{y}");
            }
        }
        let side = code.size() + 8;
        assert!(svg.contains(&format!("viewBox=\"0 0 {side} {side}\"")));
    }

    #[test]
    fn what_is_too_long_or_no_invoice_has_no_code() {
        assert!(svg(&"a".repeat(1_800)).is_some());
        assert!(svg(&"a".repeat(1_801)).is_none());
        assert!(svg("").is_none());
        assert!(svg("lnbc1\"><script>").is_none());
        assert!(svg("lnbc1é").is_none());
    }

    #[test]
    fn an_ordinary_invoice_stays_small() {
        let svg = svg(&"lnbc600n1p5q9zry8x2kf5m7w".repeat(14)).unwrap().into_string();
        assert!(svg.len() < 12_000, "{}", svg.len());
    }
}
