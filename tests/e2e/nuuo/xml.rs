//! What a NUUO recorder answers.

use super::server::Camera;

/// The one recording server of a Crystal.
pub(crate) const SERVER: &str = "3814084320248837336";

fn enveloped(body: &str) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<SOAP-ENV:Envelope \
         xmlns:SOAP-ENV=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns:np=\"http://tempuri.org/np.xsd\">\
         <SOAP-ENV:Body>{body}</SOAP-ENV:Body></SOAP-ENV:Envelope>"
    )
    .into_bytes()
}

/// The text of the first element of this name.
pub(crate) fn text<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let after = body.split_once(&format!("<{name}>"))?.1;
    Some(after.split_once(&format!("</{name}>"))?.0)
}

pub(crate) fn oem() -> Vec<u8> {
    enveloped("<np:getSyncOEMStringResponse><syncOEMString>TlVVTw==</syncOEMString></np:getSyncOEMStringResponse>")
}

pub(crate) fn login(session: u64) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\"?><np:loginResponse xmlns:np=\"http://tempuri.org/np.xsd\"><result>true</result><errorCode/>\
         <sessionId>{session}</sessionId><willBeExpire/><timeAboutToExpire/><syncOEMString/>\
         <agreeProtocolVersion>2.1.4.0</agreeProtocolVersion><serverInfo/></np:loginResponse>"
    )
    .into_bytes()
}

pub(crate) fn login_failed() -> Vec<u8> {
    b"<np:loginResponse xmlns:np=\"http://tempuri.org/np.xsd\"><result>false</result><errorCode>5</errorCode>\
      <sessionId/></np:loginResponse>"
        .to_vec()
}

pub(crate) fn fault() -> Vec<u8> {
    enveloped(
        "<SOAP-ENV:Fault><faultcode>SOAP-ENV:Client</faultcode><faultstring>session</faultstring></SOAP-ENV:Fault>",
    )
}

pub(crate) fn servers() -> Vec<u8> {
    enveloped(&format!(
        "<np:getServerListResponse><failList/><serverList><item/><item xsi:type=\"RecordingServer\"><id>{SERVER}</id>\
         <name>Recorder</name><enable>true</enable><serverVersion>3.1</serverVersion></item></serverList>\
         </np:getServerListResponse>"
    ))
}

fn profiles(no_codec: bool) -> String {
    let codec = |name: &str| match (no_codec, name) {
        (true, "Original") => "<codec/>",
        (true, _) => "",
        (false, "Original") => "<codec>H264</codec>",
        (false, _) => "<codec>H.264/MJPEG</codec>",
    };
    let one = |name: &str| {
        let codec = codec(name);
        format!(
            "<item><streamIndex>0</streamIndex><frameRate></frameRate><bitrate></bitrate><resolution></resolution>{codec}\
             <profileName>{name}</profileName></item>"
        )
    };
    format!("<outputProfileList>{}</outputProfileList>", ["Original", "Low", "Minimum"].map(one).concat())
}

pub(crate) fn devices(cameras: &[Camera]) -> Vec<u8> {
    let device = |camera: &Camera| {
        let (id, name, profiles) = (&camera.id, &camera.name, profiles(camera.dress.no_codec));
        format!(
            "<item xsi:type=\"VideoDevice\"><id/><name>{name}</name><enable>true</enable><info/><brand>x</brand>\
             <model>y</model><loginName>root</loginName><password>camera-secret</password><childList>\
             <item xsi:type=\"Camera\"><id>{id}</id><name>Camera</name><enable>true</enable>{profiles}</item>\
             <item xsi:type=\"AudioIn\"><id>1</id></item></childList></item>"
        )
    };
    let list: String = cameras.iter().map(device).collect();
    enveloped(&format!(
        "<np:getDeviceListResponse><failList/><deviceList>{list}</deviceList></np:getDeviceListResponse>"
    ))
}

pub(crate) fn device_tree(cameras: &[Camera]) -> Vec<u8> {
    let camera = |camera: &Camera| {
        let (id, name, profiles) = (&camera.id, &camera.name, profiles(camera.dress.no_codec));
        format!(
            "<item><id/><name>{name}</name><childEntityList><item><id><localId>{id}</localId></id><name>sensor</name>\
             <description/><numberOfStreams>1</numberOfStreams>{profiles}</item><item><id><localId>9</localId></id>\
             <name>speaker</name></item></childEntityList></item>"
        )
    };
    let list: String = cameras.iter().map(camera).collect();
    enveloped(&format!(
        "<np:getDeviceTreeListResponse><deviceTreeList><item><id/><name>titan_8040R</name><description/>\
         <childEntityList>{list}</childEntityList></item></deviceTreeList></np:getDeviceTreeListResponse>"
    ))
}
