use super::*;

fn message(body: &str) -> Vec<u8> {
    format!("<?xml version='1.0'?><env:Envelope xmlns:env='e' xmlns:tt='t'><env:Body>{body}</env:Body></env:Envelope>")
        .into_bytes()
}

#[test]
fn clocks() {
    let time = |utc: &str| {
        system_time(&message(&format!(
            "<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime><tt:DateTimeType>NTP</tt:DateTimeType>
             <tt:UTCDateTime>{utc}</tt:UTCDateTime></tds:SystemDateAndTime></tds:GetSystemDateAndTimeResponse>"
        )))
    };
    let date = "<tt:Date><tt:Year>2026</tt:Year><tt:Month>11</tt:Month><tt:Day>21</tt:Day></tt:Date>";
    let clock = |second: u8| {
        format!("<tt:Time><tt:Hour>8</tt:Hour><tt:Minute>0</tt:Minute><tt:Second>{second}</tt:Second></tt:Time>")
    };
    assert_eq!(time(&format!("{}{date}", clock(7))), Ok(Timestamp::from_unix_millis(1_795_248_007_000)));
    assert_eq!(time(&format!("{date}{}", clock(60))), Ok(Timestamp::from_unix_millis(1_795_248_059_000)));
    for wrong in [date.to_owned(), clock(7), String::new(), format!("{}{}", date.replace("11", "13"), clock(1))] {
        assert_eq!(time(&wrong), Err(AnswerError::Missing("GetSystemDateAndTime")), "{wrong}");
    }
}

#[test]
fn faults_have_a_class() {
    let fault = |code: &str, text: &str| {
        let fault = format!(
            "<env:Fault><env:Code><env:Value>env:Sender</env:Value><env:Subcode><env:Value>{code}</env:Value>
             </env:Subcode></env:Code><env:Reason><env:Text xml:lang='en'>{text}</env:Text></env:Reason></env:Fault>"
        );
        services(&message(&fault)).expect_err("a fault")
    };
    assert!(matches!(fault("ter:NotAuthorized", "Sender not Authorized"), AnswerError::NotAuthorized { .. }));
    assert!(matches!(fault("wsse:FailedAuthentication", ""), AnswerError::NotAuthorized { .. }));
    assert!(
        matches!(fault("ter:ActionNotSupported", "no\nsuch"), AnswerError::Fault { reason, .. } if reason == "nosuch")
    );
    let old = message("<env:Fault><faultcode>x</faultcode><faultstring>Unauthorized</faultstring></env:Fault>");
    assert!(matches!(services(&old), Err(AnswerError::NotAuthorized { .. })));
    assert!(matches!(services(b"<html>"), Err(AnswerError::Xml { .. })));
    assert_eq!(services(&message("")), Err(AnswerError::Missing("GetServices")));
}

#[test]
fn services_and_profiles_of_both_kinds() {
    let list = message(
        "<tds:GetServicesResponse><tds:Service><tds:Namespace>http://www.onvif.org/ver10/media/wsdl</tds:Namespace>
         <tds:XAddr>http://192.168.0.9/onvif/media</tds:XAddr></tds:Service><tds:Service/></tds:GetServicesResponse>",
    );
    let found = services(&list).expect("services");
    assert_eq!((found.len(), found[0].address.as_str()), (1, "http://192.168.0.9/onvif/media"));
    let list = message(
        "<tds:GetCapabilitiesResponse><tds:Capabilities><tt:Media><tt:XAddr>http://a/m</tt:XAddr></tt:Media></tds:Capabilities></tds:GetCapabilitiesResponse>",
    );
    assert_eq!(capabilities(&list), Ok("http://a/m".to_owned()));
    let expected = MediaProfile {
        token: "p1".to_owned(),
        name: "main".to_owned(),
        source: "v1".to_owned(),
        encoding: "H265".to_owned(),
        width: 1920,
        height: 1080,
    };
    let size = "<tt:Resolution><tt:Width>1920</tt:Width><tt:Height>1080</tt:Height></tt:Resolution>";
    let source = "<tt:SourceToken>v1</tt:SourceToken>";
    let first = message(&format!(
        "<trt:GetProfilesResponse><trt:Profiles token='p1' fixed='true'><tt:Name>main</tt:Name>
         <tt:VideoSourceConfiguration token='x'>{source}</tt:VideoSourceConfiguration><tt:VideoEncoderConfiguration token='y'>
         <tt:Encoding>H.265</tt:Encoding>{size}</tt:VideoEncoderConfiguration></trt:Profiles><trt:Profiles/></trt:GetProfilesResponse>"
    ));
    let second = message(&format!(
        "<tr2:GetProfilesResponse><tr2:Profiles token='p1'><tr2:Name>main</tr2:Name><tr2:Configurations>
         <tr2:VideoSource token='x'>{source}</tr2:VideoSource><tr2:VideoEncoder token='y'><tt:Encoding>H265</tt:Encoding>{size}
         </tr2:VideoEncoder></tr2:Configurations></tr2:Profiles></tr2:GetProfilesResponse>"
    ));
    assert_eq!(profiles(&first), Ok(vec![expected.clone()]));
    assert_eq!(profiles(&second), Ok(vec![expected]));
    let uri = message(
        "<trt:GetStreamUriResponse><trt:MediaUri><tt:Uri>rtsp://0.0.0.0:554/1?a=b</tt:Uri></trt:MediaUri></trt:GetStreamUriResponse>",
    );
    assert_eq!(stream_uri(&uri).map(|url| url.to_string()), Ok("rtsp://0.0.0.0:554/1?a=b".to_owned()));
    let uri = message("<tr2:GetStreamUriResponse><tr2:Uri>nonsense</tr2:Uri></tr2:GetStreamUriResponse>");
    assert_eq!(stream_uri(&uri), Err(AnswerError::Missing("GetStreamUri")));
}
