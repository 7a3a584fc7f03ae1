//! What can be bought, as a form: chips for the usual amounts, a field for any other, the price, one
//! button. Works without script; with it, price and amount follow each tap.

use super::html::Html;
use super::lang::Lang;
use super::links::{location, way_location};
use super::mpesa;
use super::notice::{host, notices};
use super::quantity::Quantity;
use super::states::{Offer, OfferedMint};
use super::view::in_language;
use crate::config::Metric;
use crate::units::{Allotment, Sats};

/// What most people want to buy.
const USUAL_TIMES: [u64; 4] = [600_000, 3_600_000, 14_400_000, 86_400_000];
const USUAL_DATA: [u64; 4] = [100_000_000, 500_000_000, 1_000_000_000, 5_000_000_000];

/// The steps of the usual amounts, rounded to whole steps and moved inside the limits; ascending, each once.
/// Empty when the limits contradict each other.
pub fn chips(step: Quantity, min_steps: u64, max_steps: u64) -> Vec<u64> {
    let least = min_steps.max(1);
    if least > max_steps {
        return Vec::new();
    }
    let usual = match step.metric {
        Metric::Milliseconds => USUAL_TIMES,
        Metric::Bytes => USUAL_DATA,
    };
    let Allotment(step) = step.amount;
    let nearest = |amount: u64| amount.checked_add(step / 2)?.checked_div(step);
    let mut steps: Vec<u64> =
        usual.into_iter().filter_map(nearest).map(|steps| steps.clamp(least, max_steps)).collect();
    steps.dedup();
    steps
}

/// One chip: steps that have a price.
struct Chip {
    steps: u64,
    buys: Quantity,
    price: Sats,
}

impl Offer<'_> {
    /// The preselected mint and its chips, if anything can be sold.
    fn sellable(&self) -> Option<(&OfferedMint<'_>, Vec<Chip>)> {
        let mint = self.mints.first()?;
        let chips: Vec<Chip> = chips(self.step, mint.min_steps, self.max_steps)
            .into_iter()
            .filter_map(|steps| {
                let (buys, price) = (self.step.checked_mul(steps)?, mint.price_per_step.checked_mul(steps)?);
                Some(Chip { steps, buys, price })
            })
            .collect();
        (!chips.is_empty()).then_some((mint, chips))
    }

    pub(super) fn is_open(&self) -> bool {
        self.sellable().is_some()
    }
}

/// One price for all, so that what is shown before the script runs is true for every mint.
pub(super) fn has_one_price(mints: &[OfferedMint]) -> bool {
    mints.windows(2).all(|pair| match pair {
        [a, b] => a.price_per_step == b.price_per_step && a.min_steps == b.min_steps,
        _ => true,
    })
}

/// The question above the choice.
pub(super) fn title(lang: Lang, offer: &Offer) -> &'static str {
    match offer.step.metric {
        Metric::Milliseconds => lang.strings().choose_title,
        Metric::Bytes => lang.strings().choose_data_title,
    }
}

/// Notices, form, and the way back to an open invoice.
pub(super) fn form(lang: Lang, lang_chosen: bool, offer: &Offer) -> Html {
    let s = lang.strings();
    let mut html = notices(lang, &offer.notices);
    if let Some(of_mpesa) = &offer.mpesa {
        html.add(&mpesa::form(lang, lang_chosen, of_mpesa));
    }
    match offer.sellable() {
        Some((mint, chips)) => {
            html.add(&purchase(lang, lang_chosen, offer, mint, &chips));
        }
        None if offer.mpesa.is_some() => {}
        None => {
            html.raw("<a class=\"button\"").attr("href", &location(None, lang_chosen.then_some(lang)));
            html.raw(">").text(s.try_again).raw("</a>\n");
        }
    }
    if let Some(id) = offer.unpaid_request {
        html.raw("<a class=\"quiet\"").attr("href", &location(Some(id), lang_chosen.then_some(lang)));
        html.raw(">").text(s.back_to_invoice).raw("</a>\n");
    }
    html.add(&rows(lang, lang_chosen, offer));
    html
}

