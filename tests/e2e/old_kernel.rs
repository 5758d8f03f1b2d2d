//! A kernel that does not know what came after Linux 4.9 (Debian 9): the agent records, uploads and looks all the same.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::footage::{archived, assert_stored};
use crate::harness::media::Clip;
use crate::harness::rig::looping;
use crate::harness::{PATIENCE, Rig};

/// What the kernel got since, as far as a C library, Rust's or ours might call it.
const NEW: [&str; 12] = [
    "statx",
    "rseq",
    "io_pgetevents",
    "pidfd_open",
    "pidfd_send_signal",
    "clone3",
    "openat2",
    "close_range",
    "faccessat2",
    "epoll_pwait2",
    "io_uring_setup",
    "futex_waitv",
];

/// strace answers ENOSYS in the kernel's place. It makes itself a grandchild (`-D`), so signals meet the agent.
#[tokio::test]
async fn new_calls_have_a_fallback() {
    let clip = Clip::new(10).file().await;
    let mut drawn = json!({ "name": "drawn", "test_pattern": { "width": 320, "height": 180 } });
    drawn["detectors"] = json!([{ "type": "object", "model": "demo" }]);
    let mut rig = Rig::new("old-kernel", vec![looping("cam1", &clip), drawn]).await;
    let calls = rig.scratch.join("calls");
    let refused = format!("inject={}:error=ENOSYS", NEW.join(","));
    let trace = format!("trace={}", NEW.join(","));
    let calls_path = calls.to_string_lossy();
    let strace = ["strace", "-D", "-f", "-qq", "-o", &calls_path, "-e", &trace, "-e", &refused];
    let (config, log) = (rig.write_config(), rig.scratch.join("agent.log"));
    rig.agent = Some(Agent::start_under(&strace, &config, rig.port, &log, &rig.environment));
    rig.more_persisted("cam1", 3).await;
    let looks = |report: &Value| report["inference"]["detectors"][0]["looked"].as_u64() > Some(2);
    rig.agent().until("drawn", "looked at", PATIENCE, looks).await;
    rig.stop().await;
    let archived = archived(&rig.archive("cam1")).await;
    assert_stored(&archived, &rig.kvs.stream("cam1"));
    let calls = std::fs::read_to_string(&calls).expect("what strace has seen");
    let refused = calls.lines().filter(|line| line.contains("(INJECTED)")).filter_map(|line| {
        let (_, call) = line.split_once(' ')?;
        Some(call.trim().split('(').next()?.to_owned())
    });
    let refused: BTreeSet<String> = refused.collect();
    assert!(!refused.is_empty(), "nothing new was called, or strace refuses nothing: {calls}");
}
