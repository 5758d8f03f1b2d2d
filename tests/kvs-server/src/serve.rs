//! One connection from its first byte on: TLS or not, then request after request to whom it concerns.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use crate::admin;
use crate::control::{call_of, named_stream};
use crate::error::ServiceError;
use crate::fault::FaultKind;
use crate::http::connection::Connection;
use crate::http::head::{Framing, Head};
use crate::http::transport::Transport;
use crate::http::{error_response, response};
use crate::record::{Call, Outcome};
use crate::session;
use crate::session::request::{admit, is_lenient, stream_name};
use crate::state::Shared;
use crate::{control, hls, http};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// First byte of a TLS handshake record; no HTTP method begins with it.
const TLS_HANDSHAKE: u8 = 0x16;
/// How long an unanswered call is left hanging; every client has given up by then.
const UNANSWERED: Duration = Duration::from_secs(600);

/// What is to be done after a request.
enum Next {
    Request(Connection),
    Close,
}

/// Serves one connection to its end. Errors are the client's leaving, and of no interest to anyone.
pub(crate) async fn serve(shared: Arc<Shared>, tcp: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    shared.lock().connections += 1;
    let mut first = [0];
    let plain =
        tls.is_none() || (timeout(HANDSHAKE_TIMEOUT, tcp.peek(&mut first)).await?? == 1 && first != [TLS_HANDSHAKE]);
    let transport = match tls {
        Some(acceptor) if !plain => Transport::Tls(Box::new(timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await??)),
        _ => Transport::Plain(tcp),
    };
    let admin_only = plain && shared.config.tls;
    let mut connection = Connection::new(transport);
    loop {
        let head = match connection.read_head().await {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return refuse(&shared, connection, &ServiceError::front_end(400, "BadRequest", error.to_string()))
                    .await;
            }
            Err(error) => return Err(error),
        };
        connection = match dispatch(&shared, &head, connection, admin_only).await? {
            Next::Request(connection) => connection,
            Next::Close => return Ok(()),
        };
    }
}

async fn dispatch(shared: &Arc<Shared>, head: &Head, connection: Connection, admin_only: bool) -> io::Result<Next> {
    let call = call_of(&head.path);
    if head.path.starts_with(admin::PREFIX) {
        return answer_small(shared, head, connection, |body| admin::answer(shared, head, body)).await;
    }
    let lenient = shared.config.lenient && call.is_none_or(|call| call == Call::PutMedia);
    let refusal = match call {
        _ if admin_only => {
            ServiceError::front_end(400, "BadRequest", "the client sent an HTTP request to an HTTPS port")
        }
        _ if head.method == "GET" && head.path.starts_with(hls::PREFIX) => return play(shared, head, connection).await,
        _ if head.method != "POST" => ServiceError::front_end(405, "MethodNotAllowed", "only POST"),
        Some(Call::PutMedia) => return put_media(shared, head, connection).await,
        None if lenient => return put_media(shared, head, connection).await,
        None => ServiceError::front_end(404, "UnknownOperationException", "no such operation"),
        Some(call) => return control_plane(shared, head, call, connection).await,
    };
    refuse(shared, connection, &refusal).await?;
    Ok(Next::Close)
}

/// Refuses a request whose body, if it has one, is not of interest.
async fn refuse(shared: &Shared, mut connection: Connection, error: &ServiceError) -> io::Result<()> {
    let request_id = shared.lock().next_request_id();
    connection.write(&error_response(error, &request_id, true)).await?;
    connection.into_transport().close().await
}