/// The rows below an offer.
fn rows(lang: Lang, lang_chosen: bool, offer: &Offer) -> Html {
    let (s, is_open) = (lang.strings(), offer.is_open());
    let mut html = Html::new();
    let ways = [
        ("ecash", s.ecash_title, is_open),
        ("card", s.card_title, is_open),
        ("voucher", s.voucher_title, true),
        ("ticket", s.ticket_title, true),
        ("mine", s.mine_title, offer.has_login),
    ];
    for (way, title, _) in ways.into_iter().filter(|(.., is_offered)| *is_offered) {
        html.raw("<a class=\"quiet way\"").attr("id", &format!("way-{way}"));
        html.attr("href", &way_location(way, lang_chosen.then_some(lang))).raw(">").text(title).raw("</a>\n");
    }
    html
}

fn purchase(lang: Lang, lang_chosen: bool, offer: &Offer, mint: &OfferedMint, chips: &[Chip]) -> Html {
    let s = lang.strings();
    // Without script a price must not be shown that the chosen mint may not have.
    let price_class = if has_one_price(&offer.mints) { "price" } else { "price script-only" };
    let selected = chips.len().saturating_sub(1).min(1);

    let mut html = Html::new();
    html.raw("<form id=\"offer\" method=\"post\" action=\"/pay\" autocomplete=\"off\" novalidate");
    html.attr("data-step", &offer.step.amount.0.to_string()).attr("data-metric", offer.step.metric.as_str());
    html.attr("data-max", &offer.max_steps.to_string());
    html.raw(">\n");
    html.add(&in_language(lang, lang_chosen));
    html.raw("<p")
        .attr("class", if has_one_price(&offer.mints) { "rate" } else { "rate script-only" })
        .raw(">");
    html.text(&lang.unit_price(mint.price_per_step, offer.step)).raw("</p>\n");

    html.raw("<div class=\"chips\" role=\"radiogroup\"").attr("aria-label", title(lang, offer)).raw(">\n");
    for (at, chip) in chips.iter().enumerate() {
        let id = format!("s{at}");
        html.raw("<input type=\"radio\" name=\"steps\"")
            .attr("class", &format!("unseen pick {id}"))
            .attr("id", &id);
        html.attr("value", &chip.steps.to_string()).raw(if at == selected { " checked>" } else { ">" });
        html.raw("<label class=\"chip\"").attr("for", &id).raw("><b>").text(&lang.quantity(chip.buys));
        html.raw("</b> <span")
            .attr("class", price_class)
            .attr("data-steps", &chip.steps.to_string())
            .raw(">");
        html.text(&lang.sats(chip.price)).raw("</span></label>\n");
    }
    html.raw("<input type=\"radio\" name=\"steps\" class=\"unseen pick other\" id=\"other\" value=\"\">");
    html.raw("<label class=\"chip wide\" for=\"other\">").text(s.other_amount).raw("</label>\n");

    let start = chips.get(selected).map_or(1, |chip| chip.steps);
    html.raw("<div class=\"stepper\"><button type=\"button\" class=\"script-only\" data-turn=\"-1\"");
    html.attr("aria-label", s.fewer).raw(">−</button><label class=\"unit\" for=\"steps\">");
    html.text(&step_name(lang, offer.step)).raw("</label><input id=\"steps\" name=\"steps\" type=\"number\"");
    html.raw(" inputmode=\"numeric\" pattern=\"[0-9]*\" step=\"1\"")
        .attr("min", &mint.min_steps.max(1).to_string());
    html.attr("max", &offer.max_steps.to_string()).attr("value", &start.to_string());
    html.raw("><button type=\"button\" class=\"script-only\" data-turn=\"1\"").attr("aria-label", s.more);
    html.raw(">+</button></div>\n");

    // The sum of what is checked; style alone shows the right one, so that no script is needed.
    for (at, chip) in chips.iter().enumerate() {
        let class = format!("sum {price_class} t{at}");
        html.add(&sum(lang, &class, Some(chip.steps), chip.buys, &lang.sats(chip.price)));
    }
    let start = chips.get(selected).map_or(offer.step, |chip| chip.buys);
    html.add(&sum(lang, "sum script-only tother", None, start, ""));
    html.raw("</div>\n");

    html.raw("<button class=\"button pay\" type=\"submit\">").raw(BOLT).raw("<span>").text(s.pay_button);
    html.raw("</span></button>\n").add(&mint_choice(lang, offer));
    html.raw("<p class=\"hint\">").text(s.pay_hint).raw("</p>\n</form>\n");
    html
}

