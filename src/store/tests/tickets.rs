use super::*;
use crate::config::{Metric, MintUrl};
use crate::mac::MacAddr;
use crate::store::Reference;
use crate::store::{
    AccountKey, Begun, InvoiceRow, Known, MoveRules, NewDevice, NewGrant, NewOp, NewPart, NewRequest, OpKind,
    Owner, PurseName, RequestId, RequestRow, SessionRow, ShownAt, TakeOver, Ticket, TokenForm, Tokens,
    VenuePrice,
};

const MINUTE: u64 = 60_000;
const MIB: u64 = 1 << 20;

fn mac(last: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, last]).unwrap()
}

struct Books {
    dir: Scratch,
    clock: Clock,
    store: Store,
}

impl Books {
    fn new() -> Books {
        let (dir, clock) = (Scratch::new(), clock());
        let store = Store::open(dir.path(), &clock).unwrap();
        Books { dir, clock, store }
    }

    async fn grant(&self, guest: u8, metric: Metric, allotment: u64) -> SessionRow {
        let reference = Reference::Operator(RequestId::random().unwrap());
        let allotment = Allotment(allotment);
        let venue = "guest".to_owned();
        let (value, mint) = (Sats(1), None);
        let grant = NewGrant {
            reference,
            mac: mac(guest),
            venue,
            amount: Sats(1).into(),
            metric,
            allotment,
            value: value.into(),
            mint,
        };
        self.store.grant(grant).await.unwrap().into_row()
    }

    /// A minute for this guest; its new ticket.
    async fn minute(&self, guest: u8) -> Ticket {
        self.grant(guest, Metric::Milliseconds, MINUTE).await.ticket.unwrap()
    }

    async fn take_over(&self, ticket: &Ticket, from: u8, to: u8) -> TakeOver {
        self.store.attach(&AccountKey::Ticket(ticket.clone()), in_place_of(from, to)).await.unwrap()
    }

    async fn holder(&self, ticket: &Ticket) -> Option<MacAddr> {
        holder(&self.store, ticket).await
    }

    async fn running(&self) -> Vec<SessionRow> {
        self.store.sessions_ending_after(self.store.now()).await.unwrap()
    }

    async fn request(&self, guest: u8, owner: Owner) -> RequestRow {
        let part = NewPart {
            mint: MintUrl::parse("https://mint.example").unwrap(),
            amount: Sats(5),
            metric: Metric::Milliseconds,
            allotment: Allotment(MINUTE),
            keyset: "00aabbccddeeff00".to_owned(),
            amounts: vec![1, 4],
        };
        let (id, venue) = (RequestId::random().unwrap(), "guest".to_owned());
        let form = TokenForm::default();
        let new = NewRequest { id: id.clone(), mac: mac(guest), venue, owner, form, parts: vec![part] };
        let row = self.store.begin(new).await.unwrap();
        let answer = InvoiceRow {
            quote: id.to_string(),
            invoice: "lnbc1".to_owned(),
            expires_at: UnixSeconds(0),
            due: Millis(MINUTE),
        };
        self.store.invoiced(vec![(row.parts[0].id, answer)]).await.unwrap();
        row
    }
}

/// The device to which the account of a ticket is attached.
pub(super) async fn holder(store: &Store, ticket: &Ticket) -> Option<MacAddr> {
    let account = store.account(&AccountKey::Ticket(ticket.clone()), mac(0)).await.unwrap();
    account.map(|account| account.devices[0])
}

/// One device goes, another comes.
pub(super) fn in_place_of(from: u8, to: u8) -> NewDevice {
    let (leaving, at) = (vec![mac(from)], shown_at("guest", true));
    NewDevice { mac: mac(to), leaving, at, rules: MoveRules::default() }
}

/// A venue that sells minutes for a sat each.
pub(super) fn shown_at(venue: &str, is_wish: bool) -> ShownAt {
    let mint = MintUrl::parse("https://mint.example").unwrap();
    let price = VenuePrice {
        venue: venue.to_owned(),
        metric: Metric::Milliseconds,
        step: Allotment(MINUTE),
        per_step: vec![(mint, Sats(1))],
        strangers: Vec::new(),
    };
    ShownAt { price, is_wish }
}

