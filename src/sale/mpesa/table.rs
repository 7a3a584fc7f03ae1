//! What is followed, in memory: whose turn it is to be asked about, and how fast. Knows no clock and calls nobody.
//!
//! One bucket for all calls: a new prompt goes before what is only asked about, and after a refusal for too many calls all wait.

use super::plan::OrderPace;
use crate::fiat::BUCKET;
use crate::mac::MacAddr;
use crate::units::Millis;
use litemap::LiteMap;

/// Calls that are under way at a time.
const MOST_AT_ONCE: usize = 8;
/// So long an order may be late before it goes first like a new one.
const PATIENCE: Millis = Millis::from_secs(5);
/// Guests whose last order is remembered.
const MOST_GUESTS: usize = 1024;

#[derive(Default)]
pub struct OrderTable {
    orders: LiteMap<String, Followed>,
    /// The newest order of each guest, and when it was made.
    of_guests: LiteMap<MacAddr, (String, Millis)>,
    next_call: Millis,
    refusals: u32,
}

/// An order that is followed.
#[derive(Clone, Debug)]
pub struct Followed {
    pub due: Millis,
    /// It is about to be sent.
    pub is_new: bool,
    is_under_way: bool,
    /// Somebody has spoken of it meanwhile: it is asked about at once.
    is_hinted: bool,
    pub tries: u32,
    pub error: String,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    Order(String),
    /// Nothing is due before.
    Wait(Millis),
}

impl OrderTable {
    pub fn follow(&mut self, id: &str, due: Millis, is_new: bool) {
        if let Some(known) = self.orders.get_mut(id) {
            known.due = known.due.min(due);
            known.is_hinted |= known.is_under_way;
            return;
        }
        let (is_under_way, is_hinted, tries) = (false, false, 0);
        let followed = Followed { due, is_new, is_under_way, is_hinted, tries, error: String::new() };
        self.orders.insert(id.to_owned(), followed);
    }

    pub fn note_guest(&mut self, mac: MacAddr, id: &str, at: Millis) {
        if self.of_guests.len() >= MOST_GUESTS && !self.of_guests.contains_key(&mac) {
            let oldest = self.of_guests.iter().min_by_key(|(_, (_, at))| *at).map(|(mac, _)| *mac);
            oldest.map(|mac| self.of_guests.remove(&mac));
        }
        self.of_guests.insert(mac, (id.to_owned(), at));
    }

    /// What these guests have ordered is to be shown to another.
    pub fn hand_over(&mut self, gone: &[MacAddr], to: MacAddr) {
        for mac in gone {
            if let Some((id, at)) = self.of_guests.remove(mac) {
                self.note_guest(to, &id, at);
            }
        }
    }

    pub fn of_guest(&self, mac: MacAddr) -> Option<&str> {
        self.of_guests.get(&mac).map(|(id, _)| id.as_str())
    }

    /// The order whose turn it is, which is marked as being dealt with; or how long to wait until there is one.
    pub fn turn(&mut self, now: Millis, pace: OrderPace, longest: Millis) -> Turn {
        if self.orders.values().filter(|one| one.is_under_way).count() >= MOST_AT_ONCE {
            return Turn::Wait(longest);
        }
        let waiting = self.orders.iter().filter(|(_, one)| !one.is_under_way);
        // A new prompt goes first, because a guest looks at the page; but crowds of them keep nobody waiting who has paid.
        let is_first = |one: &Followed| one.is_new || one.due.saturating_add(pace.of(PATIENCE)) <= now;
        let first = waiting
            .min_by_key(|(_, one)| (one.due > now, !is_first(one), one.due))
            .map(|(id, one)| (id.clone(), one.due));
        let Some((id, due)) = first else { return Turn::Wait(longest) };
        let at = due.max(self.next_call);
        if at > now {
            return Turn::Wait(at.saturating_sub(now).min(longest));
        }
        self.next_call = now.saturating_add(pace.of(BUCKET));
        if let Some(one) = self.orders.get_mut(&id) {
            one.is_under_way = true;
        }
        Turn::Order(id)
    }

    /// It was dealt with: due again then, or never.
    pub fn done(&mut self, id: &str, due: Option<Millis>, now: Millis) {
        match (due, self.orders.get_mut(id)) {
            (_, Some(one)) if one.is_hinted => {
                (one.due, one.is_under_way, one.is_hinted) = (now, false, false);
            }
            (Some(due), Some(one)) => (one.due, one.is_under_way, one.is_new) = (due, false, false),
            (None, _) => drop(self.orders.remove(id)),
            (Some(_), None) => {}
        }
    }

