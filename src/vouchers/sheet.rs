//! A page to be printed: one card for each code, on sheets of A4 or as one strip of a receipt printer.

use super::VoucherCode;
use crate::qr::svg_of;
use maud::{html, PreEscaped, DOCTYPE};
use qrcodegen::QrSegment;

/// What stands on every card.
pub struct Sheet<'a> {
    /// The venue's name.
    pub venue: &'a str,
    /// The name of the Wi-Fi, as far as it is known.
    pub wifi: Option<&'a str>,
    /// `1h`, `500 MB`, `210 sat`.
    pub worth: &'a str,
    /// `210 sat`, or empty.
    pub price: &'a str,
    /// The last day, or empty.
    pub until: &'a str,
    pub note: &'a str,
    /// Where the portal is, without the last slash; `None`: cards without a QR code.
    pub portal: Option<&'a str>,
    /// For a receipt printer of 58 mm.
    pub is_strip: bool,
}

const A4: &str = "@page{size:A4;margin:8mm}main{display:grid;grid-template-columns:repeat(3,1fr);gap:3mm}\
    article{border:.3mm dashed #888;padding:3mm}";
const STRIP: &str = "@page{size:58mm auto;margin:2mm}main{width:54mm}\
    article{border-bottom:.3mm dashed #000;padding:3mm 0}";
const BOTH: &str = "*{box-sizing:border-box}body{margin:0;color:#000;background:#fff;font:3.2mm/1.35 system-ui,sans-serif}\
    article{break-inside:avoid;text-align:center}h2{font-size:4mm;margin:0}p{margin:.6mm 0}\
    .worth{font-size:4.6mm;font-weight:700}.code{font:700 4.6mm/1.6 ui-monospace,monospace;white-space:nowrap}\
    svg.qr{width:30mm;height:30mm;display:block;margin:0 auto}.small{font-size:2.6mm}";

/// The whole page. It has no script, and asks nobody for anything.
pub fn page(sheet: &Sheet, codes: &[VoucherCode]) -> String {
    let own = if sheet.is_strip { STRIP } else { A4 };
    let one = |code: &VoucherCode| {
        let link = sheet.portal.map(|portal| format!("{portal}/?voucher={code}"));
        let drawn = link.and_then(|link| svg_of(QrSegment::make_bytes(link.as_bytes()), Some("QR")));
        html! {
            article {
                h2 { (sheet.venue) }
                p class="worth" { (sheet.worth) }
                @if let Some(drawn) = drawn { (drawn) }
                p class="code" { (code.to_string()) }
                @if let Some(wifi) = sheet.wifi { p { "Wi-Fi: " b { (wifi) } } }
                @if !sheet.price.is_empty() { p { (sheet.price) } }
                @if !sheet.note.is_empty() { p { (sheet.note) } }
                p class="small" {
                    @if let Some(portal) = sheet.portal { (portal) }
                    @if !sheet.until.is_empty() { br; (sheet.until) }
                }
            }
        }
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (sheet.venue) }
                style { (PreEscaped(own)) (PreEscaped(BOTH)) }
            }
            body { main { @for code in codes { (one(code)) } } }
        }
    };
    page.into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_card_and_no_name_is_markup() {
        let codes = [VoucherCode::random().unwrap(), VoucherCode::random().unwrap()];
        let mut sheet = Sheet {
            venue: "<b>Kibanda</b>",
            wifi: Some("Kibanda & Co"),
            worth: "1h",
            price: "60 sat",
            until: "",
            note: "",
            portal: Some("http://192.168.1.1:2121"),
            is_strip: false,
        };
        let html = page(&sheet, &codes);
        assert!(codes.iter().all(|code| html.contains(&code.to_string())));
        assert_eq!((html.matches("<article>").count(), html.matches("<svg").count()), (2, 2));
        assert!(
            html.contains("&lt;b&gt;Kibanda") && html.contains("Kibanda &amp; Co") && html.contains("A4")
        );
        sheet.is_strip = true;
        sheet.portal = None;
        let strip = page(&sheet, &codes);
        assert!(strip.contains("58mm") && !strip.contains("<svg"));
    }
}