fn sum(lang: Lang, class: &str, steps: Option<u64>, buys: Quantity, price: &str) -> Html {
    let mut html = Html::new();
    html.raw("<p")
        .attr("class", class)
        .raw("><span>")
        .text(lang.strings().you_get)
        .raw("<br><b class=\"time\">");
    html.text(&lang.quantity(buys)).raw("</b></span><strong");
    if let Some(steps) = steps {
        html.attr("data-steps", &steps.to_string());
    }
    html.raw(">").text(price).raw("</strong></p>\n");
    html
}

/// The only mint goes along unseen; of several the guest may choose.
fn mint_choice(lang: Lang, offer: &Offer) -> Html {
    let s = lang.strings();
    let mut html = Html::new();
    if let [mint] = offer.mints.as_slice() {
        html.raw("<input type=\"hidden\" name=\"mint\"").attr("value", mint.url).add(&terms(mint)).raw(">\n");
        return html;
    }
    html.raw("<fieldset class=\"mints\"><legend>").text(s.mint_choice).raw("</legend>\n");
    for (at, mint) in offer.mints.iter().enumerate() {
        html.raw("<label><input type=\"radio\" name=\"mint\"").attr("id", &format!("m{at}"));
        html.attr("value", mint.url).add(&terms(mint)).raw(if at == 0 { " checked>" } else { ">" });
        html.raw("<span>").text(host(mint.url));
        if !has_one_price(&offer.mints) {
            html.raw("<small>").text(&terms_of(lang, mint, offer.step)).raw("</small>");
        }
        html.raw("</span></label>\n");
    }
    html.raw("</fieldset>\n");
    html
}

/// The usual amounts of the preselected mint as a list to pick from, which goes along with the mint.
pub(super) fn short_choice(lang: Lang, offer: &Offer) -> Html {
    let mut html = Html::new();
    let Some((mint, chips)) = offer.sellable() else { return html };
    html.raw("<label class=\"rate\" for=\"amount\">").text(title(lang, offer)).raw("</label>\n");
    html.raw("<select id=\"amount\" name=\"steps\">\n");
    let selected = chips.len().saturating_sub(1).min(1);
    for (at, chip) in chips.iter().enumerate() {
        html.raw("<option").attr("value", &chip.steps.to_string());
        html.raw(if at == selected { " selected>" } else { ">" });
        html.text(&lang.quantity(chip.buys)).raw(" · ").text(&lang.sats(chip.price)).raw("</option>\n");
    }
    html.raw("</select>\n<input type=\"hidden\" name=\"mint\"").attr("value", mint.url).raw(">\n");
    html
}

/// A mint's conditions, for people: `1 sat = 1 minute, at least 30 minutes`.
pub(super) fn terms_of(lang: Lang, mint: &OfferedMint, step: Quantity) -> String {
    let price = lang.unit_price(mint.price_per_step, step);
    match step.checked_mul(mint.min_steps).filter(|_| mint.min_steps > 1) {
        Some(least) => {
            format!("{price}, {}", lang.strings().at_least.replace("{duration}", &lang.quantity(least)))
        }
        None => price,
    }
}

/// A mint's conditions, for the script.
fn terms(mint: &OfferedMint) -> Html {
    let mut html = Html::new();
    html.attr("data-price", &mint.price_per_step.0.to_string())
        .attr("data-min", &mint.min_steps.max(1).to_string());
    html
}

