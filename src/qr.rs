//! QR codes as SVG: one path, dark on white on any page.

use maud::{html, Markup, PreEscaped};
use qrcodegen::{QrCode, QrCodeEcc, QrSegment, Version};

/// Modules of white around the code; ISO/IEC 18004 asks for 4.
const QUIET_ZONE: i32 = 4;

/// 117 modules across: 2 CSS pixels each on the narrowest phone.
const LARGEST: u8 = 25;

/// `label` is for those who do not see it. `None`: it is too much for a code that a cheap camera reads.
pub fn svg_of(segment: QrSegment, label: Option<&str>) -> Option<Markup> {
    // Error correction is raised as far as the version allows.
    let (least, most) = (Version::MIN, Version::new(LARGEST));
    let code = QrCode::encode_segments_advanced(&[segment], QrCodeEcc::Low, least, most, None, true).ok()?;
    let side = code.size().checked_add(QUIET_ZONE.checked_mul(2)?)?;
    Some(html! {
        svg class="qr" role="img" shape-rendering="crispEdges" xmlns="http://www.w3.org/2000/svg" aria-label=[label]
            viewBox=(format!("0 0 {side} {side}")) width="264" height="264" {
            // Numbers and moves only. maud closes no element by itself.
            (PreEscaped(format!("<path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/>")))
            (PreEscaped(format!("<path fill=\"none\" stroke=\"#000\" d=\"{}\"/>", strokes(&code))))
        }
    })
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
