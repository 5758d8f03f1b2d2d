//! Calls of AWS that are minutes apart: each has a connection to itself.
//!
//! It is the HTTP client that AWS's SDK is given: its own brings HTTP/2, a pool and proxies, a twentieth of the program. The
//! other side is as little trusted as any.

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::{Bytes, BytesMut};
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use rustls::ClientConfig;
use tokio::time::timeout;
use url::Url;

use super::Settings;
use super::client::peer;
use super::connection::Connection;
use super::error::{HttpError, HttpFault};

/// Answers are a few KB.
const ANSWER: usize = 4 << 20;

/// A connection a request.
#[derive(Clone, Debug)]
pub struct OneShot {
    tls: Arc<ClientConfig>,
    connect_timeout: Duration,
    answer_timeout: Duration,
}

impl OneShot {
    /// Trusts whom `tls` trusts.
    pub fn new(tls: Arc<ClientConfig>) -> Self {
        let Settings { connect_timeout, answer_timeout, .. } = Settings::default();
        Self { tls, connect_timeout, answer_timeout }
    }

    async fn exchange(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let url = Url::parse(request.uri()).map_err(|error| ConnectorError::user(error.into()))?;
        let message = message(request, &url)?;
        let answer = self.ask(&url, message).await.map_err(|error| ConnectorError::io(error.into()))?;
        HttpResponse::try_from(answer.map(SdkBody::from)).map_err(|error| ConnectorError::other(error.into(), None))
    }

    /// Sends a request, whose headers are complete, to the host that `url` names, and reads the answer. Any status is one.
    pub async fn ask(
        &self,
        url: &Url,
        message: hyper::Request<Full<Bytes>>,
    ) -> Result<hyper::Response<Bytes>, HttpError> {
        let peer = &peer(url)?;
        let tls = match url.scheme() {
            "http" => None,
            "https" => Some(self.tls.clone()),
            other => return Err(HttpError::malformed(format!("{peer}: `{other}` is not http or https"))),
        };
        let settings = Settings { connect_timeout: self.connect_timeout, ..Settings::default() };
        let mut connection = Box::pin(Connection::open(peer, tls, &settings)).await?;
        let limit = self.answer_timeout;
        let silent = |_| peer.silent("answer", limit);
        let sent = timeout(limit, connection.send(message)).await.map_err(silent)?;
        let (head, mut body) = sent.map_err(|error| peer.broke(&error))?.into_parts();
        let whole = async {
            let mut whole = BytesMut::new();
            while let Some(frame) = connection.frame(&mut body).await {
                let Ok(data) = frame.map_err(|error| peer.broke(&error))?.into_data() else { continue };
                if whole.len() + data.len() > ANSWER {
                    let text = format!("{peer} sends more than the {ANSWER} bytes it may");
                    return Err(HttpError::new(HttpFault::TooLarge, text));
                }
                whole.extend_from_slice(&data);
            }
            Ok(whole.freeze())
        };
        let body = timeout(limit, whole).await.map_err(silent)??;
        Ok(hyper::Response::from_parts(head, body))
    }
}

/// The request as it has been signed, with the host in a header.
fn message(request: HttpRequest, url: &Url) -> Result<hyper::Request<Full<Bytes>>, ConnectorError> {
    let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
    let (mut head, body) = request.into_parts();
    let Some(body) = body.bytes().map(Bytes::copy_from_slice) else {
        return Err(ConnectorError::user("a body that comes piece by piece".into()));
    };
    if !head.headers.contains_key(header::HOST) {
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let host = HeaderValue::try_from(host).map_err(|error| ConnectorError::user(error.into()))?;
        head.headers.insert(header::HOST, host);
    }
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    head.uri = target.parse().map_err(|error: hyper::http::uri::InvalidUri| ConnectorError::user(error.into()))?;
    Ok(hyper::Request::from_parts(head, Full::new(body)))
}

impl HttpClient for OneShot {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Self {
            tls: self.tls.clone(),
            connect_timeout: settings.connect_timeout().unwrap_or(self.connect_timeout),
            answer_timeout: settings.read_timeout().unwrap_or(self.answer_timeout),
        })
    }
}

impl HttpConnector for OneShot {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().exchange(request))
    }
}
