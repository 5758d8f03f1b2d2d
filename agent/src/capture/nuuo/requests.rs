//! What a NUUO server is asked: SOAP by gSOAP's dialect, some of it without an envelope.

use super::answers::Camera;
use crate::config::source::NuuoProfile;
use crate::xml::escape;

/// The namespace of all calls.
const NAMESPACE: &str = "http://tempuri.org/np.xsd";
/// "NUUO" in base64: whose software one is.
const OEM: &str = "TlVVTw==";
/// Versions of the protocol that are understood.
const VERSIONS: [&str; 5] = ["2.0.0.0", "2.1.0.0", "2.1.2.0", "2.1.3.0", "2.1.4.0"];

/// A call in an envelope.
fn enveloped(call: &str, body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<SOAP-ENV:Envelope \
         xmlns:SOAP-ENV=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:SOAP-ENC=\"http://schemas.xmlsoap.org/soap/encoding/\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" \
         xmlns:np=\"{NAMESPACE}\"><SOAP-ENV:Body><np:{call}>{body}</np:{call}></SOAP-ENV:Body></SOAP-ENV:Envelope>\n"
    )
}

/// A call without one.
fn bare(call: &str, body: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<np:{call} xmlns:np=\"{NAMESPACE}\">{body}</np:{call}>\n")
}

/// Tells a Crystal, which answers, from a Titan, which does not.
pub(super) fn detect() -> String {
    enveloped("getSyncOEMString", &format!("<oemStringCodeList><code>{OEM}</code></oemStringCodeList>"))
}

/// The cameras of a Titan.
pub(super) fn device_tree() -> String {
    enveloped("getTitanDeviceTreeList", "<type>0</type><titanId>0</titanId>")
}

/// A session with a Crystal.
pub(super) fn login() -> String {
    let versions: String = VERSIONS.iter().map(|version| format!("<version>{version}</version>")).collect();
    let body = format!(
        "<supportedProtocolVersion>{versions}</supportedProtocolVersion><clientApplicationInfo><oemStringCodeList>\
         <code>{OEM}</code></oemStringCodeList><appRoleType>7</appRoleType><platform>300</platform>\
         <matrixId>0</matrixId></clientApplicationInfo>"
    );
    bare("login", &body)
}

/// The recording servers of a Crystal.
pub(super) fn servers(session: &str) -> String {
    enveloped("getServerList", &format!("<sessionId>{}</sessionId>", escape(session)))
}

/// The cameras of one recording server.
pub(super) fn devices(session: &str, server: &str) -> String {
    let (session, server) = (escape(session), escape(server));
    enveloped("getDeviceList", &format!("<sessionId>{session}</sessionId><serverId>{server}</serverId>"))
}

/// The live stream of one camera of a Crystal.
pub(super) fn live(session: &str, camera: &Camera, profile: NuuoProfile) -> String {
    let (session, server, device) = (escape(session), escape(&camera.server), escape(&camera.id));
    let profile = match profile {
        NuuoProfile::Original => 0,
        NuuoProfile::Low => 1,
        NuuoProfile::Minimum => 2,
    };
    let body = format!(
        "<sessionId>{session}</sessionId><serverId>{server}</serverId><cameraId><server>{server}</server>\
         <device>{device}</device></cameraId><profile>{profile}</profile><includeContent>0</includeContent>"
    );
    bare("live", &body)
}
