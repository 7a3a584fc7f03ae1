use super::*;
use crate::config::{Metric, MintUrl};
use crate::mac::MacAddr;
use crate::set::SortedSet;
use crate::store::Reference;
use crate::store::{
    InvoiceRow, NewGrant, NewPart, NewProofs, NewRequest, Owner, PartState, RecordsSince, RequestId,
    RequestRow, TokenForm, Tokens,
};

const HOUR: Millis = Millis::from_secs(3600);
const KEYSET: &str = "00aabbccddeeff00";

struct Books {
    _dir: Scratch,
    clock: Clock,
    store: Store,
}

impl Books {
    fn new() -> Books {
        let (dir, clock) = (Scratch::new(), clock());
        let store = Store::open(dir.path(), &clock).unwrap();
        Books { _dir: dir, clock, store }
    }

    async fn begin(&self, owner: Owner, parts: usize) -> RequestRow {
        let part = NewPart {
            mint: MintUrl::parse("https://mint.example").unwrap(),
            amount: Sats(5),
            metric: Metric::Milliseconds,
            allotment: Allotment(5000),
            keyset: KEYSET.to_owned(),
            amounts: vec![1, 4],
        };
        let request = NewRequest {
            id: RequestId::random().unwrap(),
            mac: MacAddr::new([2, 0, 0, 0, 0, 1]).unwrap(),
            venue: "guest".to_owned(),
            owner,
            form: TokenForm::default(),
            parts: vec![part; parts],
        };
        self.store.begin(request).await.unwrap()
    }

    async fn invoiced(&self, owner: Owner, parts: usize) -> RequestRow {
        let row = self.begin(owner, parts).await;
        self.store.invoiced(row.parts.iter().map(|part| (part.id, answer(part.id))).collect()).await.unwrap();
        row
    }

    /// A request whose parts are in this state.
    async fn in_state(&self, owner: Owner, state: PartState) -> RequestId {
        let row = self.invoiced(owner, 1).await;
        let part = row.parts[0].id;
        match state {
            PartState::Asking => return self.begin(owner, 1).await.id,
            PartState::Unpaid => {}
            PartState::Paid => self.store.paid(part),
            PartState::Claimed => {
                self.store.claimed(part, tokens(owner), grant(owner, "r")).await.map(drop).unwrap()
            }
            PartState::Expired => self.store.expired(part).await.unwrap(),
        }
        row.id
    }

    async fn states(&self, id: &RequestId) -> Vec<PartState> {
        let row = self.store.request(id).await.unwrap();
        row.map(|row| row.parts.iter().map(|part| part.state).collect()).unwrap_or_default()
    }

    async fn is_undelivered(&self, id: &RequestId) -> bool {
        self.store.undelivered(None).await.unwrap().contains(id)
    }

    async fn is_open(&self, id: &RequestId) -> bool {
        self.store.open_requests(1000).await.unwrap().iter().any(|row| row.id == *id)
    }
}

fn tokens(owner: Owner) -> Tokens {
    match owner {
        Owner::Guest => Tokens::Guest("cashuBtoken".to_owned()),
        Owner::House => Tokens::House(NewProofs {
            mint: MintUrl::parse("https://mint.example").unwrap(),
            keyset: KEYSET.to_owned(),
            proofs: vec![(0, Sats(1), vec![2; 33]), (1, Sats(4), vec![3; 33])],
        }),
    }
}

fn all_since(since: Millis) -> RecordsSince {
    RecordsSince { tokens: since, settled: since, unpaid: since }
}

fn answer(part: i64) -> InvoiceRow {
    InvoiceRow {
        quote: format!("quote-{part}"),
        invoice: "lnbc1".to_owned(),
        expires_at: UnixSeconds(1_800_003_600),
        due: HOUR,
    }
}

fn grant(owner: Owner, reference: &str) -> Option<NewGrant> {
    (owner == Owner::House).then(|| NewGrant {
        value: Sats(5).into(),
        mint: None,
        reference: Reference::read(reference),
        mac: MacAddr::new([2, 0, 0, 0, 0, 1]).unwrap(),
        venue: "guest".to_owned(),
        amount: Sats(5).into(),
        metric: Metric::Milliseconds,
        allotment: Allotment(5000),
    })
}

