//! What waits, in order: bounds, drops, and what is in RAM or on disk. Pure.

use std::collections::VecDeque;

use bytes::Bytes;

/// Bytes that may wait in RAM to be written, or stay there because the disk does not take them.
const UNWRITTEN_MOST: u64 = 4 << 20;
/// Bytes that stay in RAM although they are on disk, so that they need not be read for sending.
const RESIDENT: u64 = 256 << 10;
/// Bytes that are read from the disk at once.
const LOAD: u64 = 128 << 10;
/// Bytes that are written at once.
const WRITE: u64 = 512 << 10;

/// How much may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Bytes of messages. Files take up to three times as much for a short while.
    pub bytes: u64,
    /// Messages: each takes about 60 bytes of RAM even when it is on disk.
    pub entries: usize,
}

/// What goes first when there is too much: the least.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Importance {
    /// The next one will do as well.
    Low,
    /// The usual.
    Normal,
    /// Somebody waits for it.
    High,
}

/// Number of a message in this run, in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Sequence(pub(super) u64);

#[cfg(test)]
impl Sequence {
    /// A number that no outbox gave.
    pub(crate) fn for_tests(number: u64) -> Self {
        Self(number)
    }
}

/// What comes next.
pub(super) enum Peeked {
    Message(Sequence, Bytes),
    OnDisk(Sequence),
    Nothing,
}

/// Sequences of a run begin here: what an earlier run has left comes before.
const FIRST: u64 = 1 << 32;

/// A message on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Placed {
    pub(super) importance: Importance,
    /// Offset of the body in the file.
    pub(super) place: u64,
    pub(super) length: u32,
}

/// A message to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Unwritten {
    pub(super) sequence: Sequence,
    pub(super) importance: Importance,
    pub(super) body: Bytes,
}

struct Entry {
    sequence: Sequence,
    importance: Importance,
    is_taken: bool,
    length: u32,
    body: Option<Bytes>,
    /// Unwritten entries are the newest ones: the disk takes them in order.
    place: Option<u64>,
}

/// What waits.
pub(super) struct Queue {
    entries: VecDeque<Entry>,
    bounds: Bounds,
    has_disk: bool,
    next: u64,
    bytes: u64,
    unwritten: usize,
    unwritten_bytes: u64,
    /// Bytes in RAM of entries that are on disk.
    resident: u64,
    dropped: u64,
    /// On disk, and not wanted any more.
    gone: Vec<u64>,
}

impl Queue {
    pub(super) fn new(bounds: Bounds, has_disk: bool) -> Self {
        Self {
            entries: VecDeque::new(),
            bounds,
            has_disk,
            next: FIRST,
            bytes: 0,
            unwritten: 0,
            unwritten_bytes: 0,
            resident: 0,
            dropped: 0,
            gone: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn unwritten(&self) -> usize {
        self.unwritten
    }

    pub(super) fn has_disk(&self) -> bool {
        self.has_disk
    }

    pub(super) fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Messages on disk that still wait.
    pub(super) fn placed(&self) -> usize {
        self.entries.len() - self.unwritten
    }

    /// Their bytes.
    pub(super) fn placed_bytes(&self) -> u64 {
        self.bytes - self.unwritten_bytes
    }

    /// Adds a message; returns how many had to go for it.
    pub(super) fn push(&mut self, importance: Importance, body: Bytes) -> u64 {
        let before = self.dropped;
        let length = body.len() as u32;
        self.entries.push_back(Entry {
            sequence: Sequence(self.next),
            importance,
            is_taken: false,
            length,
            body: Some(body),
            place: None,
        });
        self.next += 1;
        self.bytes += u64::from(length);
        self.unwritten += 1;
        self.unwritten_bytes += u64::from(length);
        self.keep_bounds();
        self.dropped - before
    }

    fn keep_bounds(&mut self) {
        while self.bytes > self.bounds.bytes || self.entries.len() > self.bounds.entries {
            self.drop_one(0);
        }
        while self.unwritten_bytes > UNWRITTEN_MOST {
            self.drop_one(self.placed());
        }
    }

    /// Drops the oldest of the least important, from `first` on.
    fn drop_one(&mut self, first: usize) {
        let mut least: Option<(usize, Importance)> = None;
        for (index, entry) in self.entries.iter().enumerate().skip(first) {
            if least.is_none_or(|(_, importance)| entry.importance < importance) {
                least = Some((index, entry.importance));
                if entry.importance == Importance::Low {
                    break;
                }
            }
        }
        if let Some((index, _)) = least {
            self.remove(index);
            self.dropped += 1;
        }
    }

    fn remove(&mut self, index: usize) {
        let Some(entry) = self.entries.remove(index) else { return };
        let length = u64::from(entry.length);
        self.bytes -= length;
        if let Some(place) = entry.place {
            self.gone.push(place);
            self.resident -= if entry.body.is_some() { length } else { 0 };
        } else {
            self.unwritten -= 1;
            self.unwritten_bytes -= length;
        }
    }

    fn find(&self, sequence: Sequence) -> Option<usize> {
        self.entries.binary_search_by_key(&sequence, |entry| entry.sequence).ok()
    }

    /// The first message that has not been taken; it counts as taken from now on.
    pub(super) fn take(&mut self) -> Peeked {
        match self.entries.iter_mut().find(|entry| !entry.is_taken) {
            Some(Entry { sequence, is_taken, body: Some(body), .. }) => {
                *is_taken = true;
                Peeked::Message(*sequence, body.clone())
            }
            Some(entry) => Peeked::OnDisk(entry.sequence),
            None => Peeked::Nothing,
        }
    }

    /// All messages are offered again.
    pub(super) fn rewind(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.is_taken = false);
    }

    /// The message is not wanted any more.
    pub(super) fn done(&mut self, sequence: Sequence) {
        if let Some(index) = self.find(sequence) {
            self.remove(index);
        }
    }

    /// What was left on disk comes before what was pushed since.
    pub(super) fn adopt(&mut self, left: &[Placed]) {
        for (index, placed) in left.iter().rev().enumerate() {
            let Placed { importance, place, length } = *placed;
            let sequence = Sequence(FIRST - 1 - index as u64);
            self.bytes += u64::from(length);
            let entry = Entry { sequence, importance, is_taken: false, length, body: None, place: Some(place) };
            self.entries.push_front(entry);
        }
        self.keep_bounds();
    }

    /// What is to be written next.
    pub(super) fn to_write(&self) -> Vec<Unwritten> {
        let mut bytes = 0;
        let mut batch = Vec::new();
        for entry in self.entries.range(self.placed()..) {
            if let Some(body) = entry.body.clone() {
                batch.push(Unwritten { sequence: entry.sequence, importance: entry.importance, body });
            }
            bytes += u64::from(entry.length);
            if bytes >= WRITE {
                break;
            }
        }
        batch
    }

    /// What is on disk and not wanted any more; it is forgotten here.
    pub(super) fn take_gone(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.gone)
    }