async fn put_media(shared: &Arc<Shared>, head: &Head, connection: Connection) -> io::Result<Next> {
    let stream = stream_name(head, is_lenient(head, shared));
    let fault = shared.lock().faults.claim_call(Call::PutMedia, stream.as_deref());
    let admission = match fault {
        Some(FaultKind::Unanswered { close, .. }) => {
            shared.attempt(Call::PutMedia, stream.as_deref(), Outcome::Unanswered);
            return leave(connection, close).await;
        }
        Some(FaultKind::Http { status, error, message, .. }) => Err(ServiceError::ordered(status, error, message)),
        _ => admit(shared, head),
    };
    match admission {
        Ok(admission) => {
            shared.attempt(Call::PutMedia, stream.as_deref(), Outcome::Session(admission.session));
            session::run::run(Arc::clone(shared), admission, connection).await?;
        }
        Err(error) => {
            shared.attempt(Call::PutMedia, stream.as_deref(), refused(&error));
            refuse(shared, connection, &error).await?;
        }
    }
    Ok(Next::Close)
}

/// Pages behind the URL of a session by HLS: the token in it is all that they ask for.
async fn play(shared: &Arc<Shared>, head: &Head, mut connection: Connection) -> io::Result<Next> {
    let answer = shared.lock().hls.answer(head, Instant::now());
    match answer {
        Ok((kind, body)) => {
            let start = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
            connection.write(start.as_bytes()).await?;
            connection.write(&body).await?;
            Ok(Next::Request(connection))
        }
        Err(error) => {
            refuse(shared, connection, &error).await?;
            Ok(Next::Close)
        }
    }
}

async fn leave(connection: Connection, close: bool) -> io::Result<Next> {
    if !close {
        tokio::time::sleep(UNANSWERED).await;
    }
    drop(connection);
    Ok(Next::Close)
}

fn refused(error: &ServiceError) -> Outcome {
    Outcome::Refused { status: error.status, error: error.error_type.clone().into_owned() }
}

async fn control_plane(shared: &Arc<Shared>, head: &Head, call: Call, mut connection: Connection) -> io::Result<Next> {
    let framing = match head.framing() {
        Ok(framing) => framing,
        Err(why) => {
            refuse(shared, connection, &ServiceError::front_end(400, "BadRequest", why)).await?;
            return Ok(Next::Close);
        }
    };
    let body = read_body(&mut connection, head, framing).await?;
    let stream = named_stream(&body);
    let fault = shared.lock().faults.claim_call(call, stream.as_deref());
    let answer = match fault {
        Some(FaultKind::Unanswered { close, .. }) => {
            shared.attempt(call, stream.as_deref(), Outcome::Unanswered);
            return leave(connection, close).await;
        }
        Some(FaultKind::Http { status, error, message, .. }) => Err(ServiceError::ordered(status, error, message)),
        _ => shared.authenticate(head, &body).and_then(|_| control::answer(shared, call, &body)),
    };
    shared.attempt(call, stream.as_deref(), answer.as_ref().map_or_else(refused, |_| Outcome::Answered));
    write_answer(shared, head, connection, answer).await
}

async fn read_body(connection: &mut Connection, head: &Head, framing: Framing) -> io::Result<Vec<u8>> {
    if head.expects_continue() {
        connection.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    connection.read_body(framing).await
}

async fn answer_small(
    shared: &Arc<Shared>,
    head: &Head,
    mut connection: Connection,
    answer: impl FnOnce(&[u8]) -> Result<serde_json::Value, ServiceError>,
) -> io::Result<Next> {
    let framing = head.framing().map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
    let body = read_body(&mut connection, head, framing).await?;
    let answer = answer(&body);
    write_answer(shared, head, connection, answer).await
}

async fn write_answer(
    shared: &Shared,
    head: &Head,
    mut connection: Connection,
    answer: Result<serde_json::Value, ServiceError>,
) -> io::Result<Next> {
    let request_id = shared.lock().next_request_id();
    let close = head.wants_close();
    let bytes = match answer {
        Ok(value) => {
            response(200, &request_id, if close { &[("Connection", "close")] } else { &[] }, &value.to_string())
        }
        Err(error) => http::error_response(&error, &request_id, close),
    };
    connection.write(&bytes).await?;
    if close {
        connection.into_transport().close().await?;
        return Ok(Next::Close);
    }
    Ok(Next::Request(connection))
}
