//! What a sale leaves in the store.

use super::*;
use crate::config::{Metric, MintUrl};
use crate::mac::MacAddr;
use crate::store::PurseName;
use crate::store::{AccountKey, Admission, Reference};
use crate::store::{
    Begun, InvoiceRow, NewGrant, NewOp, NewPart, NewProofs, NewRequest, OpKind, Owner, PartState, RequestId,
    RequestRow, SessionRow, TakeOver, Ticket, TokenForm, Tokens,
};

const KEYSET: &str = "00aabbccddeeff00";
const TOKEN: &str = "cashuBo2FteBhodHRwczovL21pbnQ";

pub struct Shop {
    pub dir: Scratch,
    pub clock: Clock,
    pub store: Store,
}

pub fn mac(last: u16) -> MacAddr {
    let [high, low] = last.to_be_bytes();
    MacAddr::new([2, 0, 0, 0, high, low]).unwrap()
}

pub fn mint(number: usize) -> MintUrl {
    MintUrl::parse(&format!("https://mint{number}.example")).unwrap()
}

impl Shop {
    pub fn new() -> Shop {
        let (dir, clock) = (Scratch::new(), clock());
        let store = Store::open(dir.path(), &clock).unwrap();
        Shop { dir, clock, store }
    }

    /// A request with as many parts, each at a mint of its own, with its invoices.
    pub async fn asked(&self, guest: u16, owner: Owner, parts: usize) -> RequestRow {
        let part = |number| NewPart {
            mint: mint(number),
            amount: Sats(21),
            metric: Metric::Milliseconds,
            allotment: Allotment(60_000),
            keyset: KEYSET.to_owned(),
            amounts: vec![1, 4, 16],
        };
        let request = NewRequest {
            id: RequestId::random().unwrap(),
            mac: mac(guest),
            venue: "guest".to_owned(),
            owner,
            form: TokenForm::default(),
            parts: (0..parts).map(part).collect(),
        };
        let row = self.store.begin(request).await.unwrap();
        let quote = RequestId::random().unwrap();
        let answer = |number: usize| InvoiceRow {
            quote: format!("{quote}-{number}"),
            invoice: format!("lnbc210n1{}", "p5x7".repeat(85)),
            expires_at: UnixSeconds(1_800_003_600),
            due: Millis::from_secs(3600),
        };
        let answers = row.parts.iter().enumerate().map(|(number, part)| (part.id, answer(number))).collect();
        self.store.invoiced(answers).await.unwrap();
        row
    }

    /// The invoice of a part was paid.
    pub async fn claim(&self, row: &RequestRow, index: usize) -> Option<SessionRow> {
        let part = &row.parts[index];
        self.store.paid(part.id);
        let (tokens, grant) = match row.owner {
            Owner::Guest => (Tokens::Guest(TOKEN.to_owned()), None),
            Owner::House => {
                let first = part.outputs[0].counter;
                let proofs = [1, 4, 16].into_iter().zip(first..);
                let proofs = proofs.map(|(amount, counter)| (counter, Sats(amount), vec![2; 33])).collect();
                let (mint, keyset) = (part.mint.clone(), KEYSET.to_owned());
                let grant = NewGrant {
                    reference: Reference::Invoice(row.id.clone(), part.position),
                    mac: row.mac,
                    venue: row.venue.clone(),
                    amount: part.amount.into(),
                    metric: part.metric,
                    allotment: part.allotment,
                    value: part.amount.into(),
                    mint: Some(part.mint.clone()),
                };
                (Tokens::House(NewProofs { mint, keyset, proofs }), Some(grant))
            }
        };
        self.store.claimed(part.id, tokens, grant).await.unwrap().map(Admission::into_row)
    }

    pub async fn sell(&self, guest: u16) -> (RequestRow, Option<Ticket>) {
        let row = self.asked(guest, Owner::House, 1).await;
        let session = self.claim(&row, 0).await.unwrap();
        (row, session.ticket)
    }

    pub async fn count(&self, what: &'static str) -> i64 {
        let query = format!("SELECT COUNT(*) FROM {what}");
        self.store.read(move |db| Ok(db.query_row(&query, [], |row| row.get(0))?)).await.unwrap()
    }

    /// Bytes of the database that hold something.
    async fn used(&self) -> u64 {
        let pages = "SELECT (SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count)";
        let pages: Result<u32, _> =
            self.store.read(move |db| Ok(db.query_row(pages, [], |row| row.get(0))?)).await;
        u64::from(pages.unwrap()) * 1024
    }

    /// Whether any file of the store holds this text.
    pub fn tells(&self, text: &str) -> bool {
        ["store.db", "store.db-wal"].iter().any(|name| {
            let bytes = fs::read(self.dir.file(name)).unwrap_or_default();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        })
    }
}

