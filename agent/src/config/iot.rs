//! The section `aws.iot`: as written, and as used.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::check::{Result, wrong};
use crate::host::certificate::Identity;
use crate::host::iot_credentials::Settings;

/// AWS credentials for this device's certificate, from AWS IoT's credentials provider. They come before all others.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    /// Host of the credentials provider: what `aws iot describe-endpoint --endpoint-type iot:CredentialProvider` prints.
    pub(crate) credentials_endpoint: String,
    /// Name of the role alias.
    pub(crate) role_alias: String,
    /// This device's certificate (PEM). Default: that of `mqtt`.
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key (PEM). A key that others can read is refused. Default: that of `mqtt`.
    pub(crate) private_key: Option<PathBuf>,
    /// CA certificates (PEM) to trust. Default: the system's.
    pub(crate) ca_file: Option<PathBuf>,
}

pub(super) fn check(written: Written, thing: &str, of_mqtt: Option<&Identity>) -> Result<Settings> {
    let endpoint = written.credentials_endpoint;
    let (host, port) = match endpoint.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (endpoint.as_str(), Some(443)),
    };
    let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
    let (Some(port), true) = (port, is_host) else {
        let message = format!("`{endpoint}` is not a host name: write it without scheme and path");
        return wrong("aws.iot.credentials_endpoint", message);
    };
    let is_in = |text: &str, most: usize, others: &str| {
        (1..=most).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
    };
    if !is_in(&written.role_alias, 128, "_=,@-") {
        let message = format!("`{}` has other characters than letters, digits, `_=,@-`", written.role_alias);
        return wrong("aws.iot.role_alias", message);
    }
    if !is_in(thing, 128, ":_-") {
        return wrong("thing", format_args!("`{thing}` is no thing name: 1 to 128 letters, digits, `:`, `_`, `-`"));
    }
    let identity = match (written.certificate, written.private_key, of_mqtt) {
        (Some(certificate), Some(private_key), _) => Identity { certificate, private_key },
        (None, None, Some(identity)) => identity.clone(),
        (Some(_), None, _) => return wrong("aws.iot.certificate", "needs private_key too"),
        (None, Some(_), _) => return wrong("aws.iot.private_key", "needs certificate too"),
        (None, None, None) => return wrong("aws.iot", "set certificate and private_key, here or in mqtt"),
    };
    let (host, thing) = (host.to_owned(), thing.to_owned());
    Ok(Settings { host, port, role_alias: written.role_alias, thing, identity, ca_file: written.ca_file })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn as_written_and_as_used() {
        let parsed = |rest: &str, mqtt: &str| {
            let text =
                format!("thing: gw\naws: {{iot: {{credentials_endpoint: c.example, role_alias: r{rest}}}}}\n{mqtt}");
            parse(&text).map_err(|error| error.to_string()).map(|config| config.aws.iot.expect("given"))
        };
        let mqtt = "mqtt: {endpoint: b, certificate: /c, private_key: /k}\n";
        let settings = parsed("", mqtt).expect("valid");
        let identity = Identity { certificate: "/c".into(), private_key: "/k".into() };
        assert_eq!((settings.host.as_str(), settings.port, settings.thing.as_str()), ("c.example", 443, "gw"));
        assert_eq!(settings.identity, identity);
        let own = parsed(", certificate: /d, private_key: /l, ca_file: /ca", mqtt).expect("valid");
        assert_eq!((own.identity.certificate, own.ca_file), ("/d".into(), Some("/ca".into())));
        for (rest, part) in [
            ("", "aws.iot: set certificate and private_key"),
            (", certificate: /d", "aws.iot.certificate: needs private_key"),
            ("/x, certificate: /d, private_key: /l", "aws.iot.role_alias: `r/x`"),
        ] {
            let message = parsed(rest, "").expect_err(rest);
            assert!(message.contains(part), "{message}");
        }
        let url = parse("aws: {iot: {credentials_endpoint: 'https://c.example', role_alias: r}}\n").expect_err("a URL");
        assert!(url.to_string().contains("aws.iot.credentials_endpoint"));
        let thing =
            "thing: 'a b'\naws: {iot: {credentials_endpoint: c, role_alias: r, certificate: /c, private_key: /k}}";
        assert!(parse(thing).expect_err("a space").to_string().contains("no thing name"));
    }
}
