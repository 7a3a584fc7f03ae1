//! Which language each guest has chosen: mini-browsers forget it, and the address of a page may have come without it.

use crate::mac::MacAddr;
use crate::portal::Lang;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Guests whose choice is remembered: those who chose last.
const MOST: usize = 512;

/// In memory only: it is lost with a restart, and costs no flash.
#[derive(Default)]
pub struct Languages(Mutex<Vec<(MacAddr, Lang)>>);

impl Languages {
    pub fn remember(&self, mac: MacAddr, lang: Lang) {
        let mut chosen = self.chosen();
        chosen.retain(|(known, _)| *known != mac);
        if chosen.len() >= MOST {
            chosen.remove(0);
        }
        chosen.push((mac, lang));
    }

    pub fn of(&self, mac: MacAddr) -> Option<Lang> {
        self.chosen().iter().find(|(known, _)| *known == mac).map(|(_, lang)| *lang)
    }

    fn chosen(&self) -> MutexGuard<'_, Vec<(MacAddr, Lang)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(number: usize) -> MacAddr {
        format!("02:00:00:00:{:02x}:{:02x}", number / 256, number % 256).parse().unwrap()
    }

    #[test]
    fn the_last_choice_of_a_guest_counts() {
        let languages = Languages::default();
        assert_eq!(languages.of(mac(1)), None);
        languages.remember(mac(1), Lang::Swahili);
        languages.remember(mac(2), Lang::English);
        assert_eq!(languages.of(mac(1)), Some(Lang::Swahili));
        languages.remember(mac(1), Lang::English);
        assert_eq!(languages.of(mac(1)), Some(Lang::English));
    }

    #[test]
    fn strangers_without_number_push_out_who_chose_first_and_take_no_more_memory() {
        let languages = Languages::default();
        for number in 0..MOST {
            languages.remember(mac(number), Lang::Swahili);
        }
        languages.remember(mac(0), Lang::Swahili);
        languages.remember(mac(MOST), Lang::Swahili);
        assert_eq!(languages.chosen().len(), MOST);
        assert_eq!(languages.of(mac(1)), None);
        assert_eq!(languages.of(mac(0)), Some(Lang::Swahili));
    }
}
