//! The body of a request as a stream: takes bytes off the wire, gives back the slices that are content.
//!
//! Invariant: holds no content, so a body of any length costs nothing.

use std::ops::Range;

use crate::http::head::Framing;

/// The longest chunk that is accepted: 2^32 - 1 bytes.
const MAX_SIZE_DIGITS: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Hexadecimal digits of a chunk's size.
    Size {
        digits: usize,
        value: u64,
    },
    SizeLineFeed {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataCarriageReturn,
    DataLineFeed,
    /// The line end after the last chunk: there are no trailers.
    LastCarriageReturn,
    LastLineFeed,
    /// A body of known length.
    Length {
        left: u64,
    },
    End,
}

/// Decoder of one body.
#[derive(Debug)]
pub(crate) struct Body {
    state: State,
}

/// What a step found: how much of the input it used, and which part of that is content.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub(crate) used: usize,
    pub(crate) content: Range<usize>,
}

impl Body {
    pub(crate) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Chunked => State::Size { digits: 0, value: 0 },
            Framing::Length(0) => State::End,
            Framing::Length(left) => State::Length { left },
        };
        Self { state }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.state == State::End
    }

    /// Takes input up to the end of the next piece of content, or all of it. Uses nothing once the body is complete.
    pub(crate) fn step(&mut self, input: &[u8]) -> Result<Step, &'static str> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::End => break,
                State::Data { left } | State::Length { left } => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(input.len() - at);
                    let left = left - length as u64;
                    self.state = match (self.state, left) {
                        (State::Data { .. }, 0) => State::DataCarriageReturn,
                        (State::Data { .. }, left) => State::Data { left },
                        (_, 0) => State::End,
                        (_, left) => State::Length { left },
                    };
                    return Ok(Step { used: at + length, content: at..at + length });
                }
                _ => self.framing_byte(byte)?,
            }
            at += 1;
        }
        Ok(Step { used: at, content: at..at })
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), &'static str> {
        self.state = match (self.state, byte) {
            (State::Size { digits, value }, b'\r') if digits > 0 => State::SizeLineFeed { value },
            (State::Size { digits, value }, _) => {
                let digit = char::from(byte).to_digit(16).ok_or("a chunk size is not a number")?;
                if digits == MAX_SIZE_DIGITS {
                    return Err("a chunk size is too long");
                }
                State::Size { digits: digits + 1, value: value * 16 + u64::from(digit) }
            }
            (State::SizeLineFeed { value: 0 }, b'\n') => State::LastCarriageReturn,
            (State::SizeLineFeed { value }, b'\n') => State::Data { left: value },
            (State::DataCarriageReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::Size { digits: 0, value: 0 },
            (State::LastCarriageReturn, b'\r') => State::LastLineFeed,
            (State::LastLineFeed, b'\n') => State::End,
            (State::LastCarriageReturn, _) => return Err("trailers are not accepted"),
            _ => return Err("a chunk does not end with CR LF"),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `wire` in pieces of `piece` bytes: content, and what was left after the end.
    fn decode(framing: Framing, wire: &[u8], piece: usize) -> Result<(Vec<u8>, bool), &'static str> {
        let (mut body, mut content) = (Body::new(framing), Vec::new());
        for piece in wire.chunks(piece) {
            let mut rest = piece;
            while !rest.is_empty() && !body.is_complete() {
                let step = body.step(rest)?;
                content.extend_from_slice(rest.get(step.content).expect("within the input"));
                rest = rest.get(step.used..).expect("within the input");
            }
        }
        Ok((content, body.is_complete()))
    }

    #[test]
    fn bodies() {
        let complete = |text: &str| Ok((text.as_bytes().to_vec(), true));
        for (framing, wire, expected) in [
            (Framing::Length(5), "helloXX", complete("hello")),
            (Framing::Length(0), "XX", complete("")),
            (Framing::Length(5), "hel", Ok((b"hel".to_vec(), false))),
            (Framing::Chunked, "5\r\nhello\r\n0A\r\n, chunked \r\n0\r\n\r\nXX", complete("hello, chunked ")),
            (Framing::Chunked, "0\r\n\r\n", complete("")),
            (Framing::Chunked, "5\r\nhel", Ok((b"hel".to_vec(), false))),
            (Framing::Chunked, "5\nhello", Err("a chunk size is not a number")),
            (Framing::Chunked, "\r\n", Err("a chunk size is not a number")),
            (Framing::Chunked, "5;a=b\r\nhello\r\n", Err("a chunk size is not a number")),
            (Framing::Chunked, "123456789\r\n", Err("a chunk size is too long")),
            (Framing::Chunked, "5\r\nhello!\r\n", Err("a chunk does not end with CR LF")),
            (Framing::Chunked, "0\r\nA: b\r\n\r\n", Err("trailers are not accepted")),
        ] {
            for piece in 1..=wire.len() {
                assert_eq!(decode(framing, wire.as_bytes(), piece), expected, "{wire:?} in pieces of {piece}");
            }
        }
    }
}
