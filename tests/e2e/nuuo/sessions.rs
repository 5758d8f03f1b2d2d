//! Sessions of a Crystal end in three ways, and none of them may cost more than the pictures of the pause.

use super::server::{Dialect, Dress, Fault};
use super::{check, clip, source};
use crate::harness::{Rig, rig};
use crate::nuuo::server::{Camera, Server};
use crate::nuuo::xml;

/// XML in mid-stream: a new session in the same attempt, and the new one is the one that is used.
#[tokio::test]
async fn expired_in_band() {
    let faults = [(30, Fault::ExpireInBand), (60, Fault::ExpireInBand)];
    let (report, rig) = check("session-in-band", Dialect::Crystal, Dress::default(), &faults).await;
    assert_eq!(report["attempts"], 1, "{report:#}");
    assert_eq!(rig.agent().log_count("the session has expired"), 2);
}

/// A session that is refused with 400, and one that is answered with 200 and XML, as soon as it is given: the attempt
/// ends, the next one logs in anew.
#[tokio::test]
async fn refused_at_once() {
    for (test, fault, says) in [
        ("session-400", Fault::Refuse, "it answered 400"),
        ("session-xml", Fault::RefuseByXml, "what is no part of it"),
    ] {
        let (report, rig) = check(test, Dialect::Crystal, Dress::default(), &[(45, fault)]).await;
        assert_eq!(report["attempts"], 3, "{report:#}");
        assert!(rig.agent().log_count(says) == 1, "{}", rig.agent().log_tail());
    }
}

/// A login that fails is no 401: it is wrong all the same, and not tried again at once.
#[tokio::test]
async fn login_that_fails() {
    let (units, _) = clip(6).await;
    let server = Server::start(Dialect::Crystal, vec![Camera::new("1", "Hall", &units)]);
    let answer = xml::login_failed();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
    server.state().instead.insert("login", [head.as_bytes(), &answer].concat());
    let mut rig = Rig::new("login", vec![rig::camera("cam1", "nuuo", source(&server, "/Hall"))]).await;
    rig.start();
    let report = rig.agent().until_state("cam1", "auth_failed").await;
    assert_eq!(report["attempts"], 1, "{report:#}");
    rig.stop().await;
}
