//! What an ONVIF device is asked: SOAP 1.2, with a WS-UsernameToken where one has credentials.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use edgecam_media::Timestamp;
use sha1::{Digest, Sha1};

use crate::config::source::Credentials;
use crate::xml::escape;

/// Device service (ONVIF Core 2.0 and later).
pub(super) const DEVICE: &str = "http://www.onvif.org/ver10/device/wsdl";
/// Media service: H.264 and older.
pub(super) const MEDIA1: &str = "http://www.onvif.org/ver10/media/wsdl";
/// Media2 service: H.265 too.
pub(super) const MEDIA2: &str = "http://www.onvif.org/ver20/media/wsdl";

const ENVELOPE: &str = "http://www.w3.org/2003/05/soap-envelope";
const SCHEMA: &str = "http://www.onvif.org/ver10/schema";
const WSSE: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";
const WSU: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd";
const PROFILE: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0";
const SECURITY: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0";

/// A call: what is in the body, under the namespace that its prefix `x` stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Call {
    pub(super) name: &'static str,
    pub(super) namespace: &'static str,
    inner: String,
}

impl Call {
    fn new(name: &'static str, namespace: &'static str, inner: impl Into<String>) -> Self {
        Self { name, namespace, inner: inner.into() }
    }

    /// The whole message.
    pub(super) fn message(&self, security: &str) -> String {
        let Self { name, namespace, inner } = self;
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><s:Envelope xmlns:s=\"{ENVELOPE}\"><s:Header>{security}</s:Header>\
             <s:Body xmlns:x=\"{namespace}\" xmlns:tt=\"{SCHEMA}\"><x:{name}>{inner}</x:{name}></s:Body></s:Envelope>"
        )
    }

    /// For `Content-Type` (SOAP 1.2 part 2 section 6.5.3).
    pub(super) fn action(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// The only call that needs no credentials (ONVIF Core section 5.9.4.5).
pub(super) fn system_time() -> Call {
    Call::new("GetSystemDateAndTime", DEVICE, "")
}

pub(super) fn services() -> Call {
    Call::new("GetServices", DEVICE, "<x:IncludeCapability>false</x:IncludeCapability>")
}

/// For devices that do not know GetServices.
pub(super) fn capabilities() -> Call {
    Call::new("GetCapabilities", DEVICE, "<x:Category>Media</x:Category>")
}

pub(super) fn profiles(media: &'static str) -> Call {
    let all = "<x:Type>VideoSource</x:Type><x:Type>VideoEncoder</x:Type>";
    Call::new("GetProfiles", media, if media == MEDIA2 { all } else { "" })
}

pub(super) fn stream_uri(media: &'static str, token: &str) -> Call {
    let token = escape(token);
    let inner = if media == MEDIA2 {
        format!("<x:Protocol>RTSP</x:Protocol><x:ProfileToken>{token}</x:ProfileToken>")
    } else {
        format!(
            "<x:StreamSetup><tt:Stream>RTP-Unicast</tt:Stream><tt:Transport><tt:Protocol>RTSP</tt:Protocol>\
             </tt:Transport></x:StreamSetup><x:ProfileToken>{token}</x:ProfileToken>"
        )
    };
    Call::new("GetStreamUri", media, inner)
}

pub(super) fn snapshot_uri(media: &'static str, token: &str) -> Call {
    Call::new("GetSnapshotUri", media, format!("<x:ProfileToken>{}</x:ProfileToken>", escape(token)))
}

/// A WS-UsernameToken with a digest of the password: Base64(SHA-1(nonce + created + password)) (WS-Security UsernameToken
/// Profile 1.0 section 3.1). `now` is the device's time.
pub(super) fn security(credentials: &Credentials, nonce: [u8; 16], now: Timestamp) -> String {
    let created = created(now);
    let digest = digest(&nonce, &created, credentials.password.expose());
    let (name, nonce) = (escape(&credentials.username), BASE64.encode(nonce));
    format!(
        "<w:Security s:mustUnderstand=\"1\" xmlns:w=\"{WSSE}\" xmlns:u=\"{WSU}\"><w:UsernameToken>\
         <w:Username>{name}</w:Username><w:Password Type=\"{PROFILE}#PasswordDigest\">{digest}</w:Password>\
         <w:Nonce EncodingType=\"{SECURITY}#Base64Binary\">{nonce}</w:Nonce><u:Created>{created}</u:Created>\
         </w:UsernameToken></w:Security>"
    )
}

fn digest(nonce: &[u8], created: &str, password: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(nonce);
    hash.update(created);
    hash.update(password);
    BASE64.encode(hash.finalize())
}

/// `2026-11-21T08:00:00.000Z`.
fn created(now: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(now.unix_millis())
        .unwrap_or_default()
        .strftime("%Y-%m-%dT%H:%M:%S.%3fZ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::Secret;

    #[test]
    fn digests_are_those_of_the_specification() {
        // The example of the ONVIF application programmer's guide, section 6.1.1.3.
        let nonce = BASE64.decode("LKqI6G/AikKCQrN0zqZFlg==").expect("base64");
        assert_eq!(digest(&nonce, "2010-09-16T07:50:45Z", "userpassword"), "tuOSpGlFlIXsozq4HFNeeGeFLEI=");
    }

    #[test]
    fn messages_are_xml_and_hold_no_password() {
        let credentials = Credentials { username: "a<b".to_owned(), password: Secret::new("s3cret") };
        let security = security(&credentials, [7; 16], Timestamp::from_unix_millis(1_795_248_000_250));
        for call in [system_time(), services(), stream_uri(MEDIA1, "a&b"), stream_uri(MEDIA2, "a&b"), profiles(MEDIA2)]
        {
            let message = call.message(&security);
            let root = crate::xml::parse(message.as_bytes()).expect("XML");
            assert!(!message.contains("s3cret"));
            assert_eq!(root.find("Username").map(crate::xml::Element::text), Some("a<b"));
            assert_eq!(root.find("Created").map(crate::xml::Element::text), Some("2026-11-21T08:00:00.250Z"));
            assert!(root.find(call.name).is_some());
            let token = root.find("ProfileToken").map(crate::xml::Element::text);
            assert!(token.is_none_or(|token| token == "a&b"), "{token:?}");
        }
    }
}