#[tokio::test]
async fn counters_and_lock_keys_are_never_used_twice() {
    let books = Books::new();
    let tasks = (0..20).map(|_| books.begin(Owner::Guest, 2));
    let mut rows = futures_util::future::join_all(tasks).await;
    let failed = books.begin(Owner::Guest, 1).await;
    books.store.not_invoiced(&failed.id).await.unwrap();
    books.store.prune(all_since(Millis(u64::MAX / 4))).await.unwrap();
    rows.push(failed);
    rows.push(books.begin(Owner::Guest, 1).await);

    let parts = || rows.iter().flat_map(|row| &row.parts);
    let locks: SortedSet<u32> = parts().map(|part| part.lock_index).collect();
    assert_eq!(locks.len(), parts().count());
    let starts: SortedSet<u32> = parts().map(|part| part.outputs[0].counter).collect();
    assert_eq!(starts.len(), parts().count());
    let gaps = starts.iter().zip(starts.iter().skip(1)).all(|(one, next)| next - one >= 2);
    assert!(gaps, "two outputs each: {starts:?}");
}

#[tokio::test]
async fn guests_and_the_house_count_apart() {
    let books = Books::new();
    let guests = books.begin(Owner::Guest, 1).await;
    let house = books.begin(Owner::House, 1).await;
    assert_eq!(guests.parts[0].outputs, house.parts[0].outputs, "each seed starts at its first secret");
    assert_eq!((guests.owner, house.owner), (Owner::Guest, Owner::House));
}

#[tokio::test]
async fn outputs_that_are_made_again_skip_what_the_mint_may_know() {
    let books = Books::new();
    let row = books.invoiced(Owner::Guest, 1).await;
    let part = row.parts[0].id;
    let first = books.store.claim_again(part, Owner::Guest, KEYSET.into(), vec![1, 4], 0).await.unwrap();
    let second = books.store.claim_again(part, Owner::Guest, KEYSET.into(), vec![1, 4], 100).await.unwrap();
    let other = books.store.claim_again(part, Owner::Guest, "00ff".into(), vec![5], 0).await.unwrap();
    assert_eq!((first.counter, second.counter, other.counter), (2, 104, 0));
    let kept = books.store.request(&row.id).await.unwrap().unwrap();
    assert_eq!(kept.parts[0].outputs[1..], [first, second, other], "the newest is last");
}

#[tokio::test]
async fn counters_end_before_they_wrap() {
    let books = Books::new();
    let row = books.invoiced(Owner::Guest, 1).await;
    let again = |skip| books.store.claim_again(row.parts[0].id, Owner::Guest, KEYSET.into(), vec![1], skip);
    let refused = again(0x7fff_ffff).await.unwrap_err();
    assert!(matches!(refused, StoreError::CounterExhausted));
    assert_eq!(again(0).await.unwrap().counter, 2, "the refused one took nothing");
}

#[tokio::test]
async fn an_invoice_is_taken_once_and_all_parts_together() {
    let books = Books::new();
    let row = books.begin(Owner::Guest, 2).await;
    let [one, two] = [row.parts[0].id, row.parts[1].id];
    let half = vec![(one, answer(1)), (two, answer(1))];
    books.store.invoiced(half).await.unwrap_err();
    assert_eq!(books.states(&row.id).await, [PartState::Asking; 2], "one quote cannot pay two parts");
    books.store.invoiced(vec![(one, answer(1)), (two, answer(2))]).await.unwrap();
    let again = books.store.invoiced(vec![(one, answer(3))]).await.unwrap_err();
    assert!(matches!(again, StoreError::Gone));
}

