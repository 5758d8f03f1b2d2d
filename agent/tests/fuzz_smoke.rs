//! Runs the fuzz targets on made-up bytes, so that they are compiled and tried on every machine. The real search is
//! `cargo +nightly fuzz run <target>`.

#[path = "../../tests/fuzz/smoke.rs"]
mod smoke;
#[path = "../fuzz/targets.rs"]
mod targets;

#[test]
fn targets_hold_on_made_up_bytes() {
    smoke::run(targets::TARGETS);
}
