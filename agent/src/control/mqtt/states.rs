//! How things are, by topic: only the newest counts, and all of it is sent again on a new connection. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

/// Topics, and bytes of all of them: a fleet's worth of cameras needs a few hundred of a few hundred bytes.
const TOPICS_MOST: usize = 4096;
const BYTES_MOST: usize = 2 << 20;

/// Newest state of each topic.
#[derive(Debug, Default)]
pub(super) struct States {
    slots: BTreeMap<String, Slot>,
    bytes: usize,
    /// Topics to be sent, in the order they changed.
    changed: VecDeque<String>,
    is_changed: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Slot {
    payload: Bytes,
    retain: bool,
}

impl States {
    /// Something has changed. The error is for a person.
    pub(super) fn set(&mut self, topic: String, payload: Bytes, retain: bool) -> Result<(), String> {
        let before = self.slots.get(&topic).map_or(0, |slot| slot.payload.len());
        let bytes = self.bytes - before + payload.len();
        if bytes > BYTES_MOST || (!self.slots.contains_key(&topic) && self.slots.len() >= TOPICS_MOST) {
            return Err(format!("more than {TOPICS_MOST} topics or {BYTES_MOST} bytes of state"));
        }
        self.bytes = bytes;
        if self.is_changed.insert(topic.clone()) {
            self.changed.push_back(topic.clone());
        }
        self.slots.insert(topic, Slot { payload, retain });
        Ok(())
    }

    /// A new connection: all are to be sent.
    pub(super) fn send_all(&mut self) {
        for topic in self.slots.keys() {
            if self.is_changed.insert(topic.clone()) {
                self.changed.push_back(topic.clone());
            }
        }
    }

    /// The next one to be sent: topic, payload, retain.
    pub(super) fn next(&mut self) -> Option<(String, Bytes, bool)> {
        let topic = self.changed.pop_front()?;
        self.is_changed.remove(&topic);
        let slot = self.slots.get(&topic)?.clone();
        Some((topic, slot.payload, slot.retain))
    }

    /// Whether none is to be sent.
    pub(super) fn is_idle(&self) -> bool {
        self.changed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(states: &mut States) -> Vec<String> {
        let text =
            |(topic, payload, _): (String, Bytes, bool)| format!("{topic}={}", String::from_utf8_lossy(&payload));
        std::iter::from_fn(|| states.next()).map(text).collect()
    }

    #[test]
    fn the_newest_of_each_topic() {
        let mut states = States::default();
        for (topic, text) in [("b", "1"), ("a", "1"), ("b", "2")] {
            states.set(topic.to_owned(), Bytes::from_static(text.as_bytes()), true).expect("room");
        }
        assert_eq!(drain(&mut states), ["b=2", "a=1"]);
        assert!(states.is_idle());
        states.send_all();
        assert_eq!(drain(&mut states), ["a=1", "b=2"]);
    }

    #[test]
    fn bounded() {
        let mut states = States::default();
        let large = Bytes::from(vec![0; 128 << 10]);
        let kept = (0..100).filter(|n| states.set(format!("{n}"), large.clone(), true).is_ok()).count();
        assert_eq!(kept, BYTES_MOST >> 17);
        assert!(states.set("0".to_owned(), Bytes::new(), true).is_ok(), "smaller than before");
    }
}
