//! Every state as a whole document.

mod scenes;

use super::*;
use crate::units::{Millis, Sats};
use scenes::{
    asked_phone, bought, ecash, every_state, invoice, megabytes, offer, paid, pay, secs, shillings, trouble,
    ADDRESS, LINK, TICKET, TWO_MINTS,
};

fn render(lang: Lang, state: State) -> String {
    document(lang, &Page { venue: "Kibanda Wi-Fi", lang_chosen: lang == Lang::Swahili, state })
}

fn render_all() -> Vec<(String, String)> {
    let invoice = invoice();
    let mut pages = Vec::new();
    for lang in [Lang::English, Lang::Swahili] {
        for (name, state) in every_state(&invoice) {
            pages.push((format!("{name}-{}", lang.tag()), render(lang, state)));
        }
    }
    pages
}

/// Writes every state to `target/portal-preview/`, to be looked at:
/// `cargo test --lib portal -- --ignored`, then serve that folder.
#[test]
#[ignore = "makes files for the eye"]
fn every_state_is_written_for_the_eye() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/portal-preview");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("portal.css"), STYLE.unpacked().unwrap()).unwrap();
    std::fs::write(folder.join("portal.js"), SCRIPT.unpacked().unwrap()).unwrap();
    for (name, html) in render_all() {
        std::fs::write(folder.join(format!("{name}.html")), html).unwrap();
    }
}

#[test]
fn hostile_text_is_never_markup() {
    let evil = "\"'><script>alert(1)</script>&";
    let mints = [
        OfferedMint { url: evil, price_per_step: Sats(1), min_steps: 1 },
        OfferedMint { url: evil, price_per_step: Sats(2), min_steps: 1 },
    ];
    let notices = [Notice::MintAway { url: evil }, Notice::CannotSell { code: evil }];
    let offer =
        Offer { mints: mints.to_vec(), notices: notices.to_vec(), unpaid_request: Some(evil), ..offer() };
    let pay = Pay { request_id: evil, ..pay(evil) };
    let paid = Paid {
        request_id: evil,
        amount: Sats(1),
        buys: secs(0),
        done: PaidStep::Received,
        waiting: Some(Waiting::Mint),
    };
    let trouble = Trouble {
        request_id: Some(evil),
        reason: TroubleReason::Internal,
        money: Money::LookedUp,
        code: evil,
    };
    for state in [
        State::Choose(offer.clone()),
        State::Ended(offer.clone()),
        State::PayWithCard(PayWithCard { offer: offer.clone(), open: None }),
        State::PayWithCard(PayWithCard {
            offer: Offer { notices: vec![Notice::CardSaid { reason: evil }], ..offer.clone() },
            open: Some(pay.clone()),
        }),
        State::Online(Online {
            left: Some(secs(60)),
            offer: Some(offer),
            kept: ShownTicket::Shown(evil),
            address: Some(evil),
        }),
        State::PaidAlready(PaidAlready { receipt: evil, phone: evil, notices: &[] }),
        State::Mpesa(MpesaWait { id: evil, phone_tail: evil, ..asked_phone(MpesaStep::Asked) }),
        State::Receipt(PurchaseReceipt { venue: evil, code: evil, ..bought() }),
        State::PayWithEcash(PayWithEcash {
            mints: &mints,
            token: evil,
            request: Some(evil),
            id: Some(evil),
            ..ecash(&[])
        }),
        State::Receiving(Receiving { id: evil, at: Stage::Unknown }),
        State::ShowTicket(ShowTicket { typed: evil, notices: &[] }),
        State::ShowVoucher(ShowVoucher { typed: evil, notices: &[Notice::VoucherElsewhere { venue: evil }] }),
        State::OwnTicket(OwnTicket { ticket: Some(evil), link: evil, notices: &[] }),
        State::Pay(pay),
        State::Paid(paid),
        State::Trouble(trouble),
    ] {
        let html = document(Lang::English, &Page { venue: evil, lang_chosen: true, state });
        assert!(!html.contains("<script>") && !html.contains("</script>&"), "{html}");
        assert!(!html.contains("\"'>"), "{html}");
        assert_eq!(html.matches("<script").count(), 1, "{html}");
    }
}

