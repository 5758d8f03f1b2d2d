//! Small XML answers of devices, read as a whole: SOAP, WS-Discovery.
//!
//! The sender is not trusted. Invariants: no DTD, so no entities but the five of XML itself: an `&` that begins none of
//! these, nor a character, stands for itself, because devices write names as a person typed them; elements, depth and
//! attributes are bounded; nothing is fetched; what is kept is smaller than a few times the text, whose size the
//! caller bounds. Names are compared without their prefixes: devices declare the same namespaces under any prefix,
//! and some under none.

use std::fmt::Write as _;

use quick_xml::Reader;
use quick_xml::escape::{escape as escaped, unescape};
use quick_xml::events::{BytesStart, Event};

/// Nesting. A device tree of a NUUO server has about 15 levels.
const DEPTH: usize = 48;
/// Elements. 64 cameras with 4 profiles of 10 fields take about 4,000.
const ELEMENTS: usize = 60_000;
/// Attributes of one element that are kept.
const ATTRIBUTES: usize = 16;
/// A reference is shorter; `&#x10FFFF;` has 10 bytes.
const REFERENCE: usize = 16;

/// An element with what is in it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Element>,
}

/// Why a text is no XML that is taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum XmlError {
    /// It breaks the syntax, or ends too soon.
    #[error("it is not XML: {0}")]
    Malformed(String),
    /// It declares a document type.
    #[error("it holds a DTD, which could make it grow without end")]
    HasDtd,
    /// It has more elements, or deeper ones, than it may.
    #[error("it has more than {ELEMENTS} elements or {DEPTH} levels")]
    TooLarge,
}

/// Reads a whole document and returns its root.
pub fn parse(text: &[u8]) -> Result<Element, XmlError> {
    let text = String::from_utf8_lossy(text);
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    reader.config_mut().allow_dangling_amp = true;
    let malformed = |error: String| XmlError::Malformed(error);
    let mut open: Vec<Element> = Vec::new();
    let mut elements = 0;
    loop {
        let event = reader.read_event().map_err(|error| malformed(error.to_string()))?;
        let done = match event {
            Event::Start(start) => {
                elements += 1;
                if elements > ELEMENTS || open.len() >= DEPTH {
                    return Err(XmlError::TooLarge);
                }
                open.push(element(&start)?);
                None
            }
            Event::Empty(start) => {
                elements += 1;
                if elements > ELEMENTS {
                    return Err(XmlError::TooLarge);
                }
                Some(element(&start)?)
            }
            Event::End(_) => open.pop(),
            Event::Text(text) => {
                if let Some(inner) = open.last_mut() {
                    inner.text.push_str(&text.into_inner());
                }
                None
            }
            Event::CData(text) => {
                if let Some(inner) = open.last_mut() {
                    inner.text.push_str(&text.into_inner());
                }
                None
            }
            Event::GeneralRef(reference) => {
                if let Some(inner) = open.last_mut() {
                    inner.text.push_str(&lenient(&format!("&{};", reference.into_inner())));
                }
                None
            }
            Event::DocType(_) => return Err(XmlError::HasDtd),
            Event::Eof => return Err(malformed("it ends too soon".to_owned())),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => None,
        };
        let Some(mut done) = done else { continue };
        if done.text.trim().len() < done.text.len() {
            done.text = done.text.trim().to_owned();
        }
        match open.last_mut() {
            Some(outer) => outer.children.push(done),
            // What follows the root is of no interest.
            None => return Ok(done),
        }
    }
}

fn element(start: &BytesStart<'_>) -> Result<Element, XmlError> {
    let mut found = Element { name: start.local_name().into_inner().to_owned(), ..Element::default() };
    for attribute in start.attributes().take(ATTRIBUTES) {
        let attribute = attribute.map_err(|error| XmlError::Malformed(error.to_string()))?;
        let value = lenient(&attribute.value);
        found.attributes.push((attribute.key.local_name().into_inner().to_owned(), value));
    }
    Ok(found)
}

