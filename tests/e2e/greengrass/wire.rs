//! Frames of eventstream RPC, written anew from AWS's description: none of the code that is tested.

use serde_json::Value;

/// A frame with the headers that matter.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    pub(super) kind: i32,
    pub(super) flags: i32,
    pub(super) stream: i32,
    pub(super) texts: Vec<(String, String)>,
    pub(super) payload: Vec<u8>,
}

pub(super) const MESSAGE: i32 = 0;
pub(super) const ERROR: i32 = 1;
pub(super) const PING: i32 = 2;
pub(super) const PONG: i32 = 3;
pub(super) const CONNECT: i32 = 4;
pub(super) const CONNECT_ACK: i32 = 5;
pub(super) const PROTOCOL_ERROR: i32 = 6;
pub(super) const ACCEPTED: i32 = 1;
pub(super) const LAST: i32 = 2;

impl Frame {
    /// What the nucleus sends in a stream.
    pub(super) fn answer(stream: i32, model: &str, payload: &Value) -> Self {
        let texts = vec![
            (":content-type".to_owned(), "application/json".to_owned()),
            ("service-model-type".to_owned(), format!("aws.greengrass#{model}")),
        ];
        Self { stream, texts, payload: payload.to_string().into_bytes(), ..Self::default() }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.texts.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut headers = Vec::new();
        for (name, value) in [(":message-type", self.kind), (":message-flags", self.flags), (":stream-id", self.stream)]
        {
            headers.push(name.len() as u8);
            headers.extend_from_slice(name.as_bytes());
            headers.push(4);
            headers.extend_from_slice(&value.to_be_bytes());
        }
        for (name, value) in &self.texts {
            headers.push(name.len() as u8);
            headers.extend_from_slice(name.as_bytes());
            headers.push(7);
            headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
            headers.extend_from_slice(value.as_bytes());
        }
        let total = 16 + headers.len() + self.payload.len();
        let mut out = Vec::with_capacity(total);
        out.extend_from_slice(&(total as u32).to_be_bytes());
        out.extend_from_slice(&(headers.len() as u32).to_be_bytes());
        out.extend_from_slice(&crc32(&out).to_be_bytes());
        out.extend_from_slice(&headers);
        out.extend_from_slice(&self.payload);
        out.extend_from_slice(&crc32(&out).to_be_bytes());
        out
    }

    /// The first frame in `bytes` and its length; `None` when it is not whole yet.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, String> {
        let number = |at: usize| bytes.get(at..at + 4).map(|four| u32::from_be_bytes(four.try_into().expect("four")));
        let (Some(total), Some(headers), Some(crc)) = (number(0), number(4), number(8)) else { return Ok(None) };
        if crc != crc32(&bytes[..8]) {
            return Err("the prelude's checksum is wrong".to_owned());
        }
        let total = total as usize;
        let Some(frame) = bytes.get(..total) else { return Ok(None) };
        let headers_end = 12 + headers as usize;
        if total < 16 || headers_end > total - 4 {
            return Err(format!("{total} bytes with {headers} of headers"));
        }
        if number(total - 4) != Some(crc32(&frame[..total - 4])) {
            return Err("the frame's checksum is wrong".to_owned());
        }
        let mut found = Self { payload: frame[headers_end..total - 4].to_vec(), kind: -1, ..Self::default() };
        let mut rest = &frame[12..headers_end];
        let mut take = |count: usize| {
            let (taken, left) = rest.split_at_checked(count)?;
            rest = left;
            Some(taken)
        };
        while let Some([length]) = take(1) {
            let cut = || "a header is cut off".to_owned();
            let name = String::from_utf8_lossy(take(usize::from(*length)).ok_or_else(cut)?).into_owned();
            match take(1).ok_or_else(cut)? {
                [4] => {
                    let value = i32::from_be_bytes(take(4).ok_or_else(cut)?.try_into().expect("four"));
                    match name.as_str() {
                        ":message-type" => found.kind = value,
                        ":message-flags" => found.flags = value,
                        ":stream-id" => found.stream = value,
                        _ => return Err(format!("an int32 header `{name}`")),
                    }
                }
                [7] => {
                    let length = u16::from_be_bytes(take(2).ok_or_else(cut)?.try_into().expect("two"));
                    let value = String::from_utf8_lossy(take(usize::from(length)).ok_or_else(cut)?).into_owned();
                    found.texts.push((name, value));
                }
                other => return Err(format!("the header `{name}` of type {other:?}")),
            }
        }
        Ok(Some((found, total)))
    }
}

/// CRC-32 as in gzip (RFC 1952 §8), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    };
    !bytes.iter().fold(!0, step)
}

#[test]
fn checksums() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}