#[test]
fn nothing_needs_more_than_the_policy_allows() {
    for (name, html) in render_all() {
        assert!(!html.contains(" style="), "{name}");
        assert!(!html.contains("<style"), "{name}");
        assert!(!html.contains(" onclick") && !html.contains("javascript:"), "{name}");
        assert!(
            html.contains(&format!("<script src=\"/portal.js?{}\" defer></script>", SCRIPT.digest)),
            "{name}"
        );
    }
}

/// Page, style, script: everything else would be a fourth request, or go outside.
#[test]
fn the_page_makes_three_requests() {
    for (name, html) in render_all() {
        assert_eq!(html.matches(" src=").count(), 1, "{name}");
        assert_eq!(html.matches("<link ").count(), 2, "{name}");
        assert!(html.contains("<link rel=\"icon\" href=\"data:,\">"), "{name}");
        assert!(!html.contains("<img") && !html.contains("url("), "{name}");
        assert_eq!(
            html.matches("http://www.w3.org/2000/svg").count(),
            html.replace(ADDRESS, "").matches("http://").count(),
            "{name}"
        );
    }
    let style = include_str!("portal.css");
    assert!(!style.contains("url(") && !style.contains("@import"));
}

#[test]
fn the_largest_page_with_style_and_script_stays_under_60_kilobytes() {
    let longest = "a".repeat(1_800);
    let pages = every_state(&longest).into_iter().map(|(_, state)| render(Lang::Swahili, state).len());
    let total = pages.max().unwrap() + STYLE.unpacked().unwrap().len() + SCRIPT.unpacked().unwrap().len();
    assert!(total < 60_000, "{total} bytes");
}

#[test]
fn no_page_shows_an_unfilled_placeholder() {
    for (name, html) in render_all() {
        let (head, body) = html.split_once(" data-words=").unwrap();
        let shown = body.split_once('>').unwrap().1;
        assert!(!head.contains('{') && !shown.contains('{'), "{name}");
    }
}

#[test]
fn every_element_that_is_opened_is_closed() {
    const VOID: [&str; 6] = ["meta", "link", "input", "br", "path", "!doctype"];
    for (name, html) in render_all() {
        let mut open = Vec::new();
        for tag in html.split('<').skip(1) {
            let tag = tag.split('>').next().unwrap();
            let element = tag.split([' ', '\n']).next().unwrap();
            if let Some(closed) = element.strip_prefix('/') {
                assert_eq!(open.pop(), Some(closed), "{name}");
            } else if !VOID.contains(&element) {
                open.push(element);
            }
        }
        assert!(open.is_empty(), "{name}: {open:?}");
    }
}

#[test]
fn no_id_appears_twice_and_every_label_has_its_field() {
    for (name, html) in render_all() {
        let mut ids: Vec<&str> =
            html.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "{name}");
        for label in html.split(" for=\"").skip(1) {
            assert!(ids.contains(&label.split('"').next().unwrap()), "{name}");
        }
    }
}

#[test]
fn only_what_is_under_way_reloads_without_script() {
    let invoice = invoice();
    for (name, state) in every_state(&invoice) {
        let waits = match &state {
            State::Asking(_)
            | State::Pay(_)
            | State::Paid(_)
            | State::Receiving(_)
            | State::LoginCode(_)
            | State::Mpesa(_) => true,
            State::Online(online) => online.left.is_some(),
            State::Login(login) => matches!(login.at, LoginStep::Sign { .. }),
            State::Trouble(trouble) => {
                trouble.money != Money::NothingTaken || trouble.reason == TroubleReason::UnknownDevice
            }
            // What it says of a late payment comes true.
            State::Choose(offer) => offer.is_late && !offer.notices.is_empty(),
            State::Ended(_)
            | State::PayWithEcash(_)
            | State::PayWithCard(_)
            | State::ShowTicket(_)
            | State::ShowVoucher(_)
            | State::OwnTicket(_)
            | State::Receipt(_)
            | State::PaidAlready(_) => false,
        };
        let html = render(Lang::English, state);
        assert_eq!(html.contains("<noscript><meta http-equiv=\"refresh\""), waits, "{name}");
    }
}

