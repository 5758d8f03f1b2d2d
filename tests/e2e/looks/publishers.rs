//! Events at real services (moto for Kinesis, S3 and DynamoDB) and a webhook, while both sides come and go: each event
//! arrives, none is told twice with another content, and those of a camera are in order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener as Port;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{looked_at, shapes};
use crate::harness::moto::Moto;
use crate::harness::{PATIENCE, Rig, poll};

/// Events that must have been told before it is enough.
const EVENTS: usize = 1000;

async fn furnish(moto: &Moto) {
    moto.boto(
        "kinesis.create_stream(StreamName='detections', ShardCount=1)\n\
         s3.create_bucket(Bucket='pictures', CreateBucketConfiguration={'LocationConstraint': 'eu-central-1'})\n\
         dynamodb.create_table(TableName='events', BillingMode='PAY_PER_REQUEST',\n\
           KeySchema=[{'AttributeName': 'camera_id', 'KeyType': 'HASH'}, {'AttributeName': 'timestamp', 'KeyType': 'RANGE'}],\n\
           AttributeDefinitions=[{'AttributeName': 'camera_id', 'AttributeType': 'S'}, {'AttributeName': 'timestamp', 'AttributeType': 'N'}])\n",
    )
    .await;
}

/// The records of the Kinesis stream, in order.
async fn records(moto: &Moto) -> Vec<(String, Value)> {
    let found = moto
        .boto(
            "i = kinesis.get_shard_iterator(StreamName='detections', ShardId='shardId-000000000000', \
             ShardIteratorType='TRIM_HORIZON')['ShardIterator']\nall = []\nwhile True:\n  \
             r = kinesis.get_records(ShardIterator=i, Limit=1000)\n  all += [(x['PartitionKey'], x['Data'].decode()) \
             for x in r['Records']]\n  i = r['NextShardIterator']\n  if not r['Records']: break\nprint(json.dumps(all))\n",
        )
        .await;
    let record = |pair: &Value| {
        let text = pair[1].as_str().expect("text");
        (pair[0].as_str().unwrap_or_default().to_owned(), serde_json::from_str(text).expect("JSON"))
    };
    found.as_array().expect("a list").iter().map(record).collect()
}

/// Stands between the agent and moto; while it is down nobody gets through, and who is connected is cut.
struct Way {
    port: u16,
    down: Arc<Mutex<CancellationToken>>,
    _task: JoinSet<()>,
}

impl Way {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("bound").port();
        let down = Arc::new(Mutex::new(CancellationToken::new()));
        let state = down.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((mut ours, _)) = listener.accept().await else { return };
                let token = state.lock().expect("no panic").clone();
                connections.spawn(async move {
                    let through = async {
                        if let Ok(mut theirs) = TcpStream::connect(("127.0.0.1", port)).await {
                            copy_bidirectional(&mut ours, &mut theirs).await.ok();
                        }
                    };
                    token.run_until_cancelled(through).await;
                });
            }
        });
        Self { port: own, down, _task: task }
    }

    fn cut(&self) {
        self.down.lock().expect("no panic").cancel();
    }

    fn mend(&self) {
        *self.down.lock().expect("no panic") = CancellationToken::new();
    }
}

