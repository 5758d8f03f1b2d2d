//! Which events were going on at an instant: for the fragments of KVS, so that footage can be found by them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edgecam_media::{Ticks, Timestamp};

use super::story::{Event, Told};

/// Events that are remembered: an upload that is behind by more of them tags less.
const MOST: usize = 256;
/// Tags of a fragment at most (Amazon's producer).
const OF_A_FRAGMENT: usize = 10;
/// Bytes of a tag's value at most (Amazon's producer).
const VALUE: usize = 256;

/// The events of one camera. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct EventTags(Arc<Mutex<VecDeque<Event>>>);

impl EventTags {
    /// An event has begun, goes on, or is over.
    pub fn tell(&self, told: &Told) {
        let mut events = self.lock();
        match events.iter_mut().find(|event| event.id == told.event.id) {
            Some(known) => *known = told.event.clone(),
            None => {
                if events.len() == MOST {
                    events.pop_front();
                }
                events.push_back(told.event.clone());
            }
        }
    }

    /// Names and values for the fragment that begins at `start` and lasts about `length`: `EDGECAM_EVENT_1` and so on, each
    /// `<event id> <class> [zone]`.
    pub fn of(&self, start: Timestamp, length: Ticks) -> Vec<(String, String)> {
        let is_there = |event: &&Event| event.started < start + length && (!event.is_over || event.last_seen >= start);
        let tag = |(number, event): (usize, &Event)| {
            let mut value = format!("{} {}", event.id, event.kind.class_name);
            if let Some(zone) = &event.kind.zone {
                value.push(' ');
                value.push_str(zone);
            }
            while value.len() > VALUE {
                value.pop();
            }
            (format!("EDGECAM_EVENT_{}", number + 1), value)
        };
        self.lock().iter().rev().filter(is_there).take(OF_A_FRAGMENT).enumerate().map(tag).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::story::{Change, Kind};

    #[test]
    fn fragments_are_tagged_with_what_went_on_then() {
        let at = |millis: i64| Timestamp::from_unix_millis(1_000_000 + millis);
        let tags = EventTags::default();
        let event = |id: usize, started: i64, last: i64, is_over: bool| Told {
            change: Change::Update,
            event: Event {
                id: id.to_string().into(),
                kind: Kind { zone: Some("gate".into()), class_name: "person".into(), text: None },
                class: 0,
                started: at(started),
                last_seen: at(last),
                is_over,
                best: (0.9, at(started)),
                most: 1,
                tracks: 1,
                revision: 1,
            },
            entered: Vec::new(),
            left: Vec::new(),
        };
        tags.tell(&event(1, 2_500, 3_000, false));
        let of =
            |millis: i64| tags.of(at(millis), Ticks::from_millis(1000)).into_iter().map(|(_, v)| v).collect::<Vec<_>>();
        assert_eq!((of(1000).len(), of(2000), of(9000).len()), (0, vec!["1 person gate".to_owned()], 1));
        tags.tell(&event(1, 2_500, 5_200, true));
        assert_eq!([of(1000).len(), of(2000).len(), of(5000).len(), of(6000).len()], [0, 1, 1, 0]);
        (2..1000).for_each(|id| tags.tell(&event(id, 8000, 8500, false)));
        let names: Vec<String> =
            tags.of(at(8000), Ticks::from_millis(1000)).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), OF_A_FRAGMENT);
        assert_eq!((names[0].as_str(), names[9].as_str()), ("EDGECAM_EVENT_1", "EDGECAM_EVENT_10"));
        assert_eq!(tags.lock().len(), MOST);
    }
}
