use super::*;

fn zone(points: &[[f32; 2]]) -> ZoneDescription {
    let points = points.to_vec();
    ZoneDescription { name: "gate".to_owned(), points, exclude: false, overlap: Overlap::Centre }
}

const SQUARE: [[f32; 2]; 4] = [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]];
/// A "U": what lies between its arms is not in it.
const DENTED: [[f32; 2]; 8] =
    [[0.0, 0.0], [0.2, 0.0], [0.2, 0.8], [0.8, 0.8], [0.8, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];

#[test]
fn what_is_no_polygon_is_refused_by_name() {
    let check = |points: &[[f32; 2]], expected: &str| {
        let error = Zone::new(&zone(points), 1280, 720).expect_err("refused").to_string();
        assert!(error.starts_with("zone gate: ") && error.contains(expected), "{points:?}: {error}");
    };
    check(&[[0.0, 0.0], [1.0, 1.0]], "it has 2 points");
    check(&[[0.0, 0.0]; 101], "it has 101 points");
    check(&[[0.0, 0.0], [1280.5, 0.0], [0.0, 720.0]], "1280.5,0 is outside the frame of 1280x720");
    check(&[[0.0, 0.0], [100.0, -1.0], [0.0, 720.0]], "100,-1 is outside");
    check(&[[0.0, 0.0], [f32::NAN, 0.5], [0.0, 0.7]], "outside");
    check(&[[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]], "crosses itself between points 1 and 3");
    check(&[[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]], "no area");
    // A corner on another edge.
    check(&[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 0.0], [0.0, 1.0]], "crosses itself");
    for share in [0.0, -0.5, 1.5, f32::NAN] {
        let zone = ZoneDescription { overlap: Overlap::Share(share), ..zone(&SQUARE) };
        assert!(matches!(Zone::new(&zone, 1, 1), Err(ZoneError::Share { .. })), "{share}");
    }
    let twice = [zone(&SQUARE), zone(&DENTED)];
    assert_eq!(Zones::new(&twice, 1, 1), Err(ZoneError::Twice { name: "gate".to_owned() }));
    assert!(Zone::new(&zone(&DENTED), 1, 1).is_ok());
}

#[test]
fn pixels_and_fractions_are_the_same_zone_in_any_picture() {
    let pixels = SQUARE.map(|[x, y]| [x * 1280.0, y * 720.0]);
    for points in [SQUARE, pixels] {
        let zone = Zone::new(&zone(&points), 1280, 720).expect("a zone");
        for (width, height) in [(1280, 720), (320, 180)] {
            let centred = |x: f32, y: f32| Rect::centred(x * width as f32, y * height as f32, 10.0, 10.0);
            assert!(zone.has(&centred(0.5, 0.5), width, height) && zone.has(&centred(0.26, 0.74), width, height));
            assert!(!zone.has(&centred(0.24, 0.5), width, height) && !zone.has(&centred(0.5, 0.76), width, height));
        }
    }
}

#[test]
fn a_share_of_the_box() {
    let check = |points: &[[f32; 2]], bbox: [f32; 4], expected: f32| {
        let [x1, y1, x2, y2] = bbox.map(|value| value * 100.0);
        let bbox = Rect { x1, y1, x2, y2 };
        for (share, is_in) in [(expected - 0.01, true), (expected + 0.01, false)] {
            if share > 0.0 && share <= 1.0 {
                let description = ZoneDescription { overlap: Overlap::Share(share), ..zone(points) };
                let zone = Zone::new(&description, 1, 1).expect("a zone");
                assert_eq!(zone.has(&bbox, 100, 100), is_in, "{bbox:?} {share}");
            }
        }
    };
    check(&SQUARE, [0.3, 0.3, 0.5, 0.5], 1.0);
    check(&SQUARE, [0.15, 0.3, 0.35, 0.5], 0.5);
    check(&SQUARE, [0.0, 0.0, 1.0, 1.0], 0.25);
    check(&SQUARE, [0.8, 0.8, 1.0, 1.0], 0.0);
    check(&DENTED, [0.0, 0.0, 1.0, 0.5], 0.4);
    check(&DENTED, [0.0, 0.0, 1.0, 1.0], 0.52);
    check(&[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.0, 0.0, 1.0, 1.0], 0.5);
    let all = ZoneDescription { overlap: Overlap::Share(1.0), ..zone(&SQUARE) };
    let all = Zone::new(&all, 1, 1).expect("a zone");
    assert!(all.has(&Rect { x1: 30.0, y1: 30.0, x2: 50.0, y2: 50.0 }, 100, 100), "wholly inside is inside");
    assert!(!all.has(&Rect { x1: 30.0, y1: 30.0, x2: 30.0, y2: 50.0 }, 100, 100), "a box without area");
}

#[test]
fn what_counts() {
    let excluded = ZoneDescription { name: "tree".to_owned(), exclude: true, ..zone(&SQUARE) };
    let included = zone(&[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]);
    let at = |x: f32| Rect::centred(x * 100.0, 50.0, 4.0, 4.0);
    for (zones, expected) in [
        (&[][..], [true, true, true, true]),
        (std::slice::from_ref(&included), [true, true, false, false]),
        (std::slice::from_ref(&excluded), [true, false, false, true]),
        (&[included.clone(), excluded.clone()][..], [true, false, false, false]),
    ] {
        let zones = Zones::new(zones, 1, 1).expect("zones");
        let seen = [0.1, 0.3, 0.6, 0.9].map(|x| zones.count(&at(x), 100, 100));
        assert_eq!(seen, expected, "{zones:?}");
        assert_eq!([0.1, 0.3, 0.6, 0.9].map(|x| zones.count_point((x, 0.5))), expected);
        let bbox = at(0.3);
        let names: Vec<_> = zones.of(&bbox, 100, 100).map(Zone::name).collect();
        assert!(names.is_empty() || names == ["gate"], "{names:?}");
    }
}
