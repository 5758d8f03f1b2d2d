"""AWS's own IPC client against the stand-in for the nucleus: each operation the agent uses, and refusals."""

import datetime
import json
import queue

import awsiot.greengrasscoreipc as ipc
from awsiot.greengrasscoreipc import model
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

done = []


def ok(name):
    done.append(name)


def wrong_token():
    try:
        ipc.connect(authtoken="wrong", timeout=10).close()
    except Exception:
        return ok("a wrong token is refused")
    raise AssertionError("a wrong token was accepted")


def main():
    wrong_token()
    client = GreengrassCoreIPCClientV2()
    events = queue.Queue()
    take = lambda name: (lambda event: events.put((name, event)))

    def hear(wanted):
        # A configuration is told of key by key: some of it may still be on its way.
        while True:
            name, event = events.get(timeout=20)
            if name in wanted:
                return name, event


    answer = client.get_configuration(key_path=[])
    assert answer.value["cameras"] == [], answer
    assert client.get_configuration(key_path=["http", "enabled"]).value == {"enabled": False}
    try:
        client.get_configuration(key_path=["nothing"])
        raise AssertionError("a key that is not there")
    except model.ResourceNotFoundError:
        ok("get_configuration")

    _, stream = client.subscribe_to_configuration_update(key_path=[], on_stream_event=take("configuration"))
    client.update_configuration(key_path=[], timestamp=datetime.datetime.now(), value_to_merge={"thing": "a"})
    _, event = hear(["configuration"])
    assert event.configuration_update_event.key_path, event
    ok("subscribe_to_configuration_update")

    client.update_state(state=model.ReportedLifecycleState.RUNNING)
    ok("update_state")

    client.subscribe_to_validate_configuration_updates(on_stream_event=take("validate"))
    client.subscribe_to_component_updates(on_stream_event=take("update"))
    client.subscribe_to_iot_core(topic_name="a/+", qos="1", on_stream_event=take("iot"))
    print("READY", flush=True)
    seen = {}
    while len(seen) < 2:
        name, event = hear(["validate", "update"])
        seen[name] = event
    report = model.ConfigurationValidityReport(
        status="REJECTED", deployment_id=seen["validate"].validate_configuration_update_event.deployment_id, message="no")
    client.send_configuration_validity_report(configuration_validity_report=report)
    ok("validity reports")
    client.defer_component_update(
        deployment_id=seen["update"].pre_update_event.deployment_id, recheck_after_ms=5000, message="wait")
    ok("deferred updates")

    client.publish_to_iot_core(topic_name="a/b", qos="1", payload=b"\x00\xffhello", retain=True)
    _, event = hear(["iot"])
    assert (event.message.topic_name, event.message.payload) == ("a/b", b"\x00\xffhello"), event
    ok("IoT Core both ways")
    client.publish_to_topic(
        topic="local", publish_message=model.PublishMessage(json_message=model.JsonMessage(message={"a": 1})))
    ok("publish_to_topic")
    secret = client.get_secret_value(secret_id="camera")
    assert json.loads(secret.secret_value.secret_string)["MediaURI"] == "rtsp://u:p@h/1", secret
    ok("get_secret_value")

    stream.close().result(10)
    for call, error in (
        (lambda: client.subscribe_to_topic(topic="x", on_stream_event=take("x")), model.UnauthorizedError),
        (lambda: client.get_secret_value(secret_id="none"), model.ResourceNotFoundError),
        (lambda: client.list_components(), Exception),
    ):
        try:
            call()
            raise AssertionError(f"{error} is not raised")
        except AssertionError:
            raise
        except error:
            ok(error.__name__)
    client.close()
    print(json.dumps(done), flush=True)


main()
