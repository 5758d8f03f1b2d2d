//! Fragmented MP4 as the archive and players want it: one movie fragment a GOP or part of one.
//!
//! A segment has a video track and may have an audio track. It is `ftyp moov (prft? moof mdat)* mfra?`. Times inside count from the segment's first picture at 90 kHz;
//! `prft` in front of each GOP ties them to the wall clock (ISO/IEC 14496-12 section 8.16.5). `mfra` closes a finished
//! segment and lists its GOPs.
//!
//! Access units come with presentation times in decoding order. Decoding times are made here: within a fragment they
//! are the presentation times sorted, and signed composition offsets (`trun` version 1) lead back. For that a fragment
//! must hold every picture that is shown between its first and its last; [`may_split_before`] says where to cut.

mod init;
mod read;
mod write;

pub use init::init_segment;
pub use read::{Fragment, Init, Sample, ScanError, fragment, init, random_access};
pub use write::{FragmentHead, RandomAccessEntry, random_access_box};

use crate::{AccessUnit, Timestamp};

/// Whether a fragment may end before `next`, given the latest presentation time in it so far: all pictures to come must
/// be shown later. Never before audio: a fragment begins with a picture.
pub fn may_split_before(next: &AccessUnit, latest: Timestamp) -> bool {
    next.is_idr || (next.is_video() && next.pts > latest)
}

/// Seconds between 1900 (NTP) and 1970 (Unix).
const NTP_EPOCH_OFFSET: i64 = 2_208_988_800;

/// A timestamp as 64-bit NTP time: seconds since 1900 and 2^-32 seconds (RFC 5905 section 6).
fn to_ntp(time: Timestamp) -> u64 {
    let ticks = time.ticks();
    let seconds = ticks.div_euclid(90_000) + NTP_EPOCH_OFFSET;
    let fraction = (((ticks.rem_euclid(90_000) as u64) << 32) + 45_000) / 90_000;
    (((seconds as u64) & 0xffff_ffff) << 32) + fraction
}

/// The timestamp of an NTP time, taken to be after 1968: the seconds wrap in 2036 (RFC 5905 section 6).
fn from_ntp(ntp: u64) -> Timestamp {
    let mut seconds = (ntp >> 32) as i64;
    if seconds < 0x8000_0000 {
        seconds += 1 << 32;
    }
    let ticks = ((ntp & 0xffff_ffff) * 90_000 + (1 << 31)) >> 32;
    Timestamp::from_ticks((seconds - NTP_EPOCH_OFFSET) * 90_000 + ticks as i64)
}

#[cfg(test)]
mod tests;
