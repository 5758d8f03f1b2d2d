//! The demo in a real browser: its page shows the scene, and boxes on what moves in it.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::agent::{Agent, free_port};
use crate::harness::media::tool;
use crate::harness::{PATIENCE, Scratch, http, poll};

/// Chromium without a window, and without calls of its own to anywhere.
async fn browser(scratch: &Scratch, arguments: &[&str]) -> String {
    let profile = format!("--user-data-dir={}", scratch.join("profile").display());
    let mut all = vec![
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=900,1000",
        "--virtual-time-budget=12000",
        &profile,
    ];
    all.extend(arguments);
    let output = tokio::process::Command::new("chromium").args(all).output().await.expect("chromium is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn the_demo_shows_boxes() {
    let scratch = Scratch::new("looks-page");
    let port = free_port();
    let (directory, listen) = (scratch.join("footage").display().to_string(), format!("127.0.0.1:{port}"));
    let mut agent = Agent::demo(&["--directory", &directory, "--listen", &listen], port, &scratch.join("agent.log"));
    let looks = |report: &serde_json::Value| {
        let looks = &report["inference"];
        looks["detectors"][0]["looked"].as_u64() > Some(5) && looks["last"]["detections"][0].is_object()
    };
    agent.until("demo", "looked at", PATIENCE * 2, looks).await;
    let url = format!("http://{listen}/");
    // The browser's clock runs ahead of ours: the picture has to be there when it asks.
    let watched = async || {
        let answer = http::get(port, "/streams/demo/seen.jpg").await.ok()?;
        (answer.status == 200).then_some(())
    };
    poll(PATIENCE, watched).await.expect("a picture for who watches");
    let page = browser(&scratch, &["--dump-dom", &url]).await;
    assert!(
        page.contains("class=\"detection\""),
        "no box: {}",
        &page.get(page.len().saturating_sub(3000)..).unwrap_or_default()
    );
    assert!(page.contains("src=\"blob:"), "no picture");
    let picture = scratch.join("page.png");
    poll(PATIENCE, watched).await.expect("a picture for who watches");
    browser(&scratch, &[&format!("--screenshot={}", picture.display()), &url]).await;
    let boxes = orange(&picture).await;
    assert!(boxes > 200, "{boxes} pixels of boxes in {}", picture.display());
    agent.signal(Signal::TERM);
    agent.exit(Duration::from_secs(15)).await;
}

/// Pixels of the colour that boxes have.
async fn orange(picture: &Path) -> usize {
    let raw = picture.with_extension("rgb");
    let (from, to) = (picture.display().to_string(), raw.display().to_string());
    tool("ffmpeg", &["-v", "error", "-i", &from, "-f", "rawvideo", "-pix_fmt", "rgb24", &to]).await;
    let bytes = std::fs::read(raw).expect("it was made");
    let (pixels, _) = bytes.as_chunks::<3>();
    pixels.iter().filter(|[r, g, b]| *r > 235 && (110..165).contains(g) && *b < 40).count()
}
