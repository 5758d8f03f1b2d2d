//! Holds pictures back that perhaps need not be decoded. Pure, but for a flag that the thread that looks sets.
//!
//! A picture that is not looked at is decoded only because a later one refers to it: so it waits for the next look, and is
//! forgotten with its GOP. Where nothing moves (every detector's gate is shut) what is looked at waits, too, until a picture
//! is so large that something must have changed; key frames are always shown to the gates. Deliberately absent: a guess
//! at what is in a picture.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::pool::Picture;
use super::schedule::Sizes;

/// Pictures that are held at most, and their bytes. They are the log's own: nothing is copied.
const MOST: usize = 120;
const MOST_BYTES: usize = 4 << 20;

/// Which detectors of a camera have seen something move lately: bit n is detector n. The thread that looks writes it.
#[derive(Clone, Debug)]
pub(super) struct Moving(Arc<AtomicU32>);

impl Moving {
    /// Nothing is known yet: all of so many have.
    pub(super) fn new(detectors: usize) -> Self {
        Self(Arc::new(AtomicU32::new(all(detectors))))
    }

    /// Whether any has.
    pub(super) fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    pub(super) fn set(&self, index: usize, is_moving: bool) {
        let bit = 1 << index;
        if is_moving {
            self.0.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.0.fetch_and(!bit, Ordering::Relaxed);
        }
    }
}

fn all(detectors: usize) -> u32 {
    (0..detectors).fold(0, |all, index| all | 1 << index)
}

/// What comes of a picture that was taken in.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// To be decoded now, in order.
    pub(super) ready: Vec<Picture>,
    /// Looks that need not be taken, because nothing had changed: of each the detectors (bit n is detector n).
    pub(super) still: Vec<u32>,
}

/// The pictures of one camera that wait.
#[derive(Debug)]
pub(super) struct Hold {
    /// Every detector.
    all: u32,
    waiting: Vec<Picture>,
    bytes: usize,
    sizes: Sizes,
    /// Something has changed in this GOP.
    is_loud: bool,
}

impl Hold {
    pub(super) fn new(detectors: usize) -> Self {
        Self { all: all(detectors), waiting: Vec::new(), bytes: 0, sizes: Sizes::default(), is_loud: true }
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
        self.is_loud = true;
    }

    /// Takes the next picture in. `is_calm`: nothing moves, and the next key frame is not far.
    pub(super) fn take(&mut self, mut picture: Picture, is_calm: bool) -> Taken {
        let mut taken = Taken::default();
        let size = picture.unit.data.len();
        if picture.unit.is_idr {
            taken.still = self.waiting.iter().map(|held| held.look).filter(|look| *look != 0).collect();
            self.clear();
            self.is_loud = !is_calm;
            self.sizes.key_frame(size);
            if is_calm {
                picture.look = self.all;
            }
        } else if is_calm && !self.is_loud {
            self.is_loud = !self.sizes.is_still(size);
        } else {
            self.is_loud = true;
            // Learned all the same while the gates stay shut.
            if is_calm {
                self.sizes.is_still(size);
            }
        }
        if picture.unit.is_idr || self.is_loud {
            // Looks that had been put off are taken now, on the first picture that may show something.
            for held in self.waiting.iter_mut().filter(|held| held.look != 0) {
                taken.still.push(held.look);
                picture.look |= std::mem::take(&mut held.look);
            }
        }
        let is_wanted = picture.look != 0 && (picture.unit.is_idr || self.is_loud);
        self.bytes += size;
        self.waiting.push(picture);
        if is_wanted || self.waiting.len() >= MOST || self.bytes > MOST_BYTES {
            self.bytes = 0;
            taken.ready = std::mem::take(&mut self.waiting);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use edgecam_media::{AccessUnit, ParameterSets, Timestamp, TrackId};

    use super::*;

    const SMALL: usize = 500;
    const LARGE: usize = 9_000;

    fn sets() -> Arc<ParameterSets> {
        let sps = [
            0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
            0x00, 0x03, 0x01, 0xe0, 0xf1, 0x83, 0x19, 0x60,
        ];
        let pps = Bytes::from_static(&[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0]);
        Arc::new(ParameterSets::h264(Bytes::copy_from_slice(&sps), vec![pps]).expect("valid"))
    }

    fn picture(number: u64, bytes: usize, look: u32, sets: &Arc<ParameterSets>) -> Picture {
        let unit = AccessUnit {
            track: TrackId::VIDEO,
            pts: Timestamp::from_unix_millis(number as i64 * 67),
            is_idr: number == 0,
            data: vec![0; bytes].into(),
            parameter_sets: None,
        };
        Picture { unit, sets: sets.clone(), number, look, arrived: Instant::now() }
    }

    /// What is handed on of GOPs of 15 pictures, each third of which one detector is to look at: numbers, those that are looked
    /// at behind a star; and how many looks are not needed.
    fn check(sizes: &[usize], is_calm: impl Fn(u64) -> bool, expected: &str, still: usize) {
        let sets = sets();
        let mut hold = Hold::new(1);
        let (mut handed_on, mut not_needed) = (Vec::new(), 0);
        for (number, size) in (0..).zip(sizes) {
            let mut picture = picture(number, *size, u32::from(number % 3 == 0), &sets);
            picture.unit.is_idr = number % 15 == 0;
            if picture.unit.is_idr {
                picture.unit.data = vec![0; 90_000].into();
            }
            let taken = hold.take(picture, is_calm(number));
            not_needed += taken.still.len();
            let name = |picture: &Picture| format!("{}{}", picture.number, if picture.look == 0 { "" } else { "*" });
            handed_on.extend(taken.ready.iter().map(name));
        }
        assert_eq!((handed_on.join(" ").as_str(), not_needed), (expected, still));
    }

    #[test]
    fn where_something_moves_all_up_to_the_last_look_is_decoded() {
        check(&[LARGE; 17], |_| false, "0* 1 2 3* 4 5 6* 7 8 9* 10 11 12* 15*", 0);
    }

    #[test]
    fn where_nothing_moves_key_frames_are() {
        check(&[SMALL; 34], |_| true, "0* 15* 30*", 8);
    }

    #[test]
    fn what_shows_something_is_decoded_with_all_before_it() {
        let mut sizes = [SMALL; 20];
        sizes[8] = LARGE;
        // 3 and 6 were put off, and 8 is looked at in their place.
        check(&sizes, |_| true, "0* 1 2 3 4 5 6 7 8* 9* 10 11 12* 15*", 2);
        // Gates that open in between, for another reason.
        check(&[SMALL; 20], |number| number != 5, "0* 1 2 3 4 5* 6* 7 8 9* 10 11 12* 15*", 1);
    }

    #[test]
    fn no_more_is_held_than_it_may_be() {
        let sets = sets();
        let mut hold = Hold::new(1);
        for number in 1..1_000 {
            let picture = picture(number, 100_000, 0, &sets);
            hold.take(picture, false);
            assert!(hold.waiting.len() < MOST && hold.bytes <= MOST_BYTES);
        }
        for number in 1..1_000 {
            hold.take(picture(number, 10, 0, &sets), false);
            assert!(hold.waiting.len() < MOST);
        }
    }

    #[test]
    fn detectors_move_one_by_one() {
        let moving = Moving::new(2);
        assert!(moving.is_any());
        moving.set(0, false);
        assert!(moving.is_any());
        moving.set(1, false);
        assert!(!moving.is_any());
        moving.set(1, true);
        assert!(moving.is_any());
        assert!(!Moving::new(0).is_any());
    }
}