#[tokio::test]
async fn a_request_without_an_invoice_leaves_no_row_behind() {
    let books = Books::new();
    let row = books.begin(Owner::Guest, 2).await;
    books.store.not_invoiced(&row.id).await.unwrap();
    assert!(books.store.request(&row.id).await.unwrap().is_none());
    let left: i64 = books
        .store
        .read(|db| {
            let count = "SELECT (SELECT COUNT(*) FROM requests) + (SELECT COUNT(*) FROM parts)";
            Ok(db.query_row(count, [], |row| row.get(0))?)
        })
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_claimed_part_never_goes_back() {
    let books = Books::new();
    let id = books.in_state(Owner::Guest, PartState::Claimed).await;
    let part = books.store.request(&id).await.unwrap().unwrap().parts[0].id;
    books.store.paid(part);
    books.store.not_paid(part);
    books.store.expired(part).await.unwrap();
    books.store.not_invoiced(&id).await.unwrap();
    books.store.claimed(part, Tokens::Guest("cashuBother".into()), None).await.unwrap();
    let row = books.store.request(&id).await.unwrap().unwrap();
    assert_eq!(
        (row.parts[0].state, row.parts[0].token.as_deref()),
        (PartState::Claimed, Some("cashuBtoken"))
    );
}

#[tokio::test]
async fn a_payment_is_marked_and_taken_back_but_never_after_it_was_given_up() {
    let books = Books::new();
    let row = books.invoiced(Owner::Guest, 1).await;
    let part = row.parts[0].id;
    books.store.paid(part);
    books.store.expired(part).await.unwrap();
    assert_eq!(books.states(&row.id).await, [PartState::Paid], "what is paid does not expire");
    books.store.not_paid(part);
    books.store.expired(part).await.unwrap();
    assert_eq!(books.states(&row.id).await, [PartState::Expired]);
    assert!(!books.is_open(&row.id).await);
}

#[tokio::test]
async fn claiming_a_part_fifty_times_at_once_grants_it_once() {
    let books = Books::new();
    let part = books.invoiced(Owner::House, 1).await.parts[0].id;
    let claims =
        (0..50).map(|_| books.store.claimed(part, tokens(Owner::House), grant(Owner::House, "same")));
    for session in futures_util::future::join_all(claims).await {
        assert_eq!(session.unwrap().unwrap().allotment, Allotment(5000));
    }
    assert_eq!(books.store.sales_since(UnixSeconds(0)).await.unwrap().count, 1);
}

#[tokio::test]
async fn what_has_work_left_is_taken_up_at_the_next_start() {
    let books = Books::new();
    for (owner, state, open) in [
        (Owner::Guest, PartState::Asking, true),
        (Owner::Guest, PartState::Unpaid, true),
        (Owner::House, PartState::Paid, true),
        (Owner::Guest, PartState::Claimed, false),
        (Owner::House, PartState::Claimed, false),
        (Owner::Guest, PartState::Expired, false),
    ] {
        let id = books.in_state(owner, state).await;
        assert_eq!(books.is_open(&id).await, open, "{owner:?} {state:?}");
    }
}

#[tokio::test]
async fn tokens_that_come_after_an_acknowledgement_want_their_own() {
    let books = Books::new();
    let row = books.invoiced(Owner::Guest, 2).await;
    let claim = |index: usize| {
        books.store.claimed(row.parts[index].id, Tokens::Guest(format!("cashuB{index}")), None)
    };
    claim(0).await.unwrap();
    let both = || row.parts.iter().map(|part| part.id).collect();
    books.store.acked(both()).await.unwrap();
    claim(0).await.unwrap();
    claim(1).await.unwrap();
    let acked = books
        .store
        .request(&row.id)
        .await
        .unwrap()
        .unwrap()
        .parts
        .iter()
        .map(|p| p.acked)
        .collect::<Vec<_>>();
    assert_eq!(acked, [true, false], "what was not here yet is not acknowledged");
    assert!(books.is_undelivered(&row.id).await);
    books.store.acked(both()).await.unwrap();
    assert!(!books.is_undelivered(&row.id).await);
}

#[tokio::test]
async fn tokens_wait_for_the_guest_who_asked_for_them_and_nobody_else() {
    let books = Books::new();
    let (mine, stranger) =
        (MacAddr::new([2, 0, 0, 0, 0, 1]).unwrap(), MacAddr::new([2, 0, 0, 0, 0, 9]).unwrap());
    let first = books.in_state(Owner::Guest, PartState::Claimed).await;
    books.clock.advance(HOUR);
    let second = books.in_state(Owner::Guest, PartState::Claimed).await;
    for state in [PartState::Unpaid, PartState::Paid, PartState::Expired] {
        books.in_state(Owner::Guest, state).await;
    }
    books.in_state(Owner::House, PartState::Claimed).await;
    assert_eq!(books.store.undelivered(Some(mine)).await.unwrap(), [first, second]);
    assert_eq!(books.store.undelivered(Some(stranger)).await.unwrap(), []);
}

#[tokio::test]
async fn pruning_keeps_what_is_watched_or_unclaimed() {
    let books = Books::new();
    let mut kept = Vec::new();
    let mut pruned = Vec::new();
    for state in [PartState::Unpaid, PartState::Paid] {
        kept.push(books.in_state(Owner::Guest, state).await);
    }
    for (owner, state) in [
        (Owner::Guest, PartState::Claimed),
        (Owner::Guest, PartState::Expired),
        (Owner::House, PartState::Claimed),
    ] {
        pruned.push(books.in_state(owner, state).await);
    }
    let before = books.store.now();
    books.clock.advance(HOUR);
    kept.push(books.in_state(Owner::Guest, PartState::Expired).await);
    books.store.prune(all_since(before.saturating_add(Millis(1)))).await.unwrap();
    for id in &kept {
        assert!(!books.states(id).await.is_empty());
    }
    for id in &pruned {
        assert!(books.states(id).await.is_empty());
    }
}

#[tokio::test]
async fn what_came_to_nothing_is_forgotten_long_before_tokens_are() {
    let books = Books::new();
    let tokens = books.in_state(Owner::Guest, PartState::Claimed).await;
    let expired = books.in_state(Owner::House, PartState::Expired).await;
    let half = books.invoiced(Owner::Guest, 2).await;
    books.store.expired(half.parts[0].id).await.unwrap();
    books.clock.advance(HOUR);
    books.store.prune(RecordsSince { unpaid: books.store.now(), ..all_since(Millis::ZERO) }).await.unwrap();
    assert!(books.states(&expired).await.is_empty());
    assert_eq!(books.states(&tokens).await, [PartState::Claimed]);
    assert_eq!(books.states(&half.id).await.len(), 2, "its other part is still watched");
}

#[tokio::test]
async fn of_many_open_requests_the_paid_and_then_the_newest_are_taken_up() {
    let books = Books::new();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(books.invoiced(Owner::House, 2).await.id);
    }
    let paid = books.in_state(Owner::House, PartState::Paid).await;
    ids.push(books.invoiced(Owner::House, 1).await.id);
    let taken_up: Vec<_> =
        books.store.open_requests(3).await.unwrap().into_iter().map(|row| row.id).collect();
    assert_eq!(taken_up, [paid, ids[5].clone(), ids[4].clone()]);
}

