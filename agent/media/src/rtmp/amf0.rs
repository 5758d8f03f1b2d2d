//! Values in commands: Action Message Format 0.

use bytes::{Buf, BufMut, BytesMut};

/// Objects within objects.
pub const DEPTH: usize = 4;
/// Values in one message.
const VALUES: usize = 512;

/// A value, as far as the agent has to know it.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A number.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// A string.
    String(String),
    /// Names and values, of an object or an array with names.
    Object(Vec<(String, Value)>),
    /// Null, undefined, and whatever else has no meaning here.
    Null,
}

impl Value {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// A member of an object.
    pub fn member(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Object(members) => members.iter().find(|(known, _)| known == name).map(|(_, value)| value),
            _ => None,
        }
    }
}

/// All values of a message; `None` if they break the syntax, or are more or deeper than a command has.
pub fn decode(mut bytes: &[u8]) -> Option<Vec<Value>> {
    let mut left = VALUES;
    let mut values = Vec::new();
    while !bytes.is_empty() {
        values.push(value(&mut bytes, 0, &mut left)?);
    }
    Some(values)
}

/// One value (AMF 0 specification, chapter 2).
fn value(bytes: &mut &[u8], depth: usize, left: &mut usize) -> Option<Value> {
    *left = left.checked_sub(1)?;
    if depth > DEPTH {
        return None;
    }
    Some(match bytes.try_get_u8().ok()? {
        0 => Value::Number(bytes.try_get_f64().ok()?),
        1 => Value::Boolean(bytes.try_get_u8().ok()? != 0),
        2 => {
            let length = bytes.try_get_u16().ok()?;
            Value::String(text(bytes, length.into())?)
        }
        3 => Value::Object(members(bytes, depth, left)?),
        5 | 6 => Value::Null,
        8 => {
            bytes.try_get_u32().ok()?;
            Value::Object(members(bytes, depth, left)?)
        }
        10 => {
            let count = bytes.try_get_u32().ok()?;
            for _ in 0..count {
                value(bytes, depth + 1, left)?;
            }
            Value::Null
        }
        11 => {
            bytes.try_get_f64().ok()?;
            bytes.try_get_i16().ok()?;
            Value::Null
        }
        12 => {
            let length = bytes.try_get_u32().ok()?;
            Value::String(text(bytes, length as usize)?)
        }
        _ => return None,
    })
}

/// Up to the end marker: an empty name, and 9.
fn members(bytes: &mut &[u8], depth: usize, left: &mut usize) -> Option<Vec<(String, Value)>> {
    let mut members = Vec::new();
    loop {
        let length = bytes.try_get_u16().ok()?;
        let name = text(bytes, length.into())?;
        if name.is_empty() && bytes.first() == Some(&9) {
            bytes.advance(1);
            return Some(members);
        }
        members.push((name, value(bytes, depth + 1, left)?));
    }
}

fn text(bytes: &mut &[u8], length: usize) -> Option<String> {
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// Appends values.
pub fn encode(out: &mut BytesMut, values: &[Value]) {
    for value in values {
        match value {
            Value::Number(number) => {
                out.put_u8(0);
                out.put_f64(*number);
            }
            Value::Boolean(boolean) => out.put_slice(&[1, u8::from(*boolean)]),
            Value::String(text) => {
                out.put_u8(2);
                put_text(out, text);
            }
            Value::Object(members) => {
                out.put_u8(3);
                for (name, value) in members {
                    put_text(out, name);
                    encode(out, std::slice::from_ref(value));
                }
                out.put_slice(&[0, 0, 9]);
            }
            Value::Null => out.put_u8(5),
        }
    }
}

/// Texts of ours are short; a longer one is cut.
fn put_text(out: &mut BytesMut, text: &str) {
    let length = text.len().min(u16::MAX.into());
    out.put_u16(length as u16);
    out.put_slice(&text.as_bytes()[..length]);
}
