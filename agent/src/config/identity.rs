//! Who this device is: thing name, serial number, user; and stream names made from them.

use std::fs;

/// Serial numbers that firmware ships when nobody filled them in.
const PLACEHOLDERS: [&str; 8] = [
    "to be filled by o.e.m.",
    "default string",
    "system serial number",
    "not specified",
    "none",
    "n/a",
    "0123456789",
    "123456789",
];

/// The device's name: AWS_IOT_THING_NAME (Greengrass sets it), else the host name.
pub fn thing() -> String {
    let from_environment = environment("AWS_IOT_THING_NAME");
    let host = || fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    from_environment.or_else(host).filter(|name| !name.is_empty()).unwrap_or_else(|| "edgecam".to_owned())
}

/// The device's serial number: from DMI, the device tree, cpuinfo, or the machine id.
pub fn serial() -> Option<String> {
    let file = |path: &str| fs::read_to_string(path).ok();
    let cpuinfo = || {
        let text = file("/proc/cpuinfo")?;
        let line = text.lines().find(|line| line.starts_with("Serial"))?;
        line.split(':').nth(1).map(str::to_owned)
    };
    [
        file("/sys/class/dmi/id/product_serial"),
        file("/sys/class/dmi/id/board_serial"),
        file("/sys/firmware/devicetree/base/serial-number"),
        cpuinfo(),
        file("/etc/machine-id"),
    ]
    .into_iter()
    .flatten()
    .find_map(|text| usable_serial(&text))
}

/// The device's model: from DMI or the device tree.
pub fn model() -> Option<String> {
    let paths = ["/sys/class/dmi/id/product_name", "/sys/firmware/devicetree/base/model"];
    let texts = paths.into_iter().filter_map(|path| fs::read_to_string(path).ok());
    let trimmed = |text: String| text.trim_matches(|c: char| c.is_whitespace() || c.is_control()).to_owned();
    let is_placeholder = |text: &str| PLACEHOLDERS.contains(&text.to_ascii_lowercase().as_str());
    texts.map(trimmed).find(|text| !text.is_empty() && !is_placeholder(text))
}

/// Serial numbers without placeholders, as far as a stream name can hold them.
fn usable_serial(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let is_placeholder = PLACEHOLDERS.contains(&text.to_ascii_lowercase().as_str());
    let is_blank = text.chars().all(|c| matches!(c, '0' | ' ' | '.' | '-'));
    let clean: String = text.chars().filter(|c| c.is_ascii_alphanumeric() || "_.-".contains(*c)).collect();
    (!is_placeholder && !is_blank && clean.len() >= 4).then_some(clean)
}

/// The user the agent runs for.
pub fn user() -> Option<String> {
    environment("SUDO_USER").or_else(|| environment("USER")).or_else(|| environment("LOGNAME"))
}

/// A variable of the environment that is set and not empty.
pub(crate) fn environment(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "config/ is where the environment is read")]
    let value = std::env::var(name);
    value.ok().filter(|value| !value.is_empty())
}

/// Fills in a stream name's template. The error says what is missing or not allowed.
pub fn stream_name(template: &str, thing: &str, camera: &str) -> Result<String, String> {
    let mut name = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        name.push_str(before);
        let (key, after) = after.split_once('}').ok_or(format!("`{template}` has a `{{` without a `}}`"))?;
        match key {
            "thing" => name.push_str(thing),
            "camera" => name.push_str(camera),
            "serial" => name.push_str(&serial().ok_or("this device has no usable serial number: write it out")?),
            "user" => name.push_str(&user().ok_or("the user is not known here: write it out")?),
            other => {
                return Err(format!(
                    "`{{{other}}}` is not known; known are {{thing}}, {{serial}}, {{camera}}, {{user}}"
                ));
            }
        }
        rest = after;
    }
    name.push_str(rest);
    match name.chars().find(|c| !is_legal(*c)) {
        Some(c) => Err(format!("`{name}` holds `{c}`; a stream name has letters, digits, `_`, `.` and `-`")),
        None if name.is_empty() || name.len() > 256 => {
            Err(format!("a stream name has 1 to 256 characters, not {}", name.len()))
        }
        None => Ok(name),
    }
}

fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.-".contains(c)
}

/// Whether a stream can have this name.
pub fn is_stream_name(name: &str) -> bool {
    (1..=256).contains(&name.len()) && name.chars().all(is_legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_refused() {
        for (text, usable) in [
            ("10000000abcdef01\0", Some("10000000abcdef01")),
            ("To Be Filled By O.E.M.\n", None),
            ("Default string", None),
            ("0000000000000000", None),
            ("", None),
            ("  DLC 1102/7 ", Some("DLC11027")),
        ] {
            assert_eq!(usable_serial(text).as_deref(), usable, "{text:?}");
        }
    }

    #[test]
    fn stream_names_from_templates() {
        assert_eq!(stream_name("{thing}-{camera}", "gw", "door").as_deref(), Ok("gw-door"));
        assert_eq!(stream_name("plain", "gw", "door").as_deref(), Ok("plain"));
        for bad in ["{thing", "{nope}", "a b", "", "ü"] {
            assert!(stream_name(bad, "gw", "door").is_err(), "{bad}");
        }
    }
}
