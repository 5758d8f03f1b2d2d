//! The control plane of Kinesis Video Streams: describe, create, data endpoint; and credentials.

use std::time::{Duration, Instant, SystemTime};

use aws_config::BehaviorVersion;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_kinesisvideo::Client;
use aws_sdk_kinesisvideo::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_kinesisvideo::types::{ApiName, ListEdgeAgentConfigurationsEdgeConfig, Status};
use edgecam_kvs::{Fault, FaultClass};
use edgecam_media::Codec;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::tls::client_config;
use crate::config;
use crate::config::identity::environment;
use crate::host::iot_credentials::{IotCredentials, IotCredentialsError};
use crate::http::OneShot;

/// Credentials are fetched anew when less than this is left of them, and up to as much again so that a fleet that was
/// started together does not ask together: longer than a session waits before rotating.
const REFRESH_AHEAD: Duration = Duration::from_secs(300);
/// Credentials that could not be renewed are used while more than this is left of them.
const LAST_RESORT: Duration = Duration::from_secs(60);
/// When renewal is tried again meanwhile.
const RENEW_AGAIN: Duration = Duration::from_secs(30);

/// Entries of one answer of ListEdgeAgentConfigurations, and answers.
const PAGE: i32 = 10;
const MOST_PAGES: usize = 100;

/// Where a stream's media goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Host of the data endpoint.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether the stream keeps footage.
    pub has_retention: bool,
}

/// The control plane, shared by all cameras.
pub struct ControlPlane {
    client: Client,
    provider: SharedCredentialsProvider,
    cached: Mutex<Option<Cached>>,
    refresh_ahead: Duration,
    /// Where credentials come from, for a person.
    sources: &'static str,
    region: String,
    create_streams: Option<u32>,
}

/// Credentials in use.
struct Cached {
    credentials: Credentials,
    /// They could not be renewed: not asked again before this.
    ask_again: Option<Instant>,
}

impl ControlPlane {
    /// Finds region and credential sources. Makes no request yet.
    pub async fn new(aws: &config::Aws) -> Result<Self, Fault> {
        let misconfigured = |message: String| Fault::new(FaultClass::Credentials, message);
        let regions = RegionProviderChain::first_try(aws.region.clone().map(aws_config::Region::new))
            .or_else(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new());
        let Some(region) = regions.region().await else {
            return Err(misconfigured("no AWS region: set aws.region in the config, or AWS_REGION".to_owned()));
        };
        let tls = spawn_blocking(client_config).await.map_err(|error| misconfigured(error.to_string()))?;
        let http = OneShot::new(tls.map_err(misconfigured)?);
        let chain_config =
            ProviderConfig::without_region().with_region(Some(region.clone())).with_http_client(http.clone());
        let ecs = EcsCredentialsProvider::builder().configure(&chain_config).build();
        let mut chain =
            CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
                .or_else("Profile", ProfileFileCredentialsProvider::builder().configure(&chain_config).build())
                .or_else(
                    "WebIdentityToken",
                    WebIdentityTokenCredentialsProvider::builder().configure(&chain_config).build(),
                )
                .or_else("Container", ecs);
        if aws.use_instance_metadata {
            let imds = ImdsCredentialsProvider::builder().configure(&chain_config).build();
            chain = chain.or_else("InstanceMetadata", imds);
        }
        // What the config names is meant: nothing else is tried when it fails.
        let (provider, sources) = match &aws.iot {
            Some(settings) => {
                let iot = IotCredentials::new(settings.clone());
                (SharedCredentialsProvider::new(iot), "from AWS IoT's credentials provider (aws.iot)")
            }
            None => {
                let sources = "from environment, profile, web identity or container (Greengrass)";
                (SharedCredentialsProvider::new(chain), sources)
            }
        };
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .operation_timeout(Duration::from_secs(10))
            .build();
        let shared = aws_config::defaults(BehaviorVersion::latest())
            .region(region.clone())
            .credentials_provider(provider.clone())
            .http_client(http)
            .timeout_config(timeouts)
            // The caller backs off; retries inside retries would only hide what is wrong.
            .retry_config(RetryConfig::disabled())
            .load()
            .await;
        Ok(Self {
            client: Client::new(&shared),
            provider,
            cached: Mutex::new(None),
            refresh_ahead: REFRESH_AHEAD + REFRESH_AHEAD.mul_f64(fastrand::f64()),
            sources,
            region: region.to_string(),
            create_streams: aws.create_streams,
        })
    }

