use super::*;

fn millis(value: u64) -> Duration {
    Duration::from_millis(value)
}

fn detection(class: u32, confidence: f32, x: f32, y: f32) -> Detection {
    Detection { class, confidence, bbox: Rect::centred(x, y, 40.0, 60.0) }
}

fn ids(tracks: &[Track]) -> Vec<u64> {
    tracks.iter().filter(|track| track.is_confirmed && track.is_seen).map(|track| track.id).collect()
}

#[test]
fn things_keep_their_ids_while_they_move_at_any_rate() {
    for step in [66, 200, 300] {
        let mut tracker = Tracker::new(TrackerSettings::default());
        for picture in 0..20 {
            let at = picture as f32 * step as f32 / 1000.0;
            // 60 and 30 pixels a second, towards each other in different rows, the order of boxes changing.
            let mut seen =
                vec![detection(0, 0.9, 100.0 + 60.0 * at, 100.0), detection(0, 0.8, 500.0 - 30.0 * at, 300.0)];
            if picture % 2 == 1 {
                seen.reverse();
            }
            let tracks = tracker.update(&seen, millis(picture * step));
            if picture > 0 {
                assert_eq!(ids(tracks), [1, 2], "picture {picture}, {step} ms");
            }
        }
    }
}

#[test]
fn velocity_bridges_what_the_boxes_do_not_share() {
    // 240 pixels a second at 5 pictures a second: one box is 48 pixels from the next, and 40 wide.
    let settings = TrackerSettings { least_iou: 0.1, ..TrackerSettings::default() };
    let mut tracker = Tracker::new(settings);
    let mut speed = 0.0;
    for picture in 0..30_u64 {
        speed = (speed + 20.0_f32).min(240.0);
        let x = 100.0 + (0..=picture).map(|at| (20.0 * (at + 1) as f32).min(240.0) * 0.2).sum::<f32>();
        let tracks = tracker.update(&[detection(0, 0.9, x, 100.0)], millis(picture * 200));
        assert_eq!(tracks.len(), 1, "picture {picture} at {speed} pixels a second: {tracks:?}");
    }
    assert_eq!(tracker.tracks()[0].id, 1);
}

#[test]
fn what_is_hidden_for_a_while_is_the_same_afterwards_and_what_is_gone_ends() {
    let mut tracker = Tracker::new(TrackerSettings::default());
    let place = |picture: u64| detection(0, 0.9, 100.0 + 6.0 * picture as f32, 100.0);
    for picture in 0..10 {
        tracker.update(&[place(picture)], millis(picture * 100));
    }
    for picture in 10..15 {
        let tracks = tracker.update(&[], millis(picture * 100));
        assert!(tracks.len() == 1 && !tracks[0].is_seen, "{tracks:?}");
    }
    let tracks = tracker.update(&[place(15)], millis(1500));
    assert_eq!(ids(tracks), [1]);
    assert_eq!((tracks[0].since, tracks[0].seen_at, tracks[0].hits), (millis(0), millis(1500), 11));
    assert_eq!(tracker.update(&[], millis(3499)).len(), 1);
    assert_eq!(tracker.update(&[], millis(3500)).len(), 0);
    tracker.update(&[place(15)], millis(3600));
    assert_eq!(ids(tracker.update(&[place(15)], millis(3700))), [2], "an id is never used again");
}

#[test]
fn unsure_boxes_go_on_with_tracks_and_begin_none() {
    let mut tracker = Tracker::new(TrackerSettings::default());
    for picture in 0..3 {
        tracker.update(&[detection(0, 0.9, 100.0, 100.0)], millis(picture * 100));
    }
    let unsure = [detection(0, 0.2, 102.0, 100.0), detection(0, 0.2, 400.0, 100.0)];
    assert_eq!(ids(tracker.update(&unsure, millis(300))), [1]);
    assert_eq!(tracker.tracks().len(), 1);
    let too_unsure = [detection(0, 0.05, 102.0, 100.0)];
    assert_eq!(ids(tracker.update(&too_unsure, millis(400))), [0; 0]);
}

#[test]
fn one_picture_makes_no_track_and_the_class_is_voted() {
    let mut tracker = Tracker::new(TrackerSettings::default());
    assert_eq!(ids(tracker.update(&[detection(2, 0.9, 100.0, 100.0)], millis(0))), [0; 0]);
    assert_eq!(tracker.update(&[], millis(100)).len(), 0);
    for (picture, class) in [2, 5, 2, 2, 5].into_iter().enumerate() {
        tracker.update(&[detection(class, 0.9, 100.0, 100.0)], millis(200 + 100 * picture as u64));
    }
    let [track] = tracker.tracks() else { panic!("{:?}", tracker.tracks()) };
    assert_eq!((track.class, track.hits), (2, 5));
}

#[test]
fn a_clock_that_goes_back_and_boxes_of_no_size_do_no_harm() {
    let mut tracker = Tracker::new(TrackerSettings::default());
    tracker.update(&[detection(0, 0.9, 100.0, 100.0)], millis(1000));
    tracker.update(&[detection(0, 0.9, 100.0, 100.0)], millis(0));
    assert_eq!(ids(tracker.tracks()), [1]);
    let empty = Detection { class: 0, confidence: 0.9, bbox: Rect::default() };
    for picture in 0..5 {
        let tracks = tracker.update(&[empty], millis(1000 + picture));
        assert!(tracks.iter().all(|track| track.bbox.x1.is_finite()), "{tracks:?}");
    }
}
