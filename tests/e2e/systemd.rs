//! What a service manager hears: ready, status, watchdog, reload, stop (sd_notify(3)).

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::net::UnixDatagram;

use crate::harness::media::Clip;
use crate::harness::rig::{camera, looping};
use crate::harness::{PATIENCE, Rig};

/// The service manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn of(rig: &mut Rig) -> Self {
        let path = rig.scratch.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        rig.environment.push(("NOTIFY_SOCKET".to_owned(), path.display().to_string()));
        // Two seconds: a sign of life is due at least twice in that time.
        rig.environment.push(("WATCHDOG_USEC".to_owned(), "2000000".to_owned()));
        Self { socket, heard: Vec::new() }
    }

    /// Waits for a line.
    async fn until(&mut self, line: &str) {
        let mut buffer = [0; 4096];
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.heard.iter().position(|heard| heard == line) {
                self.heard.remove(at);
                return;
            }
            let read = tokio::time::timeout_at(deadline, self.socket.recv(&mut buffer)).await;
            let length =
                read.unwrap_or_else(|_| panic!("`{line}` was not heard; {:?} was", self.heard)).expect("a message");
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.heard.extend(text.lines().map(str::to_owned));
        }
    }
}

#[tokio::test]
async fn ready_alive_reloading_stopping() {
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new("systemd", vec![looping("cam1", &clip)]).await;
    let mut manager = Manager::of(&mut rig);
    rig.start();
    manager.until("READY=1").await;
    assert_eq!(rig.agent().report("cam1").await.map(|report| report["state"].clone()), Some(json!("streaming")));
    manager.until("STATUS=1 of 1 cameras streaming").await;
    for _ in 0..3 {
        manager.until("WATCHDOG=1").await;
    }
    rig.agent().signal(Signal::HUP);
    manager.until("RELOADING=1").await;
    manager.until("READY=1").await;
    rig.agent().signal(Signal::TERM);
    manager.until("STOPPING=1").await;
    let ended = rig.agent.as_mut().expect("it was started").exit(Duration::from_secs(20)).await;
    assert!(ended.success(), "{ended}");
}

/// A camera that is known to be down is no reason to keep a boot waiting.
#[tokio::test]
async fn ready_without_its_camera() {
    let gone = camera("cam1", "file", json!({ "path": "/nonexistent/clip.mp4" }));
    let mut rig = Rig::new("systemd-down", vec![gone]).await;
    let mut manager = Manager::of(&mut rig);
    rig.start();
    manager.until("READY=1").await;
    manager.until("STATUS=0 of 1 cameras streaming").await;
    manager.until("WATCHDOG=1").await;
}
