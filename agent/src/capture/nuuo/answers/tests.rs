use super::*;

const CRYSTAL: &str = "<SOAP-ENV:Envelope xmlns:SOAP-ENV='e' xmlns:xsi='i' xmlns:np='http://tempuri.org/np.xsd'>
    <SOAP-ENV:Body>BODY</SOAP-ENV:Body></SOAP-ENV:Envelope>";

fn enveloped(body: &str) -> Vec<u8> {
    CRYSTAL.replace("BODY", body).into_bytes()
}

#[test]
fn logins() {
    let login = |body: &str| session(format!("<np:loginResponse xmlns:np='x'>{body}</np:loginResponse>").as_bytes());
    assert_eq!(login("<result>true</result><errorCode/><sessionId>52477</sessionId>"), Ok("52477".to_owned()));
    assert_eq!(login("<result>TRUE</result><sessionId> 1 </sessionId>"), Ok("1".to_owned()));
    assert_eq!(login("<result>false</result><sessionId>1</sessionId>"), Err(AnswerError::LoginFailed));
    assert_eq!(login("<sessionId>1</sessionId>"), Err(AnswerError::LoginFailed));
    assert_eq!(login("<result>true</result><sessionId/>"), Err(AnswerError::Missing("login")));
    let fault = enveloped("<SOAP-ENV:Fault><faultstring>out of\nlicences</faultstring></SOAP-ENV:Fault>");
    assert_eq!(session(&fault).expect_err("a fault").to_string(), "it answered login with a fault: out oflicences");
    assert!(matches!(session(b"<html>"), Err(AnswerError::Xml { .. })));
}

#[test]
fn a_crystal_is_known_by_its_answer() {
    assert!(is_crystal(&enveloped(
        "<np:getSyncOEMStringResponse><syncOEMString>TlVVTw==</syncOEMString></np:getSyncOEMStringResponse>"
    )));
    for other in [&b""[..], b"<html>404</html>", b"not found"] {
        assert!(!is_crystal(other));
    }
}

#[test]
fn cameras_of_a_crystal() {
    let list = enveloped(
        "<np:getServerListResponse><failList/><serverList><item/><item xsi:type='np:RecordingServer'><id>38</id>
         <name>R</name><enable>true</enable></item><item xsi:type='RecordingServer'><id>39</id><enable>false</enable></item>
         <item xsi:type='ManagementServer'><id>40</id></item></serverList></np:getServerListResponse>",
    );
    assert_eq!(servers(&list), Ok(vec!["38".to_owned()]));
    let list = enveloped(
        "<np:getDeviceListResponse><deviceList>
         <item xsi:type='VideoDevice'><id>1</id><name>Medical Entry</name><enable>true</enable><loginName>root</loginName>
          <password>secret</password><childList><item xsi:type='Camera'><id>3659</id><name>Cam</name><enable/>
          <outputProfileList><item><streamIndex>0</streamIndex><codec>H.264</codec><frameRate/><bitrate/>
           <profileName>Original</profileName></item><item><codec/><profileName>Low</profileName></item>
           <item><profileName>Minimum</profileName></item></outputProfileList></item>
          <item xsi:type='Audio'><id>9</id></item></childList></item>
         <item xsi:type='VideoDevice'><name>Roof</name><enable>false</enable><childList><item xsi:type='Camera'>
          <id>1</id><name>left</name></item><item xsi:type='Camera'><id>2</id><name>right</name></item></childList></item>
         <item xsi:type='IoBox'/></deviceList></np:getDeviceListResponse>",
    );
    let found = devices(&list, "38").expect("cameras");
    let brief: Vec<_> = found.iter().map(|c| (c.id.as_str(), c.name.as_str(), c.enabled)).collect();
    assert_eq!(brief, [("3659", "Medical Entry", true), ("1", "Roof left", false), ("2", "Roof right", false)]);
    let profiles: Vec<_> = found[0].profiles.iter().map(|p| (p.name.as_str(), p.codecs.join(","))).collect();
    assert_eq!(profiles, [("Original", "h264".to_owned()), ("Low", String::new()), ("Minimum", String::new())]);
    assert!(!format!("{found:?}").contains("secret"));
}

#[test]
fn cameras_of_a_titan() {
    let sensor = |id: &str| {
        format!("<item><id><centralId>0</centralId><localId>{id}</localId></id><name>sensor</name>
        <outputProfileList><item><codec>H264/MJPEG</codec><frameRate>10~30</frameRate><profileName>Low</profileName></item>
        </outputProfileList></item>")
    };
    let tree = enveloped(&format!(
        "<np:getDeviceTreeListResponse><deviceTreeList><item><name>titan_8040R</name><childEntityList>
         <item><name>First Floor Entry</name><childEntityList>{}<item><name>speaker</name></item></childEntityList></item>
         <item><name/><childEntityList>{}</childEntityList></item></childEntityList></item></deviceTreeList>
         </np:getDeviceTreeListResponse>",
        sensor("50341665"),
        sensor("7"),
    ));
    let found = device_tree(&tree).expect("cameras");
    let brief: Vec<_> = found.iter().map(|c| (c.id.as_str(), c.name.as_str())).collect();
    assert_eq!(brief, [("50341665", "First Floor Entry"), ("7", "")]);
    assert_eq!(found[0].profiles[0].codecs, ["h264", "mjpeg"]);
    assert_eq!(device_tree(&enveloped("<x/>")), Err(AnswerError::Missing("getTitanDeviceTreeList")));
}

#[test]
fn cameras_are_chosen_by_name_or_id() {
    let camera = |id: &str, name: &str| Camera {
        server: String::new(),
        id: id.to_owned(),
        name: name.to_owned(),
        profiles: Vec::new(),
        enabled: true,
    };
    let cameras = [camera("1", "Hall"), camera("2", "Roof"), camera("3", "Roof"), camera("4", "")];
    let check = |area: Option<&str>, id: Option<&str>, expected: Result<&str, &str>| {
        let wanted = NuuoCamera { area: area.map(str::to_owned), camera: id.map(str::to_owned), exact: None };
        let found = select(&cameras, &wanted).map(|camera| camera.id.as_str());
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
            (found, _) => panic!("{area:?} {id:?}: {found:?}"),
        }
    };
    check(Some("hall"), None, Ok("1"));
    check(None, Some("HALL"), Ok("1"));
    check(None, Some("4"), Ok("4"));
    check(Some("Roof"), Some("3"), Ok("3"));
    check(
        Some("Roof"),
        None,
        Err("2 cameras of the NVR are `Roof`: say which one with camera=ID; `Roof` (2), `Roof` (3)"),
    );
    check(Some("Cellar"), None, Err("no camera `Cellar`; it has `Hall` (1), `Roof` (2)"));
    check(None, None, Err("4 cameras"));
    assert!(select(&[], &NuuoCamera::default()).is_err_and(|text| text.contains("lists no camera")));
    assert_eq!(select(&cameras[..1], &NuuoCamera::default()).map(|camera| camera.id.as_str()), Ok("1"));
}
