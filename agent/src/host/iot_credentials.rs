//! AWS credentials for the device's certificate, from AWS IoT's credentials provider: "Authorizing direct calls to AWS
//! services using AWS IoT Core credential provider" in AWS IoT's developer guide.
//!
//! Invariants: a secret is neither logged nor part of an error; each refusal says what to mend. Deliberately absent:
//! keeping credentials and fetching them early, which the control plane does for every source.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use edgecam_kvs::{Body, ResponseReader};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::certificate::Identity;
use super::mutual_tls::{self, FailureKind, Manner, Server};
use crate::upload::Network;

/// From the request to the end of the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A session token has some kilobytes.
const ANSWER_MOST: usize = 64 << 10;

/// Where credentials come from, and for whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Host of the credentials provider.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Name of the role alias.
    pub role_alias: String,
    /// Name of the thing the certificate is attached to.
    pub thing: String,
    /// The device's certificate and key.
    pub identity: Identity,
    /// CA certificates (PEM) to trust; `None` for the usual ones.
    pub ca_file: Option<PathBuf>,
}

/// The provider gave no credentials.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("AWS IoT's credentials provider: {message}")]
pub struct IotCredentialsError {
    /// Whether the provider said no; otherwise there was no answer.
    pub is_refusal: bool,
    /// For a person.
    pub message: String,
}

/// One source of the AWS chain.
pub struct IotCredentials {
    settings: Settings,
    network: Network,
}

impl std::fmt::Debug for IotCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IotCredentials").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Answer {
    credentials: Issued,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Issued {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    expiration: String,
}

impl IotCredentials {
    /// Makes no request yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, network: Network::default() }
    }

    /// Asks for credentials.
    pub async fn fetch(&self) -> Result<Credentials, IotCredentialsError> {
        let Settings { host, port, role_alias, thing, .. } = &self.settings;
        let server = Server { who: "the service", host, port: *port, section: "aws.iot" };
        let identity = mutual_tls::identity(&self.settings.identity).await?;
        let tcp = mutual_tls::tcp(server, &self.network, |_| Ok(())).await?;
        let manner = Manner { ca_file: self.settings.ca_file.clone(), identity: Some(identity), alpn: None };
        let mut stream = mutual_tls::tls(server, tcp, manner).await?;
        let request = format!(
            "GET /role-aliases/{role_alias}/credentials HTTP/1.1\r\nhost: {host}\r\nx-amzn-iot-thingname: {thing}\r\n\
             accept: application/json\r\nconnection: close\r\n\r\n"
        );
        let mut reader = ResponseReader::default();
        let answer = async {
            stream.write_all(request.as_bytes()).await?;
            stream.flush().await?;
            read(&mut stream, &mut reader).await
        };
        let body = match timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => {
                let failure = mutual_tls::untrusted(&error, server);
                return Err(failure.map_or_else(|| unanswered(format!("{host}: {error}")), Into::into));
            }
            Err(_) => return Err(unanswered(format!("{host} did not answer in {} s", ANSWER_TIMEOUT.as_secs()))),
        };
        match reader.head().map(|head| head.status) {
            Some(200) => issued(&body),
            Some(status) => Err(self.refusal(status, &reader.error_message())),
            None => Err(unanswered(format!("{host} closed the connection without an answer"))),
        }
    }

    /// What the service means, by what it is known to say.
    fn refusal(&self, status: u16, said: &str) -> IotCredentialsError {
        let Settings { role_alias, thing, host, .. } = &self.settings;
        let meant = match (status, said) {
            (403, "Invalid thing name passed") => format!(
                "the thing `{thing}` is not attached to this certificate: attach it, or set `thing` in the config"
            ),
            (403, "Access Denied") => format!(
                "the certificate's policy does not allow iot:AssumeRoleWithCertificate on the role alias `{role_alias}`"
            ),
            (403, "Certificate is invalid on this endpoint") => format!(
                "the certificate is not registered and active at {host}: look at aws.iot.credentials_endpoint and the \
                 certificate's status"
            ),
            (404, _) => format!("there is no role alias `{role_alias}` in this account and region"),
            (400, said) if said.contains("Unable to assume the role") => format!(
                "the role of the role alias `{role_alias}` does not exist, or does not trust \
                 credentials.iot.amazonaws.com"
            ),
            (400, said) if said.contains("exceeds the MaxSessionDuration") => {
                format!("the role alias `{role_alias}` asks for longer sessions than its role allows")
            }
            (429, _) => "it asks for fewer requests".to_owned(),
            (500.., _) => "it fails".to_owned(),
            _ => "it refuses".to_owned(),
        };
        let is_refusal = status != 429 && status < 500;
        IotCredentialsError { is_refusal, message: format!("{meant} (HTTP {status}: {said})") }
    }
}

impl ProvideCredentials for IotCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let result: provider::Result = self.fetch().await.map_err(CredentialsError::provider_error);
            result
        })
    }
}

impl From<mutual_tls::Failure> for IotCredentialsError {
    fn from(failure: mutual_tls::Failure) -> Self {
        Self { is_refusal: failure.kind != FailureKind::Unreachable, message: failure.message }
    }
}

fn unanswered(message: String) -> IotCredentialsError {
    IotCredentialsError { is_refusal: false, message }
}

/// The body of an answer; of a refusal the reader keeps it.
async fn read(stream: &mut (impl AsyncReadExt + Unpin), reader: &mut ResponseReader) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let (mut is_over, mut buffer) = (false, vec![0; 4096]);
    while !is_over {
        let count = match stream.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => count,
            // Some servers leave without a good-bye: whether all was there shows below.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        };
        let pushed = reader.push(buffer.get(..count).unwrap_or_default(), |part| match part {
            Body::Data(data) => body.extend_from_slice(data),
            Body::End => is_over = true,
            Body::Head(_) => {}
        });
        pushed.map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string()))?;
        if body.len() > ANSWER_MOST {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "the answer has no end"));
        }
    }
    Ok(body)
}

/// What is in an answer. Errors do not repeat it: it holds secrets.
fn issued(body: &[u8]) -> Result<Credentials, IotCredentialsError> {
    let strange = || unanswered("its answer is not what it is documented to be".to_owned());
    let Answer { credentials } = serde_json::from_slice(body).map_err(|_| strange())?;
    let expires = credentials.expiration.parse::<jiff::Timestamp>().map_err(|_| strange())?;
    let expires = SystemTime::from(expires);
    if expires <= SystemTime::now() {
        let message = format!("it gave credentials that ended at {}: set the clock", credentials.expiration);
        return Err(IotCredentialsError { is_refusal: true, message });
    }
    let Issued { access_key_id, secret_access_key, session_token, .. } = credentials;
    Ok(Credentials::new(access_key_id, secret_access_key, Some(session_token), Some(expires), "AwsIot"))
}