#[tokio::test]
async fn what_was_never_shown_is_forgotten_at_the_start_and_nothing_else() {
    let books = Books::new();
    let asking = books.begin(Owner::Guest, 2).await.id;
    let others = [PartState::Unpaid, PartState::Paid, PartState::Claimed, PartState::Expired];
    let mut kept = Vec::new();
    for state in others {
        kept.push(books.in_state(Owner::Guest, state).await);
    }
    books.store.forget_asking().await.unwrap();
    assert!(books.store.request(&asking).await.unwrap().is_none());
    for (id, state) in kept.iter().zip(others) {
        assert_eq!(books.states(id).await, [state]);
    }
}

#[tokio::test]
async fn open_invoices_of_a_mint_are_read_a_few_at_a_time() {
    let books = Books::new();
    let mut parts = Vec::new();
    for _ in 0..3 {
        let row = books.invoiced(Owner::House, 2).await;
        parts.extend(row.parts.iter().map(|part| part.id));
    }
    books.in_state(Owner::House, PartState::Expired).await;
    books.begin(Owner::House, 1).await;
    let (mint, other) =
        (MintUrl::parse("https://mint.example").unwrap(), MintUrl::parse("https://other.example").unwrap());
    assert_eq!(books.store.open_mints().await.unwrap(), std::slice::from_ref(&mint));
    let (mut after, mut read) = (0, Vec::new());
    loop {
        let page = books.store.open_parts(&mint, after, 4).await.unwrap();
        assert!(
            page.len() <= 4
                && page.iter().all(|part| part.due == HOUR && part.quote == format!("quote-{}", part.id))
        );
        let Some(last) = page.last() else { break };
        after = last.id;
        read.extend(page.iter().map(|part| part.id));
    }
    assert_eq!(read, parts);
    assert!(books.store.open_parts(&other, 0, 4).await.unwrap().is_empty());
    books.store.all_expired(parts).await.unwrap();
    assert!(books.store.open_parts(&mint, 0, 4).await.unwrap().is_empty());
}
