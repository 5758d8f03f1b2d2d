//! What is seen on one picture after the other becomes events with a start, updates and an end. Pure.
//!
//! An event is the presence of things of one class in one zone; text that is read makes them different things. Who comes
//! and goes while it lasts is told in updates, so that a crowd is one event and not a hundred.
//!
//! Invariants: events do not begin within the cool-down of the last one of the same kind; at most [`MOST`] kinds are
//! followed at once; each event that began ends, with [`Story::end`] at the latest.

use std::collections::BTreeMap;
use std::sync::Arc;

use edgecam_media::{Ticks, Timestamp};
use edgecam_vision::Rect;

use crate::config::detectors::Events;

/// Kinds of events that are followed at once.
pub const MOST: usize = 256;
/// A picture is better than another if it is this much surer.
const BETTER: f32 = 0.02;
/// Things come and go often at the edge of being seen: that alone is told no more often than this.
const LEAST_UPDATE: Ticks = Ticks::from_seconds(1);

/// A thing on one picture.
#[derive(Clone, PartialEq, Debug)]
pub struct Sight {
    /// The same thing on the pictures before has the same.
    pub track: u64,
    /// Number of its class.
    pub class: u32,
    /// Name of its class.
    pub class_name: Arc<str>,
    /// What it looks like on this picture alone, if that is another class than on most: its number and name.
    pub looks_like: Option<(u32, Arc<str>)>,
    /// 0 to 1.
    pub confidence: f32,
    /// Where, in pixels; `None`: it is what the whole picture is of.
    pub bbox: Option<Rect>,
    /// What was read on it.
    pub text: Option<Arc<str>>,
    /// Zones it is in; empty where there are none.
    pub zones: Vec<Arc<str>>,
    /// As sure as the detector wants. What was sure before and is not now still counts as being there, and is not told.
    pub is_sure: bool,
}

impl Sight {
    /// As this picture alone shows it.
    pub fn alone(&self) -> Self {
        let mut alone = self.clone();
        if let Some((class, class_name)) = alone.looks_like.take() {
            (alone.class, alone.class_name) = (class, class_name);
        }
        alone
    }
}

/// What an event is of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Kind {
    /// Zone, where there are some.
    pub zone: Option<Arc<str>>,
    /// Class.
    pub class_name: Arc<str>,
    /// What was read.
    pub text: Option<Arc<str>>,
}

/// An event as far as it is known.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// Unique.
    pub id: Arc<str>,
    /// What it is of.
    pub kind: Kind,
    /// Number of the class.
    pub class: u32,
    /// When the first thing of it was first seen.
    pub started: Timestamp,
    /// When something of it was seen last.
    pub last_seen: Timestamp,
    /// Whether it is over.
    pub is_over: bool,
    /// The surest so far, and when that was.
    pub best: (f32, Timestamp),
    /// Things at once at most.
    pub most: usize,
    /// All things so far.
    pub tracks: u64,
    /// Times it was told, this one included.
    pub revision: u32,
}

/// Why an event is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It has begun.
    Start,
    /// It goes on.
    Update,
    /// It is over.
    End,
}

impl Change {
    /// In messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Update => "update",
            Self::End => "end",
        }
    }
}

/// Something to tell.
#[derive(Clone, PartialEq, Debug)]
pub struct Told {
    /// Why.
    pub change: Change,
    /// The event.
    pub event: Event,
    /// Things that came since it was told last.
    pub entered: Vec<u64>,
    /// Things that went since then.
    pub left: Vec<u64>,
}

/// What a picture has brought.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Look {
    /// What is to be told, in order.
    pub told: Vec<Told>,
    /// Events that this is the best picture of so far.
    pub best_of: Vec<Arc<str>>,
}

/// One thing in one zone.
#[derive(Clone, Copy, Debug)]
struct Visit {
    entered: Timestamp,
    last: Timestamp,
    pictures: u32,
}

#[derive(Debug, Default)]
struct Thread {
    visits: BTreeMap<u64, Visit>,
    event: Option<Event>,
    told: Timestamp,
    told_here: usize,
    entered: Vec<u64>,
    left: Vec<u64>,
}

/// Follows what one detector of one camera sees.
#[derive(Debug)]
pub struct Story {
    settings: Events,
    threads: BTreeMap<Kind, Thread>,
    /// Until when no other begins.
    cooling: BTreeMap<Kind, Timestamp>,
    ignored: u64,
    new_id: fn() -> Arc<str>,
}

impl Story {
    /// `new_id` makes identities that are never made twice.
    pub fn new(settings: Events, new_id: fn() -> Arc<str>) -> Self {
        Self { settings, threads: BTreeMap::new(), cooling: BTreeMap::new(), ignored: 0, new_id }
    }