    /// The region of the streams.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Host and port of the control plane.
    pub fn endpoint(&self) -> (String, u16) {
        let custom = environment("AWS_ENDPOINT_URL_KINESIS_VIDEO").or_else(|| environment("AWS_ENDPOINT_URL"));
        let custom = custom.and_then(|text| url::Url::parse(&text).ok());
        if let Some((host, port)) =
            custom.and_then(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?)))
        {
            return (host, port);
        }
        let suffix = if self.region.starts_with("cn-") { ".cn" } else { "" };
        (format!("kinesisvideo.{}.amazonaws.com{suffix}", self.region), 443)
    }

    /// Credentials that are good for a while, from the cache where that has some.
    pub async fn credentials(&self) -> Result<Credentials, Fault> {
        let mut cached = self.cached.lock().await;
        if let Some(Cached { credentials, ask_again }) = cached.as_ref() {
            let waits = ask_again.is_some_and(|at| at > Instant::now());
            if lasts(credentials, self.refresh_ahead) || waits && lasts(credentials, LAST_RESORT) {
                return Ok(credentials.clone());
            }
        }
        match self.provider.provide_credentials().await {
            Ok(credentials) => {
                *cached = Some(Cached { credentials: credentials.clone(), ask_again: None });
                Ok(credentials)
            }
            Err(error) => {
                let fault = self.credentials_fault(&error);
                match cached.as_mut().filter(|cached| lasts(&cached.credentials, LAST_RESORT)) {
                    Some(cached) => {
                        tracing::warn!("credentials are not renewed yet: {}", fault.message);
                        cached.ask_again = Some(Instant::now() + RENEW_AGAIN);
                        Ok(cached.credentials.clone())
                    }
                    None => Err(fault),
                }
            }
        }
    }

    fn credentials_fault(&self, error: &CredentialsError) -> Fault {
        let of_iot = std::error::Error::source(error).and_then(|source| source.downcast_ref::<IotCredentialsError>());
        match of_iot {
            Some(error) => {
                let class = if error.is_refusal { FaultClass::Credentials } else { FaultClass::Network };
                Fault::new(class, error.to_string())
            }
            None => {
                let text = format!("no AWS credentials could be had {}: {}", self.sources, DisplayErrorContext(error));
                Fault::new(FaultClass::Credentials, text)
            }
        }
    }

    /// The service has refused the credentials: the next call fetches new ones.
    pub async fn forget_credentials(&self) {
        *self.cached.lock().await = None;
    }

    /// Looks a stream up, makes it for video in `codec` if that is allowed, and asks for its data endpoint.
    pub async fn target(&self, stream: &str, codec: Codec) -> Result<Target, Fault> {
        let has_retention = match self.client.describe_stream().stream_name(stream).send().await {
            Ok(output) => {
                let info = output.stream_info;
                if let Some(status) = info.as_ref().and_then(|info| info.status.clone())
                    && status != Status::Active
                {
                    let text = format!("stream `{stream}` is {status}, not ACTIVE");
                    return Err(Fault::new(FaultClass::Service, text));
                }
                info.and_then(|info| info.data_retention_in_hours).unwrap_or(0) > 0
            }
            Err(error) if error.code() == Some("ResourceNotFoundException") => self.create(stream, codec).await?,
            Err(error) => return Err(fault("DescribeStream", stream, &error)),
        };
        let (host, port) = self.data_endpoint(stream, ApiName::PutMedia).await?;
        Ok(Target { host, port, has_retention })
    }

    /// Host and port of the endpoint at which a stream is played by HLS.
    pub async fn playback_endpoint(&self, stream: &str) -> Result<(String, u16), Fault> {
        self.data_endpoint(stream, ApiName::GetHlsStreamingSessionUrl).await
    }

    /// The configurations that streams of this account have for an edge agent on `hub_device_arn`.
    pub async fn edge_configurations(
        &self,
        hub_device_arn: &str,
    ) -> Result<Vec<ListEdgeAgentConfigurationsEdgeConfig>, Fault> {
        let (mut found, mut token) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let request = self.client.list_edge_agent_configurations().hub_device_arn(hub_device_arn);
            let page = match request.max_results(PAGE).set_next_token(token.take()).send().await {
                Ok(page) => page,
                Err(error) => return Err(fault("ListEdgeAgentConfigurations", hub_device_arn, &error)),
            };
            found.extend(page.edge_configs.unwrap_or_default());
            match page.next_token {
                Some(next) => token = Some(next),
                None => return Ok(found),
            }
        }
        let text = format!("kinesisvideo:ListEdgeAgentConfigurations has no end after {MOST_PAGES} pages");
        Err(Fault::new(FaultClass::Service, text))
    }

    async fn data_endpoint(&self, stream: &str, api: ApiName) -> Result<(String, u16), Fault> {
        let request = self.client.get_data_endpoint().stream_name(stream).api_name(api);
        let endpoint = match request.send().await {
            Ok(output) => output.data_endpoint.unwrap_or_default(),
            Err(error) => return Err(fault("GetDataEndpoint", stream, &error)),
        };
        let parsed = url::Url::parse(&endpoint).ok().filter(|url| url.scheme() == "https");
        let host = parsed.as_ref().and_then(|url| url.host_str().map(str::to_owned));
        let (Some(url), Some(host)) = (parsed, host) else {
            return Err(Fault::new(FaultClass::Service, format!("the data endpoint `{endpoint}` is not an https URL")));
        };
        Ok((host, url.port().unwrap_or(443)))
    }

    async fn create(&self, stream: &str, codec: Codec) -> Result<bool, Fault> {
        let Some(hours) = self.create_streams else {
            let advice = "create it, or allow the agent to with aws.create_streams: true";
            let text = format!("stream `{stream}` does not exist in {}: {advice}", self.region);
            return Err(Fault::new(FaultClass::NotFound, text));
        };
        let hours_setting = i32::try_from(hours).unwrap_or(i32::MAX);
        let request = self.client.create_stream().stream_name(stream).media_type(match codec {
            Codec::H264 => "video/h264",
            Codec::H265 => "video/h265",
        });
        match request.data_retention_in_hours(hours_setting).send().await {
            Ok(_) => {
                tracing::info!(stream, retention_hours = hours, "stream created");
                Ok(hours > 0)
            }
            // Someone else was faster.
            Err(error) if error.code() == Some("ResourceInUseException") => Ok(hours > 0),
            Err(error) => Err(fault("CreateStream", stream, &error)),
        }
    }
}

fn lasts(credentials: &Credentials, time: Duration) -> bool {
    credentials.expiry().is_none_or(|expiry| expiry > SystemTime::now() + time)
}

/// What the SDK reports, in words: which call on which stream, and the service's own reason.
fn fault<E>(operation: &str, stream: &str, error: &SdkError<E>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let Some(status) = status else {
        let text = format!("kinesisvideo:{operation} could not be reached: {}", DisplayErrorContext(error));
        return Fault::new(FaultClass::Network, text);
    };
    let (code, message) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
    let class = match (status, code) {
        (_, "ClientLimitExceededException" | "ThrottlingException") | (429, _) => FaultClass::Throttled,
        (401 | 403, _) | (_, "NotAuthorizedException") => FaultClass::Credentials,
        (404, _) => FaultClass::NotFound,
        (500.., _) => FaultClass::Service,
        _ => FaultClass::Refused,
    };
    let text = format!("kinesisvideo:{operation} on stream/{stream} was refused with HTTP {status} {code}: {message}");
    Fault::new(class, text)
}
