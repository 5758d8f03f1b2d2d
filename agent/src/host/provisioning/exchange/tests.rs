use super::*;

const PROVISION: &str = "$aws/provisioning-templates/fleet/provision/json";

fn begin(now: Instant) -> Exchange {
    let parameters = BTreeMap::from([("SerialNumber".to_owned(), "7".to_owned())]);
    Exchange::new("fleet", &parameters, "the request", now)
}

fn status(state: MqttState) -> MqttStatus {
    MqttStatus { state, ..MqttStatus::default() }
}

fn waiting(reason: Reason) -> MqttStatus {
    let message = format!("because of {}", reason.name());
    let state = MqttState::Waiting { reason, message: message.clone(), until: edgecam_media::Timestamp::default() };
    MqttStatus { last_error: Some(message), ..status(state) }
}

fn incoming(topic: &str, payload: &Value) -> Incoming {
    Incoming { topic: topic.to_owned(), payload: payload.to_string().into(), retain: false, too_large: None }
}

fn created() -> Incoming {
    let answer = json!({ "certificateOwnershipToken": "t0ken", "certificateId": "c1", "certificatePem": "pem" });
    incoming(&format!("{CREATE}/accepted"), &answer)
}

fn json_of(message: &Message) -> Value {
    serde_json::from_slice(&message.payload).expect("JSON")
}

/// An exchange that waits for a certificate, and one that waits for a thing.
fn asked(now: Instant) -> (Exchange, Exchange) {
    let both = [false, true].map(|is_kept| {
        let mut exchange = begin(now);
        let message = exchange.look(&status(MqttState::Connected), now).expect("connected").expect("a request");
        assert_eq!(message.topic, CREATE);
        assert_eq!(json_of(&message), json!({ "certificateSigningRequest": "the request" }));
        if is_kept {
            let action = exchange.receive(&created()).expect("accepted");
            assert_eq!(action, Some(Action::Keep("pem".to_owned())));
            assert!(!format!("{exchange:?}").contains("t0ken"), "{exchange:?}");
            let message = exchange.kept(now).expect("a request");
            assert_eq!(message.topic, PROVISION);
            let wanted = json!({ "certificateOwnershipToken": "t0ken", "parameters": { "SerialNumber": "7" } });
            assert_eq!(json_of(&message), wanted);
        }
        exchange
    });
    both.into()
}

#[test]
fn a_device_is_registered() {
    let now = Instant::now();
    let (_, mut exchange) = asked(now);
    let answer = json!({ "deviceConfiguration": { "stream": "s" }, "thingName": "cam7" });
    let answer = incoming(&format!("{PROVISION}/accepted"), &answer);
    let configuration = json!({ "stream": "s" }).as_object().cloned().expect("an object");
    let done = Action::Done { thing: Some("cam7".to_owned()), certificate_id: "c1".to_owned(), configuration };
    assert_eq!(exchange.receive(&answer), Ok(Some(done)));
    assert_eq!(exchange.receive(&answer), Ok(None), "twice");
    let (_, mut exchange) = asked(now);
    let answer = incoming(&format!("{PROVISION}/accepted"), &json!({ "deviceConfiguration": null, "thingName": null }));
    assert!(matches!(exchange.receive(&answer), Ok(Some(Action::Done { thing: None, .. }))));
}

#[test]
fn subscribes_to_all_answers_within_limits() {
    let filters = begin(Instant::now()).subscriptions();
    let wanted = [CREATE, PROVISION].map(|topic| ["accepted", "rejected"].map(|end| format!("{topic}/{end}"))).concat();
    assert_eq!(filters, wanted);
    assert!(filters.iter().all(|filter| crate::control::mqtt::limits::filter(filter).is_ok()));
    for topic in [CREATE, PROVISION] {
        assert_eq!(crate::control::mqtt::limits::topic(topic), Ok(()));
    }
}

#[test]
fn what_nobody_waits_for_is_ignored() {
    let now = Instant::now();
    let (mut certificate, mut thing) = asked(now);
    let rejected = json!({ "statusCode": 400, "errorCode": "X", "errorMessage": "x" });
    for topic in [format!("{PROVISION}/accepted"), format!("{PROVISION}/rejected"), CREATE.to_owned(), "a".to_owned()] {
        assert_eq!(certificate.receive(&incoming(&topic, &rejected)), Ok(None), "{topic}");
    }
    assert_eq!(certificate.receive(&Incoming { retain: true, ..created() }), Ok(None), "retained");
    assert_eq!(certificate.kept(now), None);
    for again in [created(), incoming(&format!("{CREATE}/rejected"), &rejected)] {
        assert_eq!(thing.receive(&again), Ok(None), "{again:?}");
    }
    assert_eq!(thing.kept(now), None, "the token is used once");
    assert_eq!(begin(now).receive(&created()), Ok(None), "before it is connected");
}