/// What the typed number counts: minutes where a step is a minute, else "× 90 seconds".
fn step_name(lang: Lang, step: Quantity) -> String {
    let s = lang.strings();
    match (step.metric, step.amount.0) {
        (Metric::Milliseconds, 86_400_000) => s.days_name.to_owned(),
        (Metric::Milliseconds, 3_600_000) => s.hours_name.to_owned(),
        (Metric::Milliseconds, 60_000) => s.minutes_name.to_owned(),
        (Metric::Milliseconds, 1_000) => s.seconds_name.to_owned(),
        (Metric::Bytes, 1_000_000_000) => s.gigabytes_name.to_owned(),
        (Metric::Bytes, 1_000_000) => s.megabytes_name.to_owned(),
        _ => s.times_name.replace("{duration}", &lang.quantity(step)),
    }
}

const BOLT: &str =
    "<svg width=\"20\" height=\"20\" viewBox=\"0 0 24 24\" fill=\"currentColor\" aria-hidden=\"true\">\
<path d=\"M13.5 2 4 14h6.2L9.5 22 20 9.6h-7z\"/></svg>";

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Quantity = secs(60);

    const fn secs(secs: u64) -> Quantity {
        Quantity { metric: Metric::Milliseconds, amount: Allotment(secs * 1000) }
    }

    #[test]
    fn the_usual_amounts_are_ten_minutes_an_hour_four_hours_and_a_day() {
        assert_eq!(chips(MINUTE, 1, 1440), [10, 60, 240, 1440]);
        assert_eq!(chips(secs(1), 1, 1_000_000), [600, 3_600, 14_400, 86_400]);
    }

    #[test]
    fn the_usual_data_is_100_mb_500_mb_1_gb_and_5_gb() {
        let step = |bytes| Quantity { metric: Metric::Bytes, amount: Allotment(bytes) };
        assert_eq!(chips(step(1_000_000), 1, 10_000), [100, 500, 1000, 5000]);
        assert_eq!(chips(step(10_000_000), 1, 1000), [10, 50, 100, 500]);
        assert_eq!(chips(step(22_020_096), 1, 1000), [5, 23, 45, 227]);
        assert_eq!(step_name(Lang::English, step(1_000_000)), "MB");
        assert_eq!(step_name(Lang::English, step(22_020_096)), "× 22 MB");
    }

    #[test]
    fn chips_stay_inside_the_limits_and_appear_once() {
        assert_eq!(chips(MINUTE, 30, 120), [30, 60, 120]);
        assert_eq!(chips(MINUTE, 1, 5), [5]);
        assert_eq!(chips(MINUTE, 2_000, 3_000), [2_000]);
        assert_eq!(chips(secs(86_400), 1, 30), [1]);
    }

    #[test]
    fn chips_are_rounded_to_whole_steps() {
        assert_eq!(chips(secs(420), 1, 1_000), [1, 9, 34, 206]);
        assert_eq!(chips(secs(7 * 3_600), 1, 10), [1, 3]);
    }

    #[test]
    fn limits_that_contradict_each_other_give_no_chips() {
        assert!(chips(MINUTE, 10, 5).is_empty());
        assert!(chips(MINUTE, 0, 0).is_empty());
        assert!(chips(secs(0), 1, 10).is_empty());
    }

    #[test]
    fn a_price_beyond_all_numbers_is_not_offered() {
        let mints = [OfferedMint { url: "https://m", price_per_step: Sats(u64::MAX / 100), min_steps: 1 }];
        let offer = Offer {
            step: MINUTE,
            max_steps: 1440,
            mints: mints.to_vec(),
            notices: vec![],
            unpaid_request: None,
            is_late: false,
            has_login: false,
            mpesa: None,
        };
        let (_, chips) = offer.sellable().unwrap();
        assert_eq!(chips.iter().map(|chip| chip.steps).collect::<Vec<_>>(), [10, 60]);
    }

    #[test]
    fn the_typed_number_is_named_after_the_step() {
        assert_eq!(step_name(Lang::English, MINUTE), "Minutes");
        assert_eq!(step_name(Lang::Swahili, secs(3600)), "Saa");
        assert_eq!(step_name(Lang::English, secs(90)), "× 1 minute 30 seconds");
    }
}