#[tokio::test]
async fn each_event_arrives_at_kinesis_s3_and_dynamodb() {
    let moto = Moto::start().await;
    furnish(&moto).await;
    let way = Way::to(moto.port).await;
    let mut cameras = Vec::new();
    for name in ["cam1", "cam2"] {
        let mut camera = looked_at(name, 10, &shapes());
        camera.as_object_mut().expect("an object").remove("upload");
        cameras.push(camera);
    }
    let mut rig = Rig::new("publish", cameras).await;
    rig.config["publishers"] = json!({
        "kinesis_stream_name": "detections", "dynamodb_table": "events", "s3_bucket": "pictures", "s3_prefix": "seen",
        "directory": rig.scratch.join("events"), "directory_max_size": "1 GiB",
    });
    for service in ["KINESIS", "S3", "DYNAMODB"] {
        rig.environment.push((format!("AWS_ENDPOINT_URL_{service}"), format!("http://127.0.0.1:{}", way.port)));
    }
    rig.start();
    let told = async |rig: &Rig, count: usize| {
        let directory = rig.scratch.join("events");
        let found = poll(PATIENCE * 3, async || (super::files(&directory, "json").len() >= count).then_some(())).await;
        assert!(
            found.is_some(),
            "{} of {count} events\n{}",
            super::files(&directory, "json").len(),
            rig.agent().log_tail()
        );
    };
    // The service goes and comes back, the agent is killed and comes back.
    told(&rig, EVENTS / 4).await;
    way.cut();
    told(&rig, EVENTS / 2).await;
    rig.agent.as_mut().expect("started").kill();
    rig.start();
    told(&rig, EVENTS * 3 / 4).await;
    way.mend();
    told(&rig, EVENTS).await;
    rig.agent().signal(Signal::TERM);
    rig.agent.as_mut().expect("started").exit(Duration::from_secs(15)).await;
    rig.start();
    let idle = |health: &Value| {
        let all = health["publishers"].as_array().cloned().unwrap_or_default();
        all.len() == 4 && all.iter().all(|one| one["waiting"].as_u64() <= Some(40) && one["error"].is_null())
    };
    let all_out = async || {
        let health = crate::harness::http::get(rig.port, "/health").await.ok()?.json();
        idle(&health).then_some(())
    };
    assert!(poll(PATIENCE * 4, all_out).await.is_some(), "{}", rig.agent().log_tail());
    rig.stop().await;
    let records = records(&moto).await;
    let mut by_id: BTreeMap<String, Value> = BTreeMap::new();
    let mut newest: BTreeMap<String, f64> = BTreeMap::new();
    for (key, event) in &records {
        let id = event["id"].as_str().expect("an id").to_owned();
        assert_eq!(event["camera_id"], **key, "the partition key is the camera");
        let at = event["timestamp"].as_f64().expect("a time");
        match by_id.get(&id) {
            Some(known) => assert_eq!(known, event, "told twice, and differently"),
            None => {
                let before = newest.insert(key.clone(), at).unwrap_or_default();
                assert!(at >= before, "{key}: {at} after {before}");
                by_id.insert(id, event.clone());
            }
        }
    }
    // What the directory had, but for what was not on its way yet when the agent ended.
    let in_directory = super::files(&rig.scratch.join("events"), "json");
    let ids: BTreeSet<String> =
        in_directory.iter().filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    let last = ids.iter().filter(|id| !by_id.contains_key(*id)).count();
    assert!(ids.len() >= EVENTS && last <= 45, "{last} of {} events did not arrive at Kinesis", ids.len());
    // Revisions of an event have no gap.
    let mut revisions: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for event in by_id.values() {
        let id = event["event_id"].as_str().expect("an id");
        revisions.entry(id).or_default().insert(event["revision"].as_u64().expect("a number"));
    }
    for (id, revisions) in &revisions {
        let (first, last) = (revisions.first().copied(), revisions.last().copied());
        assert_eq!(first, Some(1), "{id}");
        assert_eq!(Some(revisions.len() as u64), last, "{id}: {revisions:?}");
    }
    let keys = moto
        .boto("p = s3.get_paginator('list_objects_v2')\nprint(json.dumps([o['Key'] for x in p.paginate(Bucket='pictures') for o in x.get('Contents', [])]))\n")
        .await;
    let keys: Vec<&str> = keys.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(keys.iter().any(|key| key.starts_with("seen/cam1/20") && key.ends_with("-1.jpg")), "{:?}", keys.first());
    let head = moto
        .boto("o = s3.list_objects_v2(Bucket='pictures', Prefix='seen/cam1/')['Contents'][0]['Key']\nh = s3.head_object(Bucket='pictures', Key=o)\nprint(json.dumps([h['ServerSideEncryption'], h['Metadata']]))\n")
        .await;
    assert!(head[0] == "AES256" && head[1]["camera-id"] == "cam1", "{head}");
    let items = moto
        .boto("p = dynamodb.get_paginator('scan')\nprint(json.dumps([i['camera_id']['S'] for x in p.paginate(TableName='events') for i in x['Items']]))\n")
        .await;
    assert!(items.as_array().is_some_and(|items| items.len() > 100), "{} items", items);
}