/// A sale with its request left 1,400 bytes of a new guest and 1,200 of one that was here before; where an invoice
/// took a page of its own, 2,200.
#[tokio::test]
async fn five_hundred_sales_leave_less_than_650_bytes_each() {
    let shop = Shop::new();
    // As many as before, of guests who are new, and some invoices open at any time.
    let mut open = std::collections::VecDeque::new();
    for guest in 0..20 {
        open.push_back(shop.asked(guest, Owner::House, 1).await);
    }
    let before = shop.used().await;
    for guest in 20..520 {
        open.push_back(shop.asked(guest, Owner::House, 1).await);
        shop.claim(&open.pop_front().unwrap(), 0).await.unwrap();
    }
    let each = (shop.used().await - before) / 500;
    assert!(each < 650, "{each} bytes");
    let mut known = shop.used().await;
    for guest in 20..520 {
        open.push_back(shop.asked(guest, Owner::House, 1).await);
        shop.claim(&open.pop_front().unwrap(), 0).await.unwrap();
    }
    known = (shop.used().await - known) / 500;
    assert!(known < 380, "{known} bytes of a guest who was here before");
    assert_eq!(shop.count("requests").await, 20);
    assert_eq!(shop.count("parts").await, 20);
    assert_eq!(shop.store.sales_since(UnixSeconds(0)).await.unwrap().count, 1000);
}

#[tokio::test]
async fn settled_sale_is_still_answered_for() {
    let shop = Shop::new();
    let (row, _) = shop.sell(1).await;
    let known = shop.store.request(&row.id).await.unwrap().unwrap();
    assert_eq!((known.mac, known.owner, known.venue.as_str()), (mac(1), Owner::House, "guest"));
    let [part] = known.parts.as_slice() else { panic!("{known:?}") };
    assert_eq!((part.state, part.position, part.amount), (PartState::Claimed, 0, Sats(21)));
    assert_eq!((&part.mint, part.allotment), (&mint(0), Allotment(60_000)));
    assert!(shop.store.request(&RequestId::random().unwrap()).await.unwrap().is_none());
    assert_eq!(shop.store.open_requests(usize::MAX).await.unwrap().len(), 0);
}

#[tokio::test]
async fn settled_sale_goes_with_its_guests_account() {
    let shop = Shop::new();
    let (row, ticket) = shop.sell(1).await;
    let taken =
        shop.store.attach(&AccountKey::Ticket(ticket.unwrap()), tickets::in_place_of(1, 2)).await.unwrap();
    assert!(matches!(taken, TakeOver::Done(_)));
    assert_eq!(shop.store.request(&row.id).await.unwrap().unwrap().mac, mac(2));
}

#[tokio::test]
async fn request_of_two_parts_is_settled_with_the_second_and_keeps_their_mints() {
    let shop = Shop::new();
    let row = shop.asked(1, Owner::House, 2).await;
    shop.claim(&row, 1).await.unwrap();
    let states = |row: &RequestRow| row.parts.iter().map(|part| part.state).collect::<Vec<_>>();
    let half = shop.store.request(&row.id).await.unwrap().unwrap();
    assert_eq!(states(&half), [PartState::Unpaid, PartState::Claimed]);
    assert!(half.parts[0].invoice.is_some() && half.parts[1].invoice.is_none());
    shop.claim(&row, 0).await.unwrap();
    assert_eq!(shop.count("parts").await, 0);
    let whole = shop.store.request(&row.id).await.unwrap().unwrap();
    assert_eq!(states(&whole), [PartState::Claimed; 2]);
    let mints: Vec<_> = whole.parts.iter().map(|part| part.mint.clone()).collect();
    assert_eq!(mints, [mint(0), mint(1)]);
}

#[tokio::test]
async fn sale_that_is_settled_again_changes_nothing_and_its_number_stays_its_own() {
    let shop = Shop::new();
    let (sold, _) = shop.sell(1).await;
    let other = shop.asked(2, Owner::House, 1).await;
    assert_ne!(sold.parts[0].id, other.parts[0].id);
    let again = shop.claim(&sold, 0).await.unwrap();
    assert_eq!((again.mac, again.allotment), (mac(1), Allotment(60_000)));
    assert_eq!(shop.store.request(&other.id).await.unwrap().unwrap().parts[0].state, PartState::Unpaid);
    assert_eq!(shop.store.sales_since(UnixSeconds(0)).await.unwrap().count, 1);
}

