//! Times of a file that is played again and again, as one timeline.

use edgecam_media::Ticks;

/// When a picture is to be shown, and when it is to be handed on so that it can be decoded in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Times {
    /// Presentation time.
    pub(super) pts: Ticks,
    /// Decoding time.
    pub(super) due: Ticks,
}

/// A frame of a file that says nothing about its rate.
const FALLBACK_DURATION: Ticks = Ticks::new(3600);

/// Puts passes behind each other. Each begins at the presentation time of its first picture, whatever the file calls
/// that: the agent's own archive counts from 1970.
#[derive(Default)]
pub(super) struct Passes {
    base: Ticks,
    first: Option<Times>,
    last: Option<Times>,
    end: Ticks,
}

impl Passes {
    /// Moves a picture of the current pass to its place on the timeline.
    pub(super) fn place(&mut self, times: Times, duration: Option<Ticks>) -> Times {
        let first = *self.first.get_or_insert(times);
        let known = duration.filter(|duration| duration.get() > 0);
        let gap = || self.last.map(|last| times.due - last.due).filter(|gap| gap.get() > 0);
        let duration = known.or_else(gap).unwrap_or(FALLBACK_DURATION);
        let placed = Times { pts: self.base + (times.pts - first.pts), due: self.base + (times.due - first.due) };
        self.end = self.end.max(placed.pts + duration);
        self.last = Some(times);
        placed
    }

    /// The file starts again.
    pub(super) fn next(&mut self) {
        *self = Self { base: self.end, end: self.end, first: None, last: None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_follow_each_other_without_a_seam() {
        let check = |name: &str, pass: &[(i64, i64, Option<i64>)], expected: &[(i64, i64)]| {
            let mut passes = Passes::default();
            let mut placed = Vec::new();
            for _ in 0..2 {
                for &(pts, due, duration) in pass {
                    let times = Times { pts: Ticks::from_millis(pts), due: Ticks::from_millis(due) };
                    let Times { pts, due } = passes.place(times, duration.map(Ticks::from_millis));
                    placed.push((pts.millis(), due.millis()));
                }
                passes.next();
            }
            assert_eq!(placed, expected, "{name}");
        };
        check("even", &[(0, 0, Some(40)), (40, 40, Some(40))], &[(0, 0), (40, 40), (80, 80), (120, 120)]);
        check("the last gap counts", &[(0, 0, None), (50, 50, None)], &[(0, 0), (50, 50), (100, 100), (150, 150)]);
        check("a single picture", &[(7, 7, None)], &[(0, 0), (40, 40)]);
        check("from 1970", &[(9000, 9000, Some(10))], &[(0, 0), (10, 10)]);
        check(
            "B-frames",
            &[(80, 0, Some(40)), (200, 40, Some(40)), (120, 80, Some(40)), (160, 120, Some(40))],
            &[(0, 0), (120, 40), (40, 80), (80, 120), (160, 160), (280, 200), (200, 240), (240, 280)],
        );
    }
}
