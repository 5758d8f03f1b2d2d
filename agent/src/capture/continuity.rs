//! Finds where a camera's clock jumps, as it does when NTP sets it or the encoder starts anew in mid-stream.

use std::time::Duration;

use edgecam_media::Ticks;

/// A jump larger than this cannot be jitter of the network, nor the reordering of B-frames.
const JUMP: Ticks = Ticks::from_seconds(5);

/// Compares the camera's clock with the arrival of its pictures.
#[derive(Debug, Default)]
pub(super) struct Continuity {
    last: Option<Ticks>,
}

impl Continuity {
    /// Whether a picture of `media` time that arrived at `monotonic` follows the one before. Where it does not, times
    /// up to the next IDR belong to another timeline than the pictures already delivered.
    pub(super) fn follows(&mut self, media: Ticks, monotonic: Duration) -> bool {
        let lag = Ticks::from_duration(monotonic) - media;
        let jump = self.last.replace(lag).map_or(Ticks::ZERO, |last| lag - last);
        jump.get().unsigned_abs() <= JUMP.get().unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_are_found_once() {
        let mut continuity = Continuity::default();
        for (media_millis, arrival_millis, expected) in [
            (0, 1000, true),
            (40, 1050, true),
            // B-frames and jitter.
            (160, 1080, true),
            (80, 1120, true),
            // A slow camera: one frame in ten seconds.
            (10_160, 11_100, true),
            // Forward by an hour, back by a day.
            (3_610_200, 11_140, false),
            (3_610_240, 11_180, true),
            (-82_789_760, 11_220, false),
            (-82_789_720, 11_260, true),
            // The network stood still, the camera did not: the pictures come late, but they follow.
            (-82_789_680, 15_000, true),
        ] {
            let follows = continuity.follows(Ticks::from_millis(media_millis), Duration::from_millis(arrival_millis));
            assert_eq!(follows, expected, "{media_millis} at {arrival_millis}");
        }
    }
}
