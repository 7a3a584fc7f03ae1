//! An invoice, or a ticket's address, as a QR code in SVG: one path, dark on white on any page. Refuses what is not
//! an invoice's alphabet and what would make modules too small for a cheap camera.

use super::html::Html;
use qrcodegen::{QrCode, QrCodeEcc, QrSegment, Version};

/// Modules of white around the code; ISO/IEC 18004 asks for 4.
const QUIET_ZONE: i32 = 4;

/// 117 modules across: 2 CSS pixels each on the narrowest phone.
const LARGEST: u8 = 25;

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
    // Error correction is raised as far as the version allows.
    let (least, most) = (Version::MIN, Version::new(LARGEST));
    let code = QrCode::encode_segments_advanced(&[segment], QrCodeEcc::Low, least, most, None, true).ok()?;
    let side = code.size().checked_add(QUIET_ZONE.checked_mul(2)?)?;

    let mut svg = Html::new();
    svg.raw(
        "<svg class=\"qr\" role=\"img\" shape-rendering=\"crispEdges\" xmlns=\"http://www.w3.org/2000/svg\"",
    );
    if let Some(label) = label {
        svg.attr("aria-label", label);
    }
    svg.attr("viewBox", &format!("0 0 {side} {side}"));
    svg.raw(" width=\"264\" height=\"264\"><path fill=\"#fff\"").attr("d", &format!("M0 0h{side}v{side}H0z"));
    svg.raw("/><path fill=\"none\" stroke=\"#000\"").attr("d", &strokes(&code)).raw("/></svg>");
    Some(svg)
}

/// Every run of dark modules as a stroke along its middle, with relative moves: a third of the bytes of
/// rectangles.
fn strokes(code: &QrCode) -> String {
    let mut path = format!("M{QUIET_ZONE} {QUIET_ZONE}.5");
    let (mut pen_x, mut pen_y) = (0, 0);
    for y in 0..code.size() {
        let mut x = 0;
        while x < code.size() {
            if !code.get_module(x, y) {
                x += 1;
                continue;
            }
            let start = x;
            while code.get_module(x, y) {
                x += 1;
            }
            path.push_str(&format!("m{} {}h{}", start - pen_x, y - pen_y, x - start));
            (pen_x, pen_y) = (x, y);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

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
