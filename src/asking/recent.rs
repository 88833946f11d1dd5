//! What was used last, of a great many.

use std::collections::HashMap;
use std::mem;

use super::question::Key;

/// So many values that were used last are kept, and twice as many at most.
pub(super) const KEPT: usize = 10_000;

/// Values by requests. Those that nobody has used for long are forgotten.
#[derive(Debug)]
pub(super) struct Recent<V> {
    young: HashMap<Key, V>,
    /// What was young before that became too much.
    old: HashMap<Key, V>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<V> Recent<V> {
    /// Returns the value of a request, which counts as used.
    pub(super) fn get(&mut self, key: &Key) -> Option<&mut V> {
        if let Some(value) = self.old.remove(key) {
            self.insert(*key, value);
        }
        self.young.get_mut(key)
    }

    /// Sets the value of a request.
    pub(super) fn insert(&mut self, key: Key, value: V) {
        self.old.remove(&key);
        if self.young.len() >= KEPT && !self.young.contains_key(&key) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::of(&number.to_be_bytes())
    }

    #[test]
    fn what_was_used_last_is_kept_and_a_flood_is_bounded() {
        let mut recent = Recent::default();
        recent.insert(key(0), 0);
        for number in 1..5 * KEPT {
            recent.insert(key(number), number);
            if number % (KEPT / 2) == 0 {
                assert_eq!(recent.get(&key(0)), Some(&mut 0), "it is used again and again");
            }
            assert!(recent.young.len() <= KEPT && recent.old.len() <= KEPT);
        }
        assert_eq!(recent.get(&key(4 * KEPT + 1)), Some(&mut (4 * KEPT + 1)));
        assert_eq!(recent.get(&key(1)), None);
    }
}
