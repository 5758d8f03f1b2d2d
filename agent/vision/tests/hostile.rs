//! Files and pictures that nobody means well with: an error each, never a panic, never an end of the process.

use edgecam_vision::{Description, Layout, Model, ModelError, Output, PictureError, Planes, Region, RunError};

fn load(bytes: &[u8]) -> Result<Model, ModelError> {
    Model::load(bytes, &Description::default())
}

#[test]
fn a_file_that_ends_early_is_an_error() {
    let whole = Model::shapes_file();
    assert!(load(whole).is_ok());
    for length in (0..200).chain((200..whole.len()).step_by(whole.len() / 40)) {
        let error = load(&whole[..length]).expect_err("refused").to_string();
        assert!(!error.is_empty() && !error.contains('\n'), "{length}: {error}");
    }
}

#[test]
fn a_damaged_file_is_an_error_or_another_model() {
    let whole = Model::shapes_file();
    let mut rng = fastrand::Rng::with_seed(9);
    let (mut refused, mut loaded) = (0, 0);
    for round in 0..250 {
        let mut bytes = whole.to_vec();
        for _ in 0..rng.usize(1..6) {
            // Weights are most of the file; what lies around them is what can hurt.
            let at = if round % 2 == 0 { rng.usize(..bytes.len()) } else { bytes.len() - 1 - rng.usize(..4000) };
            bytes[at] = rng.u8(..);
        }
        match load(&bytes) {
            Ok(_) => loaded += 1,
            Err(error) => {
                assert!(error.to_string().len() < 1000, "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 10 && loaded > 10, "{refused} {loaded}");
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    // The last weights in the file are a convolution's: make a run of them NaN.
    let whole = Model::shapes_file();
    let mut bytes = whole.to_vec();
    let at = whole.windows(4).position(|window| window == b"head").expect("a tensor's name");
    bytes[at - 200..at - 100].fill(0xff);
    let error = load(&bytes);
    assert!(matches!(error, Err(ModelError::Trial(RunError::NotANumber { .. }) | ModelError::NotOnnx(_))), "{error:?}");
}

#[test]
fn descriptions_that_no_model_can_mean() {
    let check = |json: &str, expected: &str| {
        let description: Description = serde_json::from_str(json).expect("a description");
        let error = Model::load(Model::shapes_file(), &description).expect_err("refused").to_string();
        assert!(error.contains(expected), "{json}: {error}");
    };
    check(r#"{"iou_threshold": 2}"#, "iou_threshold");
    check(r#"{"std": [1, 0, 1]}"#, "std");
    check(r#"{"width": 0}"#, "width");
    check(r#"{"width": 321}"#, "the model takes 320 alone");
    check(r#"{"colours": "grey"}"#, "3 channels");
    check(r#"{"labels": ["a", "b"]}"#, "3 classes");
    check(r#"{"layout": "nanodet"}"#, "Nanodet");
    check(r#"{"task": "text"}"#, "task");
    assert!(serde_json::from_str::<Description>(r#"{"lables": []}"#).is_err(), "unknown keys are refused");
}

#[test]
fn pictures_of_any_size() {
    let model = Model::shapes().expect("it loads");
    assert_eq!((model.layout(), model.labels().len()), (Layout::Grid, 3));
    let mut runner = model.runner().expect("it runs");
    let data = vec![90; 1 << 16];
    for (width, height) in [(1, 1), (3, 2), (16_384, 1), (1, 16_384), (1280, 51)] {
        let stride = width as usize;
        let planes = Planes::new([&data, &data, &data], (stride, stride, stride), width, height).expect("a picture");
        let Ok(Output::Detections(seen)) = runner.run(&planes, None, 0.5) else { panic!("{width}x{height}") };
        assert!(seen.iter().all(|seen| seen.bbox.x2 <= width as f32 && seen.bbox.y2 <= height as f32), "{seen:?}");
        let outside = Region { x: 0, y: 0, width: width + 1, height };
        let error = runner.run(&planes, Some(outside), 0.5);
        assert!(matches!(error, Err(RunError::Picture(PictureError::Region { .. }))), "{error:?}");
    }
}

#[test]
fn one_model_in_many_threads() {
    let model = Model::shapes().expect("it loads");
    let data = vec![90; 320 * 192];
    std::thread::scope(|scope| {
        let run = || {
            let planes = Planes::new([&data, &data, &data], (320, 320, 320), 320, 192).expect("a picture");
            let mut runner = model.runner().expect("it runs");
            (0..5).all(|_| runner.run(&planes, None, 0.5).is_ok())
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        assert!(threads.into_iter().all(|thread| thread.join().expect("no panic")));
    });
}
