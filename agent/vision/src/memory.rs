//! Memory that operators of ours keep from picture to picture, one for each thread: getting it from the system page by page is
//! as dear as filling it.

use std::cell::RefCell;

use tract_onnx::tract_core::internal::*;

/// Results smaller than this are as quick from the heap: musl maps what is larger, each by itself.
const LEAST_KEPT: usize = 128 << 10;
/// Bytes of results that are kept at most.
const MOST_KEPT: usize = 4 << 20;

thread_local! {
    static PLANES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// Results, those that others still read included.
    static RESULTS: RefCell<Vec<Arc<Tensor>>> = const { RefCell::new(Vec::new()) };
}

/// Lends so many values, of which nothing is known.
pub(crate) fn with_planes<R>(count: usize, use_them: impl FnOnce(&mut [f32]) -> R) -> R {
    PLANES.with_borrow_mut(|planes| {
        if planes.len() < count {
            planes.resize(count, 0.0);
        }
        use_them(&mut planes[..count])
    })
}

/// A result of this shape, every value of which `compute` writes.
pub(crate) fn result(shape: &[usize], compute: impl FnOnce(&mut [f32]) -> TractResult<()>) -> TractResult<TValue> {
    let is_free = |kept: &Arc<Tensor>| Arc::strong_count(kept) == 1;
    let again = RESULTS.with_borrow_mut(|results| {
        let at = results.iter().position(|kept| is_free(kept) && kept.shape() == shape)?;
        Arc::into_inner(results.swap_remove(at))
    });
    let mut result = match again {
        Some(again) => again,
        None => Tensor::zero::<f32>(shape)?,
    };
    compute(result.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?)?;
    let size = |kept: &Tensor| kept.len() * size_of::<f32>();
    let own = size(&result);
    if own < LEAST_KEPT {
        return Ok(result.into_tvalue());
    }
    let result = result.into_arc_tensor();
    RESULTS.with_borrow_mut(|results| {
        let mut all = own + results.iter().map(|kept| size(kept)).sum::<usize>();
        // What is free and of another shape, of another model perhaps, makes room.
        results.retain(|kept| {
            let stays = all <= MOST_KEPT || !is_free(kept);
            all -= if stays { 0 } else { size(kept) };
            stays
        });
        if all <= MOST_KEPT {
            results.push(result.clone());
        }
    });
    Ok(result.into_tvalue())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(shape: &[usize], value: f32) -> TValue {
        let fill = |out: &mut [f32]| {
            out.fill(value);
            Ok(())
        };
        result(shape, fill).expect("a result")
    }

    fn place(of: &TValue) -> usize {
        of.try_as_plain_ram().expect("plain").as_slice::<f32>().expect("values").as_ptr() as usize
    }

    fn kept() -> usize {
        RESULTS.with_borrow(|results| results.iter().map(|kept| kept.len() * size_of::<f32>()).sum())
    }

    #[test]
    fn what_is_read_is_not_written_and_what_is_free_is_used_again() {
        let first = of(&[1, 8, 64, 64], 1.0);
        let second = of(&[1, 8, 64, 64], 2.0);
        assert_ne!(place(&first), place(&second));
        let plain = first.try_as_plain_ram().expect("plain");
        assert!(plain.as_slice::<f32>().expect("values").iter().all(|value| *value == 1.0));
        let at = place(&first);
        drop(first);
        assert_eq!(place(&of(&[1, 8, 64, 64], 3.0)), at);
        assert_ne!(place(&of(&[1, 4, 128, 64], 3.0)), at, "of another shape");
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut held = std::collections::VecDeque::new();
        for _ in 0..500 {
            held.push_back(of(&[rng.usize(1..40), 64, 64], 1.0));
            if held.len() > rng.usize(0..6) {
                held.pop_front();
            }
            assert!(kept() <= MOST_KEPT, "{}", kept());
        }
        assert!(kept() > MOST_KEPT / 4);
        of(&[1, 2], 1.0);
        let before = kept();
        of(&[1, 3], 1.0);
        assert_eq!(kept(), before, "small ones are not kept");
    }
}