    /// What is on the picture shown at `at`.
    pub fn look(&mut self, at: Timestamp, sights: &[Sight]) -> Look {
        let mut best: BTreeMap<Kind, &Sight> = BTreeMap::new();
        for sight in sights {
            let kind = |zone| Kind { zone, class_name: sight.class_name.clone(), text: sight.text.clone() };
            let zones = sight.zones.iter().cloned().map(Some);
            let kinds = zones.chain(sight.zones.is_empty().then_some(None)).map(kind);
            for kind in kinds {
                if !self.threads.contains_key(&kind) && self.threads.len() >= MOST {
                    self.ignored += 1;
                    continue;
                }
                self.threads.entry(kind.clone()).or_default().see(sight.track, at);
                let surest = best.entry(kind).or_insert(sight);
                if sight.confidence > surest.confidence {
                    *surest = sight;
                }
            }
        }
        self.cooling.retain(|_, until| *until > at);
        let mut look = Look::default();
        for (kind, thread) in &mut self.threads {
            let is_cooling = self.cooling.contains_key(kind);
            let surest = best.get(kind).copied();
            let told = thread.step(kind, at, surest, is_cooling, &self.settings, self.new_id);
            if let Some(event) = thread.event.as_ref().filter(|event| event.best.1 == at) {
                look.best_of.push(event.id.clone());
            }
            if let Some(tell) = told {
                if tell.change == Change::End {
                    let cool_down = Ticks::from_duration(self.settings.cool_down);
                    self.cooling.insert(kind.clone(), at + cool_down);
                }
                look.told.push(tell);
            }
        }
        self.threads.retain(|_, thread| thread.event.is_some() || !thread.visits.is_empty());
        look
    }

    /// Nothing has changed since the last look: what was there still is.
    pub fn still(&mut self, at: Timestamp) {
        for thread in self.threads.values_mut() {
            let newest = thread.visits.values().map(|visit| visit.last).max();
            thread.visits.values_mut().filter(|visit| Some(visit.last) == newest).for_each(|visit| visit.last = at);
            if let Some(event) = &mut thread.event {
                event.last_seen = at;
            }
        }
    }

    /// Nobody looks any more: what goes on ends.
    pub fn end(&mut self) -> Vec<Told> {
        let threads = std::mem::take(&mut self.threads);
        threads.into_values().filter_map(|mut thread| thread.end()).collect()
    }

    /// Things that were not followed, because too many kinds were.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }
}

impl Thread {
    fn see(&mut self, track: u64, at: Timestamp) {
        let mut is_new = false;
        let visit = self.visits.entry(track).or_insert_with(|| {
            is_new = true;
            Visit { entered: at, last: at, pictures: 0 }
        });
        visit.last = at;
        visit.pictures += 1;
        if is_new {
            self.entered.push(track);
        }
    }

    fn step(
        &mut self,
        kind: &Kind,
        at: Timestamp,
        surest: Option<&Sight>,
        is_cooling: bool,
        settings: &Events,
        new_id: fn() -> Arc<str>,
    ) -> Option<Told> {
        let patience = Ticks::from_duration(settings.end_after);
        let left = &mut self.left;
        self.visits.retain(|track, visit| {
            let stays = at.since(visit.last) <= patience;
            if !stays {
                left.push(*track);
            }
            stays
        });
        let here = self.visits.values().filter(|visit| visit.last == at).count();
        if self.event.is_none() {
            let dwell = Ticks::from_duration(settings.dwell);
            let counts = |visit: &&Visit| {
                visit.last == at && visit.pictures >= settings.min_frames && at.since(visit.entered) >= dwell
            };
            let started = self.visits.values().filter(counts).map(|visit| visit.entered).min();
            let (Some(started), Some(surest), false) = (started, surest, is_cooling) else {
                self.left.clear();
                self.entered.retain(|track| self.visits.contains_key(track));
                return None;
            };
            self.event = Some(Event {
                id: new_id(),
                kind: kind.clone(),
                class: surest.class,
                started,
                last_seen: at,
                is_over: false,
                best: (surest.confidence, at),
                most: here,
                tracks: 0,
                revision: 0,
            });
            return self.tell(Change::Start, at, here);
        }
        let event = self.event.as_mut()?;
        if let Some(surest) = surest {
            event.last_seen = at;
            if surest.confidence > event.best.0 + BETTER {
                event.best = (surest.confidence, at);
            }
        }
        event.most = event.most.max(here);
        if self.visits.is_empty() {
            return self.end();
        }
        let since = at.since(self.told);
        let has_changed = here != self.told_here && since >= LEAST_UPDATE;
        let is_due = has_changed || since >= Ticks::from_duration(settings.update);
        if here > 0 && is_due {
            return self.tell(Change::Update, at, here);
        }
        None
    }

    fn tell(&mut self, change: Change, at: Timestamp, here: usize) -> Option<Told> {
        self.told = at;
        self.told_here = here;
        let (entered, left) = (std::mem::take(&mut self.entered), std::mem::take(&mut self.left));
        let event = self.event.as_mut()?;
        event.tracks += entered.len() as u64;
        event.revision += 1;
        Some(Told { change, event: event.clone(), entered, left })
    }

    fn end(&mut self) -> Option<Told> {
        let event = self.event.as_mut()?;
        event.is_over = true;
        let at = event.last_seen;
        self.left.extend(std::mem::take(&mut self.visits).into_keys());
        let told = self.tell(Change::End, at, 0);
        self.event = None;
        told
    }
}

#[cfg(test)]
mod tests;
