//! AWS IoT jobs and a device shadow: mosquitto carries them, and a strict stand-in for the service answers as AWS's
//! documents say ("Jobs device MQTT API", "Device Shadow MQTT topics"). It uses no code of the agent's.

mod service;

use serde_json::{Value, json};

use self::service::Service;
use crate::commands::{Fleet, drawn};
use crate::harness::PATIENCE;

async fn fleet(test: &str) -> (Fleet, Service) {
    let mut fleet = Fleet::new(test, vec![drawn("cam1")]).await;
    fleet.rig.config["mqtt"]["jobs"] = json!(true);
    fleet.rig.config["mqtt"]["shadow"] = json!("edgecam");
    fleet.rig.config["commands"]["iot"] =
        json!(["upload", "snapshot", "config", "restart", "camera", "record", "encoder"]);
    let service = Service::new(&fleet.broker).await;
    (fleet, service)
}

#[tokio::test]
async fn jobs() {
    let (mut fleet, mut service) = fleet("iot-jobs").await;
    service.add_job("snap", json!({ "version": "1.0", "operation": "snapshot", "camera": "cam1" }));
    service.add_job("shell", json!({ "operation": "shell", "command": "reboot" }));
    service.add_job("again", json!({ "operation": "restart" }));
    service.add_job("nobody", json!({ "operation": "snapshot", "camera": "nobody" }));
    fleet.rig.start();
    // The picture has to be there before it can be taken.
    fleet.rig.agent().more_frames("cam1", 25).await;
    let ends = service.until(&fleet.broker, "all jobs have ended", |service| service.job_ends().len() == 4).await;
    assert!(ends, "{:#?}\n{}", service.job_ends(), fleet.rig.agent().log_tail());
    let ends = service.job_ends();
    let status = |id: &str| {
        ends.iter().find(|(job, _, _)| job == id).map(|(_, status, details)| (status.clone(), details.clone()))
    };
    let (snap, details) = status("snap").expect("an end");
    assert!(snap == "SUCCEEDED" && details["width"] == "320", "{snap} {details}");
    assert!(
        status("shell")
            .is_some_and(|(status, details)| status == "REJECTED" && details["reason"].to_string().contains("shell"))
    );
    assert_eq!(
        status("again").map(|(status, _)| status).as_deref(),
        Some("SUCCEEDED"),
        "it was answered after the restart"
    );
    assert!(
        status("nobody")
            .is_some_and(|(status, details)| status == "REJECTED" && details["reason"].to_string().contains("nobody"))
    );
    assert_eq!(fleet.rig.agent().log_count("edgecam starts"), 2);

    // Delivered again, as after a lost acknowledgement: no second restart, and the same end.
    service.forget_end("again");
    service.notify(&fleet.broker).await;
    assert!(service.until(&fleet.broker, "ended again", |service| service.job_ends().len() == 4).await);
    fleet.rig.agent().more_frames("cam1", 10).await;
    assert_eq!(fleet.rig.agent().log_count("edgecam starts"), 2);

    // Somebody else has touched the job: the version that was expected is not there.
    service.conflict_once();
    let now = jiff::Timestamp::now().as_millisecond();
    service
        .add_job("past", json!({ "operation": "upload", "camera": "cam1", "start": now - 4_000, "end": now - 1_000 }));
    service.notify(&fleet.broker).await;
    assert!(service.until(&fleet.broker, "uploaded", |service| service.job_ends().len() == 5).await);
    assert_eq!(
        service.job_ends().pop().map(|(id, status, _)| (id, status)),
        Some(("past".to_owned(), "SUCCEEDED".to_owned()))
    );
    assert!(fleet.rig.kvs.stream("cam1").persisted > 0);
    fleet.rig.stop().await;
}

/// A job that the end of the agent cuts short does not stay in progress.
#[tokio::test]
async fn a_job_cut_short() {
    let (mut fleet, mut service) = fleet("iot-cut").await;
    fleet.rig.kvs.stop().await.expect("stopped");
    fleet.rig.start();
    fleet.rig.agent().more_frames("cam1", 40).await;
    let now = jiff::Timestamp::now().as_millisecond();
    service
        .add_job("past", json!({ "operation": "upload", "camera": "cam1", "start": now - 3_000, "end": now - 1_000 }));
    service.notify(&fleet.broker).await;
    assert!(service.until(&fleet.broker, "in progress", |service| service.progress("past") > 0).await);
    fleet.rig.agent.as_mut().expect("it runs").kill();
    fleet.rig.start();
    assert!(service.until(&fleet.broker, "ended", |service| !service.job_ends().is_empty()).await);
    let (_, status, details) = service.job_ends().remove(0);
    assert!(status == "FAILED" && details["reason"].to_string().contains("restarted"), "{status} {details}");
    fleet.rig.stop().await;
}

#[tokio::test]
async fn shadow() {
    let (mut fleet, mut service) = fleet("iot-shadow").await;
    // Desired while the agent was away.
    service.desire(&fleet.broker, json!({ "cameras": { "cam1": { "recording": false } } })).await;
    fleet.rig.start();
    let reported = |service: &Service, path: &str| service.reported().pointer(path).cloned().unwrap_or(Value::Null);
    let off = |service: &Service| reported(service, "/cameras/cam1/recording") == false;
    assert!(service.until(&fleet.broker, "recording off", off).await, "{:#}", service.reported());
    fleet
        .rig
        .agent()
        .until("cam1", "not recording", PATIENCE, |report| report["archive"]["is_recording"] == false)
        .await;

    let desired = json!({ "cameras": { "cam1": { "recording": true, "encoder": { "gop": 10 } } } });
    service.desire(&fleet.broker, desired).await;
    let on = |service: &Service| {
        reported(service, "/cameras/cam1/recording") == true && reported(service, "/cameras/cam1/encoder/gop") == 10
    };
    assert!(service.until(&fleet.broker, "recording on", on).await, "{:#}", service.reported());

    // What cannot be done is said, and nothing else of it is done.
    let desired =
        json!({ "cameras": { "cam1": { "encoder": { "gop": 100_000 } }, "nobody": { "enabled": true } }, "colour": 1 });
    service.desire(&fleet.broker, desired).await;
    let said =
        |service: &Service| reported(service, "/rejected").as_object().is_some_and(|rejected| rejected.len() == 3);
    assert!(service.until(&fleet.broker, "rejected", said).await, "{:#}", service.reported());
    assert_eq!(reported(&service, "/cameras/cam1/encoder/gop"), 10);

    // A message that was late on its way.
    service.replay_old_delta(&fleet.broker, json!({ "cameras": { "cam1": { "enabled": false } } })).await;
    fleet.rig.agent().more_frames("cam1", 20).await;
    assert_eq!(fleet.rig.agent().report("cam1").await.expect("a report")["state"], "streaming");
    // A report that came at the wrong moment is made again.
    service.conflict_once();
    service
        .desire(
            &fleet.broker,
            json!({ "colour": null, "cameras": { "nobody": null, "cam1": { "enabled": false, "encoder": null } } }),
        )
        .await;
    let disabled = |service: &Service| {
        reported(service, "/cameras/cam1/state") == "disabled" && reported(service, "/rejected").is_null()
    };
    assert!(service.until(&fleet.broker, "disabled", disabled).await, "{:#}", service.reported());
    fleet.rig.stop().await;
}
