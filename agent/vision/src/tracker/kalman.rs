//! Where a box will be: a Kalman filter of constant velocity for each of centre x, centre y, width and height.
//!
//! The four do not influence each other in the model of SORT and ByteTrack (their noise is diagonal), so one filter of
//! eight values is four of two, and no matrix is needed.

use crate::Rect;

/// Standard deviations in shares of the box's height, those of DeepSORT and ByteTrack for a 30th of a second.
const POSITION: f32 = 1.0 / 20.0;
const VELOCITY: f32 = 1.0 / 160.0;
const PICTURES_A_SECOND: f32 = 30.0;
/// Sizes change slower than places.
const SIZE: f32 = 0.5;
/// A velocity is forgotten with this half-life: what nobody has seen for a while has not gone on for ever.
const HALF_LIFE_SECONDS: f32 = 2.0;

/// A value and how fast it changes, with their covariance.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Axis {
    value: f32,
    /// A second.
    velocity: f32,
    /// Variance of the value, covariance, variance of the velocity.
    covariance: [f32; 3],
}

impl Axis {
    fn new(value: f32, scale: f32) -> Self {
        let velocity = 10.0 * VELOCITY * PICTURES_A_SECOND * scale;
        Self { value, velocity: 0.0, covariance: [(2.0 * POSITION * scale).powi(2), 0.0, velocity * velocity] }
    }

    fn predict(&mut self, seconds: f32, scale: f32) {
        let [a, b, c] = self.covariance;
        self.value += self.velocity * seconds;
        self.velocity *= 0.5_f32.powf(seconds / HALF_LIFE_SECONDS);
        // Variances of a random walk grow with time.
        let pictures = seconds * PICTURES_A_SECOND;
        let place = (POSITION * scale).powi(2) * pictures;
        let speed = (VELOCITY * PICTURES_A_SECOND * scale).powi(2) * pictures;
        self.covariance = [a + 2.0 * b * seconds + c * seconds * seconds + place, b + c * seconds, c + speed];
    }

    fn update(&mut self, measured: f32, scale: f32) {
        let [a, b, c] = self.covariance;
        let (innovation, sum) = (measured - self.value, a + (POSITION * scale).powi(2));
        let (gain, speed_gain) = (a / sum, b / sum);
        self.value += gain * innovation;
        self.velocity += speed_gain * innovation;
        self.covariance = [a * (1.0 - gain), b * (1.0 - gain), c - speed_gain * b];
    }
}

/// The state of one track.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Kalman {
    x: Axis,
    y: Axis,
    width: Axis,
    height: Axis,
}

impl Kalman {
    pub(super) fn new(bbox: &Rect) -> Self {
        let (x, y) = bbox.centre();
        let scale = scale(bbox.height());
        let size = SIZE * scale;
        Self {
            x: Axis::new(x, scale),
            y: Axis::new(y, scale),
            width: Axis::new(bbox.width(), size),
            height: Axis::new(bbox.height(), size),
        }
    }

    pub(super) fn predict(&mut self, seconds: f32) -> Rect {
        let scale = scale(self.height.value);
        self.x.predict(seconds, scale);
        self.y.predict(seconds, scale);
        self.width.predict(seconds, SIZE * scale);
        self.height.predict(seconds, SIZE * scale);
        Rect::centred(self.x.value, self.y.value, self.width.value.max(1.0), self.height.value.max(1.0))
    }

    pub(super) fn update(&mut self, bbox: &Rect) {
        let (x, y) = bbox.centre();
        let scale = scale(bbox.height());
        self.x.update(x, scale);
        self.y.update(y, scale);
        self.width.update(bbox.width(), SIZE * scale);
        self.height.update(bbox.height(), SIZE * scale);
    }
}

/// A box without height would know its place exactly for ever.
fn scale(height: f32) -> f32 {
    height.max(2.0)
}