#[test]
fn the_choice_posts_steps_and_mint() {
    let html = render(Lang::English, State::Choose(offer()));
    assert!(html.contains("method=\"post\" action=\"/pay\""));
    assert!(html.contains("name=\"mint\" value=\"https://mint.example.com\""));
    for (steps, time, price) in [
        (10, "10 minutes", "10 sat"),
        (60, "1 hour", "60 sat"),
        (240, "4 hours", "240 sat"),
        (1440, "1 day", "1,440 sat"),
    ] {
        assert!(html.contains(&format!("value=\"{steps}\"")), "{steps}");
        assert!(html.contains(&format!("<b>{time}</b>")), "{time}");
        assert!(html.contains(&format!(">{price}</span>")), "{price}");
    }
    assert!(html.contains("id=\"s1\" value=\"60\" checked>"));
    assert!(html.contains("1 sat = 1 minute"));
}

#[test]
fn a_wallet_is_shown_one_address_in_every_form_and_the_digits_go_into_a_form() {
    let sign = LoginStep::Sign { k1: "ab", lnurl: "LNURL1DP68", keyauth: "keyauth://a.example/x" };
    let asked = |at| State::Login(Login { purpose: Purpose::Keep, at, notices: &[] });
    let html = render(Lang::Swahili, asked(sign));
    for part in [
        "href=\"lightning:LNURL1DP68\"",
        "href=\"keyauth://a.example/x\"",
        "data-copies=\"lnurl\"",
        ">LNURL1DP68</textarea>",
        "href=\"/?way=keep&amp;k1=ab&amp;lang=en\"",
        "data-poll=\"2\"",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let html = render(Lang::English, asked(LoginStep::Digits { k1: "ab" }));
    assert!(html.contains("action=\"/wallet\"") && html.contains("name=\"k1\" value=\"ab\""));
    assert!(!html.contains("data-poll"), "nothing moves under the finger");
}

#[test]
fn a_price_that_depends_on_the_mint_waits_for_the_script() {
    let html = render(Lang::English, State::Choose(Offer { mints: TWO_MINTS.to_vec(), ..offer() }));
    assert!(html.contains("<span class=\"price script-only\""));
    assert!(html.contains("<small>2 sat = 1 minute, at least 30 minutes</small>"));
    let one = render(Lang::English, State::Choose(offer()));
    assert!(one.contains("<span class=\"price\""));
}

#[test]
fn where_nothing_can_be_sold_there_is_no_form() {
    let shut = [Notice::CannotSell { code: "STORE_CORRUPT" }];
    for offer in [
        Offer { mints: vec![], notices: shut.to_vec(), ..offer() },
        Offer { max_steps: 0, notices: shut.to_vec(), ..offer() },
        Offer { step: secs(0), notices: shut.to_vec(), ..offer() },
    ] {
        let html = render(Lang::English, State::Choose(offer));
        assert!(!html.contains("<form") && html.contains("STORE_CORRUPT") && html.contains("Try again"));
    }
}

#[test]
fn the_invoice_is_shown_as_code_link_and_text() {
    let invoice = invoice();
    let html = render(Lang::English, State::Pay(pay(&invoice)));
    assert_eq!(html.matches(&format!("href=\"lightning:{invoice}\"")).count(), 2);
    assert!(html.contains("<svg class=\"qr\"") && html.contains("width=\"264\""));
    assert!(html.contains(&format!(">{invoice}</textarea>")));
    assert!(html.contains("data-seconds=\"3552\">59:12<"));
    assert!(html.contains("href=\"/?choose=1&amp;r=5f0c9a7be1\""));
}

#[test]
fn an_invoice_too_long_for_a_code_can_still_be_copied_and_opened() {
    let invoice = "a".repeat(2_000);
    let html = render(Lang::English, State::Pay(pay(&invoice)));
    assert!(!html.contains("class=\"qr\""));
    assert!(html.contains(&format!(">{invoice}</textarea>")) && html.contains("id=\"wallet\""));
}

#[test]
fn the_language_switch_keeps_the_request() {
    let invoice = invoice();
    let html = render(Lang::English, State::Pay(pay(&invoice)));
    assert!(html.contains("href=\"/?r=5f0c9a7be1&amp;lang=sw\" lang=\"sw\""));
    assert!(html.contains("<html lang=\"en\">"));
}

#[test]
fn the_language_switch_keeps_the_choice_and_the_session_beside_an_open_invoice() {
    let offer = Offer { unpaid_request: Some("5f0c9a7be1"), ..offer() };
    let choice = render(Lang::English, State::Choose(offer.clone()));
    assert!(choice.contains("href=\"/?choose=1&amp;r=5f0c9a7be1&amp;lang=sw\" lang=\"sw\""));
    let notices = [Notice::InvoiceExpired { request_id: "5f0c9a7be1" }];
    let expired = render(
        Lang::English,
        State::Choose(Offer { notices: notices.to_vec(), unpaid_request: None, ..offer.clone() }),
    );
    assert!(expired.contains("href=\"/?r=5f0c9a7be1&amp;lang=sw\" lang=\"sw\""));
    let session = State::Online(Online {
        left: Some(secs(60)),
        offer: Some(offer),
        kept: ShownTicket::No,
        address: None,
    });
    assert!(render(Lang::English, session).contains("href=\"/?lang=sw\" lang=\"sw\""));
}

#[test]
fn a_chosen_language_is_carried_on_by_links_and_forms() {
    let invoice = invoice();
    let choice =
        render(Lang::Swahili, State::Choose(Offer { unpaid_request: Some("5f0c9a7be1"), ..offer() }));
    assert!(choice.contains("name=\"lang\" value=\"sw\""));
    assert!(choice.contains("href=\"/?r=5f0c9a7be1&amp;lang=sw\""));
    let payment = render(Lang::Swahili, State::Pay(pay(&invoice)));
    assert!(payment.contains("href=\"/?choose=1&amp;r=5f0c9a7be1&amp;lang=sw\""));
    let trouble = render(Lang::Swahili, trouble(TroubleReason::PaymentFailed, Money::NothingTaken));
    assert!(trouble.contains("id=\"again\" href=\"/?lang=sw\""));
    assert!(!render(Lang::English, State::Choose(offer())).contains("name=\"lang\""));
}

#[test]
fn a_step_that_takes_long_says_what_it_waits_for_and_that_the_money_is_safe() {
    let html = render(Lang::English, paid(PaidStep::Received, Some(Waiting::Mint)));
    assert!(html.contains("Waiting for the payment service’s answer. Your money is safe."));
    assert_eq!(html.matches("<li class=\"done\">").count(), 1);
    assert_eq!(html.matches("<li class=\"now\"").count(), 1);
    let done = render(Lang::English, paid(PaidStep::Online, None));
    assert_eq!(done.matches("<li class=\"done\">").count(), 3);
}

#[test]
fn the_script_redraws_when_a_payment_gets_on_or_stalls() {
    let step =
        |html: String| html.split(" data-step=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let received = step(render(Lang::English, paid(PaidStep::Received, None)));
    let stalled = step(render(Lang::English, paid(PaidStep::Received, Some(Waiting::Mint))));
    let claimed = step(render(Lang::English, paid(PaidStep::Claimed, None)));
    assert!(received != stalled && received != claimed && stalled != claimed);
}

#[test]
fn trouble_always_says_what_became_of_the_money_and_shows_the_code() {
    for (money, text) in [
        (Money::NothingTaken, "Nothing was taken."),
        (Money::LookedUp, "Your payment is being looked up."),
        (Money::WillOpen, "Paid: it will open by itself."),
    ] {
        let html = render(Lang::English, trouble(TroubleReason::Internal, money));
        assert!(html.contains(text) && html.contains("<code>k3f9-22</code>"));
    }
}

#[test]
fn status_is_in_a_live_region_outside_of_what_is_replaced() {
    for (name, html) in render_all() {
        let (before, _) = html.split_once("<main ").unwrap();
        assert!(before.contains("role=\"status\" aria-live=\"polite\""), "{name}");
    }
}

#[test]
fn a_location_carries_request_and_language() {
    assert_eq!(location(None, None), "/");
    assert_eq!(location(Some("a b&c"), None), "/?r=a%20b%26c");
    assert_eq!(location(Some("x1"), Some(Lang::Swahili)), "/?r=x1&lang=sw");
}

#[test]
fn a_guest_by_bytes_sees_bytes_and_no_clock() {
    let by_data = || Offer { step: megabytes(1), max_steps: 10_000, ..offer() };
    let online = State::Online(Online {
        left: Some(megabytes(843)),
        offer: Some(by_data()),
        kept: ShownTicket::No,
        address: None,
    });
    let shown = |lang, state| document(lang, &Page { venue: "v", lang_chosen: false, state });
    let html = shown(Lang::English, online);
    assert!(html.contains("Data left") && html.contains("data-live>843 MB<") && html.contains("Add data"));
    assert!(!html.contains("data-seconds") && !html.contains("data-ends"), "{html}");
    let html = shown(Lang::English, State::Choose(by_data()));
    assert!(
        html.contains("How much data?") && html.contains("<b>500 MB</b>") && html.contains("1 sat = 1 MB")
    );
    assert!(html.contains("data-step=\"1000000\" data-metric=\"bytes\""));
    let html = shown(Lang::Swahili, State::Ended(by_data()));
    assert!(html.contains("Data yako imekwisha") && html.contains("<b>MB 500</b>"));
}

#[test]
fn a_ticket_is_shown_as_text_and_as_a_code_and_can_be_made_anew() {
    let html =
        render(Lang::English, State::OwnTicket(OwnTicket { ticket: Some(TICKET), link: LINK, notices: &[] }));
    assert!(html.contains(&format!(">{TICKET}</textarea>")) && html.contains("<svg class=\"qr\""));
    assert!(html.contains("data-copies=\"own-ticket\"") && html.contains("name=\"new\" value=\"1\""));
    let unknown =
        render(Lang::English, State::OwnTicket(OwnTicket { ticket: None, link: LINK, notices: &[] }));
    assert!(!unknown.contains("<svg class=\"qr\"") && unknown.contains("Make a new ticket"));
}

#[test]
fn waits_are_told_in_whole_seconds_and_never_too_short() {
    let notices = [Notice::TicketInUse { wait: Millis(29_001) }];
    let html = render(Lang::English, State::ShowTicket(ShowTicket { typed: TICKET, notices: &notices }));
    assert!(html.contains("try again in 30 seconds") && html.contains(&format!(">{TICKET}</textarea>")));
}

#[test]
fn the_other_ways_stand_below_the_choice_and_carry_the_language() {
    let html = render(Lang::Swahili, State::Choose(offer()));
    assert!(
        html.contains("href=\"/?way=ecash&amp;lang=sw\"")
            && html.contains("href=\"/?way=ticket&amp;lang=sw\"")
    );
    let shut = render(Lang::English, State::Choose(Offer { mints: vec![], ..offer() }));
    assert!(!shut.contains("way=ecash") && shut.contains("href=\"/?way=ticket\""));
    let form = render(Lang::Swahili, State::ShowTicket(ShowTicket { typed: "", notices: &[] }));
    assert!(
        form.contains("name=\"lang\" value=\"sw\"") && form.contains("href=\"/?way=ticket&amp;lang=en\"")
    );
}

#[test]
fn a_grace_to_pay_in_is_told_with_what_is_left_of_it_and_redrawn_when_it_ends() {
    let invoice = invoice();
    let with =
        render(Lang::English, State::Pay(Pay { grace: Some(Millis::from_secs(173)), ..pay(&invoice) }));
    assert!(
        with.contains("a little slow internet for <span class=\"clock\" data-seconds=\"173\">2:53</span>.")
    );
    let without = render(Lang::English, State::Pay(pay(&invoice)));
    assert!(!without.contains("slow internet"));
    let step = |html: &str| html.split(" data-step=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert_ne!(step(&with), step(&without));
}

#[test]
fn who_has_paid_reads_how_to_come_back() {
    let html = render(
        Lang::English,
        State::Online(Online {
            left: Some(secs(3_545)),
            offer: Some(offer()),
            kept: ShownTicket::No,
            address: Some(ADDRESS),
        }),
    );
    assert!(html.contains("To come back to it, open <b dir=\"ltr\">http://wifi.kibanda/</b>"));
    assert!(html.contains("href=\"/?way=receipt\""));
}

#[test]
fn the_end_is_announced_five_minutes_and_one_minute_before_and_nothing_is_redrawn_for_it() {
    let shown = |left| {
        let (kept, address) = (ShownTicket::No, None);
        render(Lang::English, State::Online(Online { left, offer: Some(offer()), kept, address }))
    };
    let step = |html: &str| html.split(" data-step=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    for (left, said) in [
        (301, "You are online"),
        (300, "Less than 5 minutes left"),
        (61, "Less than 5 minutes left"),
        (60, "Less than 1 minute left"),
        (0, "Less than 1 minute left"),
    ] {
        let html = shown(Some(secs(left)));
        assert!(html.contains(&format!("<title>{said} · Kibanda Wi-Fi</title>")), "{left}");
        assert!(html.contains(&format!(" data-say=\"{said}\"")), "{left}");
        assert_eq!(
            html.contains(&format!("<p class=\"ending\" data-live>{said}</p>")),
            left <= 300,
            "{left}"
        );
        assert_eq!(step(&html), step(&shown(Some(secs(3600)))), "{left}");
    }
    assert!(!shown(Some(megabytes(1))).contains("Less than"));
}

#[test]
fn a_wallet_on_the_phone_is_said_to_need_data_of_its_own_unless_there_is_a_grace() {
    let invoice = invoice();
    let needs = |pay| render(Lang::English, State::Pay(pay)).contains("needs mobile data of its own");
    assert!(needs(pay(&invoice)));
    assert!(!needs(Pay { grace: Some(Millis::from_secs(173)), ..pay(&invoice) }));
    assert!(!needs(Pay { online: true, ..pay(&invoice) }));
}

#[test]
fn an_invoice_that_may_still_be_paid_late_is_never_said_to_have_cost_nothing() {
    let notices = vec![Notice::InvoiceLate { request_id: "5f0c9a7be1" }];
    let html = render(Lang::English, State::Choose(Offer { notices, is_late: true, ..offer() }));
    assert!(html.contains("do not pay again") && !html.contains("othing was taken"));
    assert!(html.contains(" data-poll=\"20\"") && html.contains("http-equiv=\"refresh\" content=\"60\""));
}

#[test]
fn a_device_that_is_not_known_yet_is_looked_for_again_after_two_seconds() {
    let html = render(Lang::English, trouble(TroubleReason::UnknownDevice, Money::NothingTaken));
    assert!(html.contains(" data-poll=\"2\"") && html.contains("http-equiv=\"refresh\" content=\"2\""));
}

#[test]
fn who_has_never_paid_so_finds_folded_how_it_is_done() {
    let invoice = invoice();
    for state in [State::Choose(offer()), State::Ended(offer()), State::Pay(pay(&invoice))] {
        let html = render(Lang::English, state);
        assert!(html.contains("<details class=\"how\"><summary class=\"quiet\">How do I pay?</summary>"));
    }
}

#[test]
fn paying_with_shillings_adds_less_than_6_kb_to_a_page() {
    for lang in [Lang::English, Lang::Swahili] {
        let size = |mpesa| render(lang, State::Choose(Offer { mpesa, ..offer() })).len();
        let added = size(Some(shillings())).saturating_sub(size(None));
        assert!((500..6 * 1024).contains(&added), "{added}");
    }
}