#[tokio::test]
async fn tokens_of_a_guest_stay_without_invoice_and_outputs() {
    let shop = Shop::new();
    let row = shop.asked(1, Owner::Guest, 1).await;
    shop.claim(&row, 0).await;
    let known = shop.store.request(&row.id).await.unwrap().unwrap();
    assert_eq!(known.parts[0].token.as_deref(), Some(TOKEN));
    assert!(known.parts[0].invoice.is_none() && known.parts[0].outputs.is_empty());
}

#[tokio::test]
async fn whoever_paid_in_the_last_hour_counts_as_having_asked() {
    let shop = Shop::new();
    shop.sell(1).await;
    shop.asked(2, Owner::House, 1).await;
    let asked = shop.store.asked_after(Millis::ZERO).await.unwrap();
    assert_eq!(asked.iter().map(|(mac, _)| *mac).collect::<Vec<_>>(), [mac(1), mac(2)]);
    shop.clock.advance(Millis::from_secs(3600));
    assert_eq!(shop.store.asked_after(shop.store.now()).await.unwrap(), []);
}

// Tokens

#[tokio::test]
async fn copy_of_the_store_without_its_key_shows_no_token() {
    let shop = Shop::new();
    let row = shop.asked(1, Owner::Guest, 1).await;
    shop.claim(&row, 0).await;
    let op = NewOp {
        reference: Some(Reference::read("token:1")),
        token: Some(TOKEN.to_owned()),
        ..NewOp::new(OpKind::Receive, PurseName::House, mint(0), Sats(5))
    };
    shop.store.op_begin(op).await.map(drop).unwrap();
    assert!(shop.tells("mint0.example") && !shop.tells("cashu"), "in the log");
    let (open, waiting) =
        (shop.store.open_ops(PurseName::House).await.unwrap(), shop.store.request(&row.id).await.unwrap());
    assert_eq!(open[0].token.as_deref(), Some(TOKEN));
    assert_eq!(waiting.unwrap().parts[0].token.as_deref(), Some(TOKEN));
    shop.store.clone().close().await;
    assert!(shop.tells("mint0.example") && !shop.tells("cashu"), "in the database");

    let kept = fs::read(shop.dir.file("tokens.key")).unwrap();
    for wrong in [None, Some([7; 32])] {
        fs::remove_file(shop.dir.file("tokens.key")).unwrap();
        if let Some(wrong) = wrong {
            fs::write(shop.dir.file("tokens.key"), wrong).unwrap();
        } else {
            let store = Store::open(shop.dir.path(), &shop.clock).unwrap();
            assert_eq!(store.catch_up().await.unwrap_err().code(), "KEY_MISSING");
            assert_eq!(store.open_ops(PurseName::House).await.unwrap_err().code(), "KEY_MISSING");
            store.close().await;
            fs::write(shop.dir.file("tokens.key"), &kept).unwrap();
            continue;
        }
        let store = Store::open(shop.dir.path(), &shop.clock).unwrap();
        assert_eq!(store.catch_up().await.unwrap_err().code(), "KEY_MISSING");
        store.close().await;
    }
    fs::write(shop.dir.file("tokens.key"), kept).unwrap();
    let store = Store::open(shop.dir.path(), &shop.clock).unwrap();
    assert_eq!(store.open_ops(PurseName::House).await.unwrap()[0].token.as_deref(), Some(TOKEN));
}

#[tokio::test]
async fn token_that_was_put_into_another_row_is_not_opened() {
    let shop = Shop::new();
    let (one, two) = (shop.asked(1, Owner::Guest, 1).await, shop.asked(2, Owner::Guest, 1).await);
    shop.claim(&one, 0).await;
    shop.claim(&two, 0).await;
    let swap = "UPDATE parts SET sealed = (SELECT sealed FROM parts WHERE id = ?1) WHERE id = ?2";
    let ids = (one.parts[0].id, two.parts[0].id);
    shop.store.write(move |tx| Ok(tx.execute(swap, ids)?)).await.unwrap();
    assert!(shop.store.request(&one.id).await.is_ok());
    assert!(matches!(shop.store.request(&two.id).await, Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn number_of_an_operation_that_is_over_is_never_given_to_another() {
    let shop = Shop::new();
    let begin = || async {
        let op = NewOp::new(OpKind::Receive, PurseName::House, mint(0), Sats(1));
        match shop.store.op_begin(op).await.unwrap() {
            Begun::New(op) => op.id,
            Begun::Known(_) | Begun::Full => panic!("not a new one"),
        }
    };
    let first = begin().await;
    shop.store.op_failed(first, Vec::new(), String::new()).await.unwrap();
    let second = begin().await;
    assert!(second > first);
    // A look that began before the first was over.
    shop.store.op_done(first, None, None).await.unwrap();
    assert_eq!(
        shop.store.open_ops(PurseName::House).await.unwrap().iter().map(|op| op.id).collect::<Vec<_>>(),
        [second]
    );
}