fn done(outcome: TakeOver) -> Vec<SessionRow> {
    match outcome {
        TakeOver::Done(moved) => moved.rows,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_first_payment_makes_a_ticket_and_the_next_ones_keep_it() {
    let books = Books::new();
    let ticket = books.minute(1).await;
    assert_eq!(books.grant(1, Metric::Milliseconds, MINUTE).await.ticket, None);
    assert_eq!(books.grant(1, Metric::Bytes, MIB).await.ticket, None);
    assert_eq!(books.holder(&ticket).await, Some(mac(1)));
    assert!(books.store.has_ticket(mac(1)).await.unwrap() && !books.store.has_ticket(mac(2)).await.unwrap());
}

#[tokio::test]
async fn what_the_operator_gives_away_leaves_the_ticket_to_the_first_payment() {
    let books = Books::new();
    let grant = NewGrant {
        reference: Reference::read("operator"),
        mac: mac(1),
        venue: "guest".to_owned(),
        amount: Sats(0).into(),
        metric: Metric::Milliseconds,
        allotment: Allotment(MINUTE),
        value: Sats(0).into(),
        mint: None,
    };
    assert_eq!(books.store.grant(grant).await.unwrap().ticket, None);
    assert!(books.grant(1, Metric::Milliseconds, MINUTE).await.ticket.is_some());
}

#[tokio::test]
async fn no_ticket_is_readable_in_the_files() {
    let books = Books::new();
    let ticket = books.minute(1).await;
    books.store.clone().close().await;
    let bits: u128 =
        ticket.to_string().replace('-', "").chars().take(25).fold(0, |bits, digit| {
            bits << 5 | "0123456789abcdefghjkmnpqrstvwxyz".find(digit).unwrap() as u128
        });
    let raw = (bits << 3).to_be_bytes();
    for name in books.dir.names() {
        let bytes = fs::read(books.dir.file(&name)).unwrap();
        assert!(!bytes.windows(15).any(|window| window == &raw[..15]), "{name}");
        let text = ticket.to_string();
        assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{name}");
    }
}

#[tokio::test]
async fn a_new_ticket_voids_the_old_one_and_only_who_paid_gets_one() {
    let books = Books::new();
    let old = books.minute(1).await;
    let new = books.store.renew_ticket(mac(1)).await.unwrap().unwrap();
    assert_eq!(books.holder(&old).await, None);
    assert_eq!(books.holder(&new).await, Some(mac(1)));
    assert_eq!(books.take_over(&old, 1, 2).await, TakeOver::Changed);
    assert_eq!(books.store.renew_ticket(mac(2)).await.unwrap(), None);
    books.request(2, Owner::Guest).await;
    assert_eq!(books.store.renew_ticket(mac(2)).await.unwrap(), None, "an unpaid invoice is nothing");
}

#[tokio::test]
async fn who_has_paid_for_tokens_only_gets_a_ticket_that_moves_them() {
    let books = Books::new();
    let request = books.request(1, Owner::Guest).await;
    books.store.claimed(request.parts[0].id, Tokens::Guest("cashuB".to_owned()), None).await.unwrap();
    let ticket = books.store.renew_ticket(mac(1)).await.unwrap().unwrap();
    assert_eq!(done(books.take_over(&ticket, 1, 2).await), []);
    assert_eq!(books.store.undelivered(Some(mac(2))).await.unwrap(), [request.id]);
    assert!(books.store.undelivered(Some(mac(1))).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_token_that_its_mint_takes_after_the_move_is_for_the_device_that_has_come() {
    let books = Books::new();
    let ticket = books.minute(1).await;
    let [theirs, others] = [(1, "token:1"), (3, "token:3")].map(|(guest, reference)| NewGrant {
        reference: Reference::read(reference),
        mac: mac(guest),
        venue: "guest".to_owned(),
        amount: Sats(1).into(),
        metric: Metric::Milliseconds,
        allotment: Allotment(MINUTE),
        value: Sats(1).into(),
        mint: None,
    });
    let begin = |grant: &NewGrant| {
        let mint = MintUrl::parse("https://mint.example").unwrap();
        books.store.op_begin(NewOp {
            reference: Some(grant.reference.clone()),
            grant: Some(grant.clone()),
            ..NewOp::new(OpKind::Receive, PurseName::House, mint, Sats(1))
        })
    };
    let (theirs, others) = (begin(&theirs).await.unwrap(), begin(&others).await.unwrap());
    let (Begun::New(theirs), Begun::New(others)) = (theirs, others) else { panic!("new ones") };
    done(books.take_over(&ticket, 1, 2).await);
    let session = books.store.op_done(theirs.id, None, None).await.unwrap().unwrap();
    assert_eq!((session.mac, session.allotment), (mac(2), Allotment(2 * MINUTE)));
    let again = books.store.op_known(Reference::read("token:1")).await.unwrap();
    let Some(Known::Done { session: Some(again), .. }) = again else { panic!("it is granted") };
    assert_eq!(again.mac, mac(2), "who posts it again is told so");
    assert_eq!(books.store.op_done(others.id, None, None).await.unwrap().unwrap().mac, mac(3));
}

#[tokio::test]
async fn the_remainder_moves_and_the_old_mac_has_nothing_left() {
    let books = Books::new();
    let ticket = books.minute(1).await;
    books.clock.advance(Millis(20_000));
    let [session] = &done(books.take_over(&ticket, 1, 2).await)[..] else { panic!("one session") };
    assert_eq!((session.mac, session.allotment), (mac(2), Allotment(MINUTE)));
    assert_eq!(session.ends.saturating_sub(books.store.now()), Millis(40_000));
    assert_eq!(books.running().await, std::slice::from_ref(session));
    let anew = books.grant(1, Metric::Milliseconds, 1000).await;
    assert!(anew.account != session.account && anew.ticket.is_some());
    let topped_up = books.grant(2, Metric::Milliseconds, 1000).await;
    assert_eq!((topped_up.account, topped_up.allotment), (session.account, Allotment(MINUTE + 1000)));
}

#[tokio::test]
async fn of_fifty_at_once_exactly_one_takes_it() {
    let books = Books::new();
    let ticket = books.minute(1).await;
    let attempts = (2..52).map(|guest| books.take_over(&ticket, 1, guest));
    let outcomes = futures_util::future::join_all(attempts).await;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, TakeOver::Done(_))).count(), 1);
    assert_eq!(books.running().await.len(), 1);
}

#[tokio::test]
async fn an_account_that_has_just_moved_stays_for_a_minute() {
    let books = Books::new();
    let ticket = books.minute(1).await;
    books.clock.advance(Millis(1000));
    done(books.take_over(&ticket, 1, 2).await);
    assert_eq!(books.take_over(&ticket, 2, 3).await, TakeOver::TooSoon(MoveRules::default().cooldown));
    books.clock.advance(MoveRules::default().cooldown);
    done(books.take_over(&ticket, 2, 3).await);
    assert_eq!(books.take_over(&ticket, 2, 1).await, TakeOver::Changed, "it is not there any more");
}

#[tokio::test]
async fn what_the_new_mac_has_paid_is_added() {
    let books = Books::new();
    let ticket = books.minute(1).await;
    let void = books.minute(2).await;
    books.grant(2, Metric::Bytes, MIB).await;
    books.clock.advance(Millis(10_000));
    let sessions = done(books.take_over(&ticket, 1, 2).await);
    let [bytes, time] = &sessions[..] else { panic!("{sessions:?}") };
    assert_eq!((time.allotment, time.mac, bytes.allotment), (Allotment(2 * MINUTE), mac(2), Allotment(MIB)));
    assert_eq!(time.ends.saturating_sub(books.store.now()), Millis(100_000));
    assert_eq!(books.running().await.len(), 2);
    assert_eq!(books.holder(&void).await, None);
    assert_eq!(books.holder(&ticket).await, Some(mac(2)));
    assert!(books.grant(2, Metric::Milliseconds, 1).await.revision > time.revision);
}

#[tokio::test]
async fn over_sessions_add_nothing_and_take_nothing() {
    let books = Books::new();
    let ticket = books.minute(1).await;
    books.clock.advance(Millis(MINUTE));
    books.minute(2).await;
    let [session] = &done(books.take_over(&ticket, 1, 2).await)[..] else { panic!() };
    assert_eq!(session.allotment, Allotment(MINUTE));
    assert_eq!(session.ends.saturating_sub(books.store.now()), Millis(MINUTE));

    let later = books.minute(3).await;
    books.clock.advance(Millis(MINUTE));
    books.minute(4).await;
    books.clock.advance(Millis(MINUTE));
    done(books.take_over(&later, 3, 4).await);
    assert!(books.running().await.is_empty());
}

#[tokio::test]
async fn a_payment_that_arrives_after_the_move_goes_where_the_account_went() {
    let books = Books::new();
    let ticket = books.minute(1).await;
    let request = books.request(1, Owner::House).await;
    done(books.take_over(&ticket, 1, 2).await);
    let grant = NewGrant {
        reference: Reference::read("r"),
        mac: mac(1),
        venue: "guest".to_owned(),
        amount: Sats(5).into(),
        metric: Metric::Milliseconds,
        allotment: Allotment(MINUTE),
        value: Sats(5).into(),
        mint: None,
    };
    let session =
        books.store.claimed(request.parts[0].id, Tokens::Guest("cashuB".to_owned()), Some(grant)).await;
    let session = session.unwrap().unwrap();
    assert_eq!((session.mac, session.allotment), (mac(2), Allotment(2 * MINUTE)));
}

#[tokio::test]
async fn a_move_survives_a_power_cut_whole() {
    let books = Books::new();
    let ticket = books.minute(1).await;
    let sessions = done(books.take_over(&ticket, 1, 2).await);
    let after = books.dir.as_after_power_cut();
    let restarted = Store::open(after.path(), &books.clock).unwrap();
    assert_eq!(restarted.sessions_ending_after(restarted.now()).await.unwrap(), sessions);
    assert_eq!(holder(&restarted, &ticket).await, Some(mac(2)));
}