    /// The message has been written.
    pub(super) fn written(&mut self, sequence: Sequence, place: u64) {
        let Some(index) = self.find(sequence) else {
            self.gone.push(place);
            return;
        };
        let entry = &mut self.entries[index];
        let length = u64::from(entry.length);
        entry.place = Some(place);
        self.unwritten -= 1;
        self.unwritten_bytes -= length;
        if self.resident + length > RESIDENT {
            entry.body = None;
        } else {
            self.resident += length;
        }
    }

    /// Messages on disk to be read, from this one on.
    pub(super) fn to_load(&self, first: Sequence) -> Vec<(Sequence, Placed)> {
        let mut bytes = 0;
        let from = self.entries.partition_point(|entry| entry.sequence < first);
        let wanted = self.entries.range(from..).take_while(|entry| {
            let is_first = bytes == 0;
            bytes += u64::from(entry.length.max(1));
            entry.body.is_none() && (is_first || bytes <= LOAD)
        });
        wanted.filter_map(placed).collect()
    }

    /// The message has been read; `None`: it cannot be.
    pub(super) fn loaded(&mut self, sequence: Sequence, body: Option<Bytes>) {
        let Some(index) = self.find(sequence) else { return };
        match body {
            Some(body) => {
                let entry = &mut self.entries[index];
                if entry.body.is_none() {
                    self.resident += u64::from(entry.length);
                }
                entry.body = Some(body);
            }
            None => {
                self.remove(index);
                self.dropped += 1;
            }
        }
    }

    /// All that is on disk and still wanted.
    pub(super) fn live(&self) -> Vec<(Sequence, Placed)> {
        self.entries.iter().filter_map(placed).collect()
    }

    /// The file was written anew: where the message is now; `None`: it could not be read.
    pub(super) fn moved(&mut self, sequence: Sequence, place: Option<u64>) {
        match (self.find(sequence), place) {
            (Some(index), Some(place)) => self.entries[index].place = Some(place),
            (Some(index), None) => {
                // It has no place that could be remembered as gone.
                self.entries[index].place = None;
                self.unwritten += 1;
                self.unwritten_bytes += u64::from(self.entries[index].length);
                self.remove(index);
                self.dropped += 1;
            }
            (None, Some(place)) => self.gone.push(place),
            (None, None) => {}
        }
    }
}

fn placed(entry: &Entry) -> Option<(Sequence, Placed)> {
    let Entry { sequence, importance, length, .. } = *entry;
    entry.place.map(|place| (sequence, Placed { importance, place, length }))
}