/// A bucket, a stream and a table that do not exist, and a webhook that refuses: each is named, and the rest goes on.
#[tokio::test]
async fn destinations_that_do_not_exist_are_named() {
    let moto = Moto::start().await;
    let mut camera = looked_at("cam1", 5, &shapes());
    camera.as_object_mut().expect("an object").remove("upload");
    let mut rig = Rig::new("publish-nowhere", vec![camera]).await;
    let dead = Port::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let directory = rig.scratch.join("events");
    rig.config["publishers"] = json!({
        "kinesis_stream_name": "nothing", "dynamodb_table": "nothing", "s3_bucket": "nothing", "directory": directory,
        "webhook": { "url": format!("http://127.0.0.1:{dead}/hook") },
    });
    for service in ["KINESIS", "S3", "DYNAMODB"] {
        rig.environment.push((format!("AWS_ENDPOINT_URL_{service}"), format!("http://127.0.0.1:{}", moto.port)));
    }
    rig.start();
    let mut last = Value::Null;
    let named = async || {
        let health = crate::harness::http::get(rig.port, "/health").await.ok()?.json();
        last = health["publishers"].clone();
        let says = |kind: &str, text: &str| {
            last.as_array().is_some_and(|all| {
                all.iter()
                    .any(|one| one["type"] == kind && one["error"].as_str().is_some_and(|error| error.contains(text)))
            })
        };
        let all = says("kinesis", "ResourceNotFoundException")
            && says("dynamodb", "ResourceNotFoundException")
            && says("s3", "NoSuchBucket")
            && says("webhook", "refuses connections");
        (all && super::files(&directory, "json").len() > 10).then_some(())
    };
    let found = poll(PATIENCE * 2, named).await;
    assert!(found.is_some(), "{last:#}");
    rig.stop().await;
}

/// A webhook hears each event once, with a signature, in order; a 500 is tried again, a 422 is not.
#[tokio::test]
async fn a_webhook_hears_signed_events() {
    use axum::Router;
    use axum::body::Bytes;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::post;
    let heard: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
    let list = heard.clone();
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let handler = move |headers: HeaderMap, body: Bytes| {
        let (list, count) = (list.clone(), count.clone());
        async move {
            let nth = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if nth == 1 {
                return StatusCode::INTERNAL_SERVER_ERROR;
            }
            if nth == 4 {
                return StatusCode::UNPROCESSABLE_ENTITY;
            }
            let signature =
                headers.get("x-edgecam-signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
            let value = serde_json::from_slice(&body).expect("JSON");
            list.lock().expect("no panic").push((format!("{signature} {}", STANDARD.encode(&body)), value));
            StatusCode::NO_CONTENT
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let mut server = JoinSet::new();
    server.spawn(
        async move { axum::serve(listener, Router::new().route("/hook", post(handler))).await.expect("serves") },
    );
    let mut camera = looked_at("cam1", 5, &shapes());
    camera.as_object_mut().expect("an object").remove("upload");
    let mut rig = Rig::new("publish-hook", vec![camera]).await;
    let secret = rig.scratch.write("secret", "s3cret\n");
    rig.config["publishers"] =
        json!({ "webhook": { "url": format!("http://127.0.0.1:{port}/hook"), "secret_file": secret } });
    rig.start();
    let enough = poll(PATIENCE * 2, async || (heard.lock().expect("no panic").len() >= 20).then_some(())).await;
    assert!(enough.is_some(), "{}", rig.agent().log_tail());
    assert!(!rig.agent().log().contains("s3cret"));
    rig.stop().await;
    let heard = heard.lock().expect("no panic").clone();
    let times: Vec<f64> = heard.iter().filter_map(|(_, event)| event["timestamp"].as_f64()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let (signed, _) = &heard[0];
    let (signature, body) = signed.split_once(' ').expect("both");
    let file = rig.scratch.write("body", STANDARD.decode(body).expect("Base64"));
    let shown = crate::harness::media::tool(
        "openssl",
        &["dgst", "-sha256", "-hmac", "s3cret", "-r", &file.display().to_string()],
    )
    .await;
    let expected = shown.split_whitespace().next().expect("a digest");
    assert_eq!(signature, format!("sha256={expected}"));
}
