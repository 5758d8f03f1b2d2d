//! HTTP/1.1 (RFC 9112), as much of it as a strict server of five calls needs.
//!
//! Invariants: a head is at most 16 KiB and 100 fields, a buffered body at most 64 KiB; what is not well formed is
//! refused, never guessed. Absent: pipelining, trailers, chunk extensions, multi-line fields, any version but 1.1.

pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod head;
pub(crate) mod transport;

use crate::clock::{format_http_date, now_ms};
use crate::error::ServiceError;

/// Serialises a response with a body of known length.
pub(crate) fn response(status: u16, request_id: &str, extra: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!(
        "HTTP/1.1 {status} {}\r\nx-amzn-RequestId: {request_id}\r\nDate: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        reason(status),
        format_http_date((now_ms() / 1000).cast_signed()),
        body.len()
    );
    for (name, value) in extra {
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// Serialises an error response.
pub(crate) fn error_response(error: &ServiceError, request_id: &str, close: bool) -> Vec<u8> {
    let error_type = format!("{}:", error.error_type);
    let mut extra = vec![("x-amzn-ErrorType", error_type.as_str())];
    if close {
        extra.push(("Connection", "close"));
    }
    response(error.status, request_id, &extra, &error.body())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}
