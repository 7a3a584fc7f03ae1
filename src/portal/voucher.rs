//! Where a voucher's code is typed in: a plain form.

use super::lang::Lang;
use super::notice::notices;
use super::states::ShowVoucher;
use super::view::{back, in_language, still, View};
use maud::html;

pub(super) fn show_voucher(lang: Lang, lang_chosen: bool, page: &ShowVoucher) -> View {
    let s = lang.strings();
    let main = html! {
        h1 { (s.voucher_title) }
        (notices(lang, page.notices))
        form method="post" action="/voucher" autocomplete="off" {
            (in_language(lang, lang_chosen))
            label class="rate" for="voucher" { (s.voucher_label) }
            textarea id="voucher" class="paste groups" name="code" rows="1" maxlength="64" required
                spellcheck="false" autocapitalize="characters" placeholder="XXXX-XXXX-XXXX" { (page.typed) }
            button class="button" type="submit" { span { (s.voucher_button) } }
            p class="hint" { (s.voucher_hint) }
        }
        (back(lang, lang_chosen))
    };
    still("voucher", s.voucher_title, main.into())
}
