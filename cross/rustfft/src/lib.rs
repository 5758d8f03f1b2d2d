//! Discrete Fourier transforms for the operators of a model that need them, as tract calls them.
//!
//! Models that look at pictures have none. Halves are taken while a length is even; what is left is summed up as it is defined,
//! so a length that is a large prime takes its square of time. Results are not normalised, as the original's.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use num_complex::Complex;
pub use num_traits;
use num_traits::{FromPrimitive, Signed};

/// A number to transform.
pub trait FftNum: Copy + FromPrimitive + Signed + Sync + Send + Debug + 'static {}

impl<T: Copy + FromPrimitive + Signed + Sync + Send + Debug + 'static> FftNum for T {}

/// Which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FftDirection {
    /// From time to frequency.
    Forward,
    /// From frequency to time.
    Inverse,
}

/// Makes transforms.
#[derive(Default)]
pub struct FftPlanner<T>(PhantomData<T>);

/// A transform of one length.
pub struct Fft<T> {
    length: usize,
    /// The roots of unity, in the order of their angles.
    roots: Vec<Complex<T>>,
}

impl<T: FftNum> FftPlanner<T> {
    /// A planner.
    pub fn new() -> Self {
        Self(PhantomData)
    }

    /// The transform of a length.
    pub fn plan_fft(&mut self, length: usize, direction: FftDirection) -> Arc<Fft<T>> {
        let sign = match direction {
            FftDirection::Forward => -1.0,
            FftDirection::Inverse => 1.0,
        };
        let number = |value| T::from_f64(value).unwrap_or_else(T::zero);
        let root = |at: usize| {
            let (sin, cos) = (sign * std::f64::consts::TAU * at as f64 / length as f64).sin_cos();
            Complex::new(number(cos), number(sin))
        };
        Arc::new(Fft { length, roots: (0..length).map(root).collect() })
    }

    /// The same, from time to frequency.
    pub fn plan_fft_forward(&mut self, length: usize) -> Arc<Fft<T>> {
        self.plan_fft(length, FftDirection::Forward)
    }
}

impl<T: FftNum> Fft<T> {
    /// Transforms each piece of the transform's length in place.
    pub fn process(&self, buffer: &mut [Complex<T>]) {
        for piece in buffer.chunks_exact_mut(self.length.max(1)) {
            let values = self.transformed(piece, 1);
            piece.copy_from_slice(&values);
        }
    }

    /// The transform of some values, whose roots are every `step`th.
    fn transformed(&self, values: &[Complex<T>], step: usize) -> Vec<Complex<T>> {
        let length = values.len();
        if length > 1 && length % 2 == 0 {
            let part = |from: usize| values.iter().copied().skip(from).step_by(2).collect::<Vec<_>>();
            let even = self.transformed(&part(0), step * 2);
            let odd = self.transformed(&part(1), step * 2);
            let turned: Vec<_> = odd.iter().enumerate().map(|(at, value)| self.roots[at * step] * *value).collect();
            let first = even.iter().zip(&turned).map(|(even, odd)| *even + *odd);
            let second = even.iter().zip(&turned).map(|(even, odd)| *even - *odd);
            return first.chain(second).collect();
        }
        let sum = |frequency: usize| {
            let terms = values.iter().enumerate();
            terms.fold(Complex::new(T::zero(), T::zero()), |sum, (at, value)| {
                sum + *value * self.roots[at * frequency % length * step]
            })
        };
        (0..length).map(sum).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defined(values: &[Complex<f64>], sign: f64) -> Vec<Complex<f64>> {
        let length = values.len();
        let term = |k: usize, n: usize| Complex::from_polar(1.0, sign * std::f64::consts::TAU * (k * n) as f64 / length as f64);
        (0..length).map(|k| values.iter().enumerate().map(|(n, value)| value * term(k, n)).sum()).collect()
    }

    #[test]
    fn as_defined_and_back() {
        for length in [1, 2, 3, 5, 8, 12, 30, 64, 97] {
            let values: Vec<_> = (0..length).map(|at| Complex::new((at * at % 7) as f64, at as f64 / 3.0)).collect();
            let mut found = values.clone();
            FftPlanner::new().plan_fft_forward(length).process(&mut found);
            let near = |a: &[Complex<f64>], b: &[Complex<f64>]| a.iter().zip(b).all(|(a, b)| (a - b).norm() < 1e-8 * (1.0 + b.norm()));
            assert!(near(&found, &defined(&values, -1.0)), "{length}");
            FftPlanner::new().plan_fft(length, FftDirection::Inverse).process(&mut found);
            let back: Vec<_> = found.iter().map(|value| value / length as f64).collect();
            assert!(near(&back, &values), "{length}");
        }
        let mut two = vec![Complex::new(1.0_f32, 0.0); 8];
        FftPlanner::new().plan_fft_forward(4).process(&mut two);
        assert_eq!((two[0].re, two[1].re, two[4].re), (4.0, 0.0, 4.0));
    }
}
