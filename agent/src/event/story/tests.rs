use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;

const T0: i64 = 1_000_000;

fn id() -> Arc<str> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Arc::from(NEXT.fetch_add(1, Ordering::Relaxed).to_string())
}

fn settings() -> Events {
    Events {
        min_frames: 2,
        dwell: Duration::ZERO,
        end_after: Duration::from_secs(3),
        cool_down: Duration::from_secs(10),
        update: Duration::from_secs(5),
        pre_roll: Duration::ZERO,
        post_roll: Duration::ZERO,
        clip: false,
    }
}

fn sight(track: u64, class_name: &str, confidence: f32) -> Sight {
    Sight {
        looks_like: None,
        track,
        class: 0,
        class_name: class_name.into(),
        confidence,
        bbox: Some(Rect { x1: 0.0, y1: 0.0, x2: 10.0, y2: 10.0 }),
        text: None,
        zones: Vec::new(),
        is_sure: true,
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(T0 + millis)
}

/// The second, why, things at most, who came, who went.
type Brief = (i64, Change, usize, Vec<u64>, Vec<u64>);

/// Plays a story second by second: tracks of persons that are seen. What is told, with when.
fn play(settings: Events, seconds: &[&[u64]]) -> Vec<Brief> {
    let mut story = Story::new(settings, id);
    let mut all = Vec::new();
    for (second, tracks) in (0..).zip(seconds) {
        let sights: Vec<Sight> = tracks.iter().map(|track| sight(*track, "person", 0.9)).collect();
        let look = story.look(at(second * 1000), &sights);
        all.extend(look.told.into_iter().map(|told| (second, told.change, told.event.most, told.entered, told.left)));
    }
    let ended = story.end();
    all.extend(ended.into_iter().map(|told| (-1, told.change, told.event.most, told.entered, told.left)));
    all
}

#[test]
fn one_who_comes_and_goes() {
    let told = play(settings(), &[&[], &[1], &[1], &[1], &[], &[], &[], &[], &[]]);
    // Seen twice; gone for more than 3 s.
    assert_eq!(told, [(2, Change::Start, 1, vec![1], vec![]), (7, Change::End, 1, vec![], vec![1])]);
}

#[test]
fn what_is_seen_once_is_no_event() {
    assert_eq!(play(settings(), &[&[1], &[], &[], &[], &[], &[2], &[], &[], &[], &[]]), []);
}

#[test]
fn a_gap_shorter_than_the_patience_is_none() {
    let told = play(settings(), &[&[1], &[1], &[], &[], &[1], &[1]]);
    assert_eq!(
        told.iter().map(|(second, change, ..)| (*second, *change)).collect::<Vec<_>>(),
        [(1, Change::Start), (-1, Change::End)]
    );
}

#[test]
fn who_comes_and_goes_while_it_lasts_is_told() {
    let told = play(settings(), &[&[1], &[1], &[1, 2], &[1, 2], &[2], &[2], &[2], &[2], &[2]]);
    assert_eq!(
        told,
        [
            (1, Change::Start, 1, vec![1], vec![]),
            (2, Change::Update, 2, vec![2], vec![]),
            (4, Change::Update, 2, vec![], vec![]),
            // 1 has been away for more than 3 s.
            (-1, Change::End, 2, vec![], vec![1, 2]),
        ]
    );
}

#[test]
fn what_lasts_is_told_again_and_cools_down_after_it() {
    let (first, nobody, second): (&[u64], &[u64], &[u64]) = (&[1], &[], &[2]);
    // It comes back at once after its end, and stays beyond the cool-down.
    let seconds: Vec<&[u64]> = [vec![first; 8], vec![nobody; 4], vec![second; 12]].concat();
    let told = play(settings(), &seconds);
    let brief: Vec<_> = told.iter().map(|(second, change, ..)| (*second, *change)).collect();
    let expected = [(1, Change::Start), (6, Change::Update), (11, Change::End), (21, Change::Start), (-1, Change::End)];
    assert_eq!(brief, expected);
}

#[test]
fn dwell_is_waited_for() {
    let settings = Events { dwell: Duration::from_secs(3), ..settings() };
    let told = play(settings, &[&[1], &[1], &[1], &[1], &[1]]);
    assert_eq!(told.first().map(|(second, change, ..)| (*second, *change)), Some((3, Change::Start)));
}

#[test]
fn nothing_moves_and_all_stay() {
    let mut story = Story::new(settings(), id);
    story.look(at(0), &[sight(1, "person", 0.5)]);
    assert_eq!(story.look(at(1000), &[sight(1, "person", 0.5)]).told.len(), 1);
    for second in 2..60 {
        story.still(at(second * 1000));
    }
    assert_eq!(story.look(at(60_000), &[]).told, [], "it was there a second ago");
    let told = story.look(at(63_000), &[]).told;
    assert_eq!(
        told.iter().map(|told| (told.change, told.event.last_seen)).collect::<Vec<_>>(),
        [(Change::End, at(59_000))]
    );
}

#[test]
fn zones_classes_and_texts_are_events_of_their_own() {
    let mut story = Story::new(Events { min_frames: 1, ..settings() }, id);
    let mut in_both = sight(1, "car", 0.8);
    in_both.zones = vec!["gate".into(), "yard".into()];
    let mut plate = sight(2, "plate", 0.7);
    plate.text = Some("AB 12".into());
    let look = story.look(at(0), &[in_both, plate, sight(3, "person", 0.6), sight(4, "person", 0.9)]);
    let kinds: Vec<(Option<&str>, &str, Option<&str>, f32)> = look
        .told
        .iter()
        .map(|told| {
            let Kind { zone, class_name, text } = &told.event.kind;
            (zone.as_deref(), &**class_name, text.as_deref(), told.event.best.0)
        })
        .collect();
    assert_eq!(
        kinds,
        [
            (None, "person", None, 0.9),
            (None, "plate", Some("AB 12"), 0.7),
            (Some("gate"), "car", None, 0.8),
            (Some("yard"), "car", None, 0.8)
        ]
    );
    let ids: std::collections::BTreeSet<_> = look.told.iter().map(|told| told.event.id.clone()).collect();
    assert_eq!((ids.len(), look.best_of.len()), (4, 4));
}

#[test]
fn a_better_picture_is_noticed() {
    let mut story = Story::new(Events { min_frames: 1, ..settings() }, id);
    let best = |story: &mut Story, second: i64, confidence: f32| {
        story.look(at(second * 1000), &[sight(1, "person", confidence)]).best_of.len()
    };
    assert_eq!([best(&mut story, 0, 0.5), best(&mut story, 1, 0.51), best(&mut story, 2, 0.8)], [1, 0, 1]);
    assert_eq!([best(&mut story, 3, 0.7), best(&mut story, 4, 0.81)], [0, 0]);
}

#[test]
fn kinds_are_bounded() {
    let mut story = Story::new(settings(), id);
    let sights: Vec<Sight> = (0..1000).map(|n| sight(n, &format!("class {n}"), 0.9)).collect();
    story.look(at(0), &sights);
    assert_eq!((story.threads.len(), story.ignored()), (MOST, 1000 - MOST as u64));
}