    /// A try came to nothing; how many did.
    pub fn failed(&mut self, id: &str, error: &str) -> u32 {
        let Some(one) = self.orders.get_mut(id) else { return 0 };
        one.tries = one.tries.saturating_add(1);
        one.error = error.to_owned();
        one.tries
    }

    /// Too much was asked: how long nobody asks anything.
    pub fn slow_down(&mut self, now: Millis, pace: OrderPace) -> Millis {
        self.refusals = self.refusals.saturating_add(1);
        let wait = pace.backoff(self.refusals);
        self.next_call = self.next_call.max(now.saturating_add(wait));
        wait
    }

    pub fn went_well(&mut self) {
        self.refusals = 0;
    }

    pub fn followed(&self) -> impl Iterator<Item = (&String, &Followed)> {
        self.orders.iter()
    }

    /// The next call is no order's.
    pub fn take_call(&mut self, now: Millis, pace: OrderPace) -> bool {
        let may = self.next_call <= now;
        if may {
            self.next_call = now.saturating_add(pace.of(BUCKET));
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Millis = Millis::from_secs(60);

    fn turn(table: &mut OrderTable, now: u64) -> Turn {
        table.turn(Millis(now), OrderPace(1), LONGEST)
    }

    #[test]
    fn one_call_a_second_and_new_prompts_first() {
        let mut table = OrderTable::default();
        assert_eq!(turn(&mut table, 0), Turn::Wait(LONGEST));
        table.follow("old", Millis(0), false);
        table.follow("new", Millis(5), true);
        assert_eq!(turn(&mut table, 5), Turn::Order("new".to_owned()));
        assert_eq!(turn(&mut table, 5), Turn::Wait(Millis(1000)));
        assert_eq!(turn(&mut table, 1005), Turn::Order("old".to_owned()));
        assert_eq!(turn(&mut table, 2005), Turn::Wait(LONGEST), "both are under way");
        table.done("old", Some(Millis(9000)), Millis(2005));
        assert_eq!(turn(&mut table, 2005), Turn::Wait(Millis(6995)));
        table.done("old", None, Millis(2005));
        assert_eq!(turn(&mut table, 99_000), Turn::Wait(LONGEST));
    }

    #[test]
    fn a_crowd_of_new_prompts_keeps_nobody_waiting_who_is_to_be_asked_about() {
        let mut table = OrderTable::default();
        table.follow("paid", Millis(0), false);
        let mut turns = Vec::new();
        for second in 0..8u64 {
            table.follow(&format!("new{second}"), Millis(second * 1000), true);
            turns.push(turn(&mut table, second * 1000));
            turns.iter().for_each(|turn| {
                if let Turn::Order(id) = turn {
                    table.done(id, None, Millis(second * 1000))
                }
            });
        }
        let at = turns.iter().position(|turn| *turn == Turn::Order("paid".to_owned()));
        assert_eq!(at, Some(5), "{turns:?}");
    }

    #[test]
    fn a_hint_while_it_is_asked_about_asks_again_at_once() {
        let mut table = OrderTable::default();
        table.follow("a", Millis(0), false);
        assert_eq!(turn(&mut table, 0), Turn::Order("a".to_owned()));
        table.follow("a", Millis(10), false);
        table.done("a", Some(Millis(60_000)), Millis(1000));
        assert_eq!(turn(&mut table, 1000), Turn::Order("a".to_owned()));
        table.done("a", None, Millis(2000));
        assert_eq!(turn(&mut table, 2000), Turn::Wait(LONGEST));
    }

    #[test]
    fn refusals_slow_all_down_and_success_speeds_up() {
        let mut table = OrderTable::default();
        table.follow("a", Millis(0), false);
        assert_eq!(table.slow_down(Millis(0), OrderPace(1)), Millis(2000));
        assert_eq!(table.slow_down(Millis(0), OrderPace(1)), Millis(4000));
        assert_eq!(turn(&mut table, 0), Turn::Wait(Millis(4000)));
        table.went_well();
        assert_eq!(table.slow_down(Millis(4000), OrderPace(10)), Millis(200));
    }
}