#[test]
fn refusals_are_in_the_words_of_the_service() {
    let now = Instant::now();
    let said = json!({ "statusCode": 400, "errorCode": "InvalidCsr", "errorMessage": "not\na CSR" });
    let (mut certificate, mut thing) = asked(now);
    let error = certificate.receive(&incoming(&format!("{CREATE}/rejected"), &said)).expect_err("no").to_string();
    assert_eq!(error, "AWS IoT refuses a certificate: 400 InvalidCsr: not a CSR");
    let error = thing.receive(&incoming(&format!("{PROVISION}/rejected"), &json!({}))).expect_err("no").to_string();
    assert_eq!(error, "AWS IoT refuses a thing: without a reason");
    assert!(refusal(json!({ "errorMessage": "x".repeat(1000) }).to_string().as_bytes()).len() <= WORDS_MOST);
}

#[test]
fn answers_that_cannot_be_used_do_not_show_the_token() {
    let now = Instant::now();
    for payload in
        [json!({ "certificateOwnershipToken": "t0ken" }), json!({ "certificateId": { "t0ken": 1 } }), json!(1)]
    {
        let (mut exchange, _) = asked(now);
        let error = exchange.receive(&incoming(&format!("{CREATE}/accepted"), &payload)).expect_err("incomplete");
        let text = format!("{error} {error:?}");
        assert!(text.contains("cannot be used") && !text.contains("t0ken"), "{text}");
    }
    let (mut exchange, _) = asked(now);
    let large = Incoming { payload: Bytes::new(), too_large: Some(1 << 20), ..created() };
    assert!(exchange.receive(&large).is_err_and(|error| error.to_string().contains("1048576 bytes")));
}

#[test]
fn each_step_has_a_deadline() {
    let now = Instant::now();
    let up = status(MqttState::Connected);
    let mut exchange = begin(now);
    let cut = waiting(Reason::Network);
    assert_eq!(exchange.look(&cut, now + CONNECT_WITHIN / 2), Ok(None), "it is tried again");
    let error = exchange.look(&cut, now + CONNECT_WITHIN).expect_err("late").to_string();
    assert_eq!(error, "no connection within 30 s: because of unreachable");

    let (mut certificate, mut thing) = asked(now);
    assert_eq!(certificate.look(&up, now + CERTIFICATE_WITHIN / 2), Ok(None));
    let again = certificate.look(&up, now + CERTIFICATE_WITHIN).expect("again").expect("a request");
    assert_eq!(again.topic, CREATE);
    assert_eq!(certificate.look(&up, now + CERTIFICATE_WITHIN * 2 - Duration::from_millis(1)), Ok(None));
    let error = certificate.look(&up, now + CERTIFICATE_WITHIN * 2).expect_err("late").to_string();
    assert!(error.contains("a certificate within 30 s: does the claim certificate's policy"), "{error}");

    assert_eq!(thing.look(&up, now + THING_WITHIN / 2), Ok(None), "a thing is asked for once");
    let error = thing.look(&cut, now + THING_WITHIN).expect_err("late").to_string();
    assert!(error.contains("a thing within 30 s: because of unreachable"), "{error}");
}

#[test]
fn a_connection_that_is_not_allowed_is_not_waited_for() {
    let now = Instant::now();
    for reason in [Reason::Identity, Reason::Tls, Reason::Refused, Reason::Policy, Reason::TakenOver, Reason::Protocol]
    {
        let error = begin(now).look(&waiting(reason), now).expect_err(reason.name());
        assert_eq!(error, ProvisioningError::Connection(format!("because of {}", reason.name())));
    }
    let (_, mut exchange) = asked(now);
    let refused = MqttStatus { refused_filters: vec!["a/b".to_owned()], ..status(MqttState::Connected) };
    let error = exchange.look(&refused, now).expect_err("refused").to_string();
    assert!(error.contains("does not allow subscribing to `a/b`"), "{error}");
}