/// `text` with its references replaced, but for those that mean nothing. Never longer than it was.
fn lenient(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.find('&').map(|at| rest.split_at(at)) {
        out.push_str(before);
        let end = from.bytes().take(REFERENCE).position(|byte| byte == b';').map(|at| at + 1);
        let reference = end.and_then(|end| from.split_at_checked(end));
        let known = reference.and_then(|(reference, after)| Some((unescape(reference).ok()?, after)));
        if let Some((character, after)) = known {
            out.push_str(&character);
            rest = after;
        } else {
            out.push('&');
            rest = from.get(1..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

impl Element {
    /// Its name, without prefix.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its text, without the white space around it, and without that of its children.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// An attribute, by its name without prefix.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Its children.
    pub fn children(&self) -> &[Element] {
        &self.children
    }

    /// Its children of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first child of this name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text at the end of a path of children, unless it is empty.
    pub fn at(&self, path: &[&str]) -> Option<&str> {
        let found = path.iter().try_fold(self, |element, name| element.child(name))?;
        Some(found.text.as_str()).filter(|text| !text.is_empty())
    }

    /// The first element of this name, itself or below it.
    pub fn find(&self, name: &str) -> Option<&Element> {
        // The depth is bounded by `parse`.
        if self.name == name { Some(self) } else { self.children.iter().find_map(|child| child.find(name)) }
    }
}

/// `text` as it is written between tags and in attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in escaped(text).chars() {
        // What XML 1.0 has no way to write (section 2.2) is left out.
        if !character.is_control() || matches!(character, '\t' | '\n' | '\r') {
            write!(out, "{character}").ok();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_read_whatever_their_prefixes() {
        let text = "\u{feff}<?xml version='1.0'?><!-- x --><S:Envelope xmlns:S='s'><S:Body><np:a np:type=\"t&amp;u\">
            <item> one </item><item/><item>&lt;2&#x41;<![CDATA[<3>]]></item></np:a></S:Body></S:Envelope> trailing";
        let root = parse(text.as_bytes()).expect("XML");
        let a = root.find("a").expect("it is there");
        assert_eq!(a.attribute("type"), Some("t&u"));
        assert_eq!(a.all("item").map(Element::text).collect::<Vec<_>>(), ["one", "", "<2A<3>"]);
        assert_eq!(root.at(&["Body", "a", "item"]), Some("one"));
        assert_eq!(root.at(&["Body", "b"]), None);
        assert_eq!((root.name(), root.children().len()), ("Envelope", 1));
    }

    #[test]
    fn hostile_texts_are_refused() {
        let check = |text: &str, is_expected: fn(&XmlError) -> bool| {
            let error = parse(text.as_bytes()).expect_err(text);
            assert!(is_expected(&error), "{text}: {error:?}");
        };
        let laughs = "<!DOCTYPE x [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;\">]><x>&b;</x>";
        check(laughs, |error| *error == XmlError::HasDtd);
        check(&"<x>".repeat(100_000), |error| *error == XmlError::TooLarge);
        check(&format!("<y>{}", "<x/>".repeat(100_000)), |error| *error == XmlError::TooLarge);
        for cut in ["", "<x", "<x>", "<x></y>", "no XML at all", "<x><y></x>", "\0\0"] {
            check(cut, |error| matches!(error, XmlError::Malformed(_)));
        }
    }

    #[test]
    fn references_that_mean_nothing_stand_for_themselves() {
        for (written, expected) in [
            ("Bed & Breakfast", "Bed & Breakfast"),
            ("a&b&amp;c&", "a&b&c&"),
            ("&nbsp;x&b;&#x41;", "&nbsp;x&b;A"),
            ("&#0;&#xD800;&;&#;", "&#0;&#xD800;&;&#;"),
            ("R&D; & &lt;more&gt;", "R&D; & <more>"),
            ("&&amp;&ü;", "&&&ü;"),
            ("&amp;amp;", "&amp;"),
        ] {
            let root = parse(format!("<x y='{written}'><z>{written}</z></x>").as_bytes()).expect(written);
            assert_eq!((root.attribute("y"), root.at(&["z"])), (Some(expected), Some(expected)), "{written}");
        }
        let many = "&".repeat(1 << 20) + ";";
        assert_eq!(parse(format!("<x y='{many}'/>").as_bytes()).expect("XML").attribute("y"), Some(many.as_str()));
    }

    #[test]
    fn what_is_written_can_be_read() {
        for text in ["a<b>&\"c'", "ü", "tab\tnew\nline"] {
            let root = parse(format!("<x>{0}</x>", escape(text)).as_bytes()).expect("XML");
            assert_eq!(root.text(), text);
        }
        assert_eq!(escape("a\u{0}b\u{1b}"), "ab");
    }
}
