//! `edgecam rtsp-url`: the address of a camera's stream, by brand. Prints no user and no password, and takes none.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::EXIT_CONFIG;
use super::output::{fail, say};

/// The forms that no document of the maker, nor a working client, was read for.
const UNVERIFIED: &str = "this form is unverified: it is what people say, and differs by model and firmware";

#[derive(Args)]
#[command(
    after_help = "Unverified forms: uniview, vivotek live, milestone and reolink; recordings of hikvision, dahua, \
                        amcrest, lorex and uniview. axis, bosch, unifi, milestone and reolink have no URL for a recording \
                        by time."
)]
pub(super) struct Arguments {
    /// The brand
    brand: Brand,
    /// Address or name of the camera or recorder
    #[arg(long)]
    host: String,
    /// Port, if it is not the brand's own
    #[arg(long)]
    port: Option<u16>,
    /// Channel, from 1
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=999))]
    channel: u16,
    /// Which of the channel's streams
    #[arg(long, value_enum, default_value_t = Stream::Main)]
    stream: Stream,
    /// Id of the stream: UniFi's token, Milestone's GUID
    #[arg(long)]
    id: Option<String>,
    /// A recording from this time on (RFC 3339). Brands that count in local time take the time as it is written
    #[arg(long, requires = "end")]
    start: Option<String>,
    /// A recording until this time
    #[arg(long, requires = "start")]
    end: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Brand {
    Hikvision,
    Dahua,
    Amcrest,
    Lorex,
    Axis,
    Uniview,
    Bosch,
    Vivotek,
    Tvt,
    Unifi,
    Milestone,
    Reolink,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Stream {
    Main,
    Sub,
    Third,
}

/// An address, and whether its form has been verified.
#[derive(PartialEq, Eq, Debug)]
struct Address {
    url: String,
    is_verified: bool,
}

pub(super) fn main(arguments: Arguments) -> ExitCode {
    match address(&arguments) {
        Ok(Address { url, is_verified }) => {
            say(format_args!("{url}"));
            if !is_verified {
                writeln!(io::stderr(), "edgecam: {UNVERIFIED}").ok();
            }
            ExitCode::SUCCESS
        }
        Err(error) => fail(EXIT_CONFIG, format_args!("{error}")),
    }
}

/// A time as given: in UTC, and as a clock on the wall beside whoever wrote it shows it.
struct Time {
    utc: DateTime,
    local: DateTime,
    unix: i64,
}

fn time(name: &str, text: &str) -> Result<Time, String> {
    let wrong = || format!("--{name}: `{text}` is no time such as 2026-11-21T08:00:00Z or 2026-11-21T09:00:00+01:00");
    let at: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    let utc = at.to_zoned(TimeZone::UTC).datetime();
    // With Z there is no other time than UTC.
    let local = text.parse().unwrap_or(utc);
    Ok(Time { utc, local, unix: at.as_second() })
}

fn address(arguments: &Arguments) -> Result<Address, String> {
    let Arguments { brand, channel, stream, .. } = arguments;
    let host = host(&arguments.host)?;
    let default_port = if *brand == Brand::Unifi { 7441 } else { 554 };
    let port = arguments.port.unwrap_or(default_port);
    let scheme = if *brand == Brand::Unifi { "rtsps" } else { "rtsp" };
    let (path, is_verified) = match (&arguments.start, &arguments.end) {
        (Some(start), Some(end)) => {
            let (start, end) = (time("start", start)?, time("end", end)?);
            if start.unix >= end.unix {
                return Err("--end is not after --start".to_owned());
            }
            recorded(*brand, *channel, *stream, &start, &end)?
        }
        _ => live(*brand, *channel, *stream, arguments.id.as_deref())?,
    };
    Ok(Address { url: format!("{scheme}://{host}:{port}{path}"), is_verified })
}

fn host(text: &str) -> Result<String, String> {
    let bare = text.trim_matches(['[', ']']);
    let host = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
    match url::Url::parse(&format!("rtsp://{host}/")) {
        // What is wrong may hold a password: it is not repeated.
        Ok(url) if url.username().is_empty() && url.path() == "/" && url.host_str() == Some(&host) => Ok(host),
        _ => Err("--host is no host name or address; user and password do not belong here".to_owned()),
    }
}

fn live(brand: Brand, channel: u16, stream: Stream, id: Option<&str>) -> Result<(String, bool), String> {
    let number = stream as u16;
    let id = || {
        let id = id.ok_or_else(|| format!("--id is missing: {brand:?} names its streams by an id of its own"))?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_{}".contains(c);
        // Copied from the web page it has this behind it; it would ask for encrypted RTP.
        let id = id.trim_end_matches("?enableSrtp");
        if id.is_empty() || !id.chars().all(is_plain) {
            return Err("--id holds more than letters, digits, - and _".to_owned());
        }
        Ok(id.trim_matches(['{', '}']).to_owned())
    };
    let no_third = |name: &str| match stream {
        Stream::Third => Err(format!("{brand:?} has no third stream by {name}")),
        _ => Ok(()),
    };
    Ok(match brand {
        Brand::Hikvision => (format!("/Streaming/Channels/{channel}{:02}", number + 1), true),
        Brand::Dahua | Brand::Amcrest | Brand::Lorex => {
            (format!("/cam/realmonitor?channel={channel}&subtype={number}"), true)
        }
        Brand::Axis if stream != Stream::Main => {
            return Err(
                "an Axis camera has stream profiles by name: make one there, and put &streamprofile=NAME behind \
                        the URL of the main stream"
                    .to_owned(),
            );
        }
        Brand::Axis => (format!("/axis-media/media.amp?camera={channel}"), true),
        Brand::Uniview => (format!("/unicast/c{channel}/s{number}/live"), false),
        Brand::Bosch => (format!("/rtsp_tunnel?h26x=4&line={channel}&inst={}", number + 1), true),
        Brand::Vivotek if channel != 1 => return Err("a Vivotek camera has one channel".to_owned()),
        Brand::Vivotek => {
            (format!("/live{}.sdp", if number == 0 { String::new() } else { (number + 1).to_string() }), false)
        }
        Brand::Tvt => {
            no_third("its URL")?;
            let name = if stream == Stream::Main { "main" } else { "sub" };
            (format!("/?chID={channel}&streamType={name}&linkType=tcp"), true)
        }
        Brand::Unifi => (format!("/{}", id()?), true),
        Brand::Milestone => (format!("/live/{}", id()?), false),
        Brand::Reolink => {
            no_third("its URL")?;
            let name = if stream == Stream::Main { "main" } else { "sub" };
            (format!("/h264Preview_{channel:02}_{name}"), false)
        }
    })
}

fn recorded(brand: Brand, channel: u16, stream: Stream, start: &Time, end: &Time) -> Result<(String, bool), String> {
    let number = stream as u16;
    Ok(match brand {
        Brand::Hikvision => {
            let at = |time: &Time| time.utc.strftime("%Y%m%dt%H%M%Sz").to_string();
            let (start, end) = (at(start), at(end));
            (format!("/Streaming/tracks/{channel}{:02}?starttime={start}&endtime={end}", number + 1), false)
        }
        Brand::Dahua | Brand::Amcrest | Brand::Lorex => {
            let at = |time: &Time| time.local.strftime("%Y_%m_%d_%H_%M_%S").to_string();
            (format!("/cam/playback?channel={channel}&starttime={}&endtime={}", at(start), at(end)), false)
        }
        Brand::Uniview => (format!("/c{channel}/b{}/e{}/replay/", start.unix, end.unix), false),
        Brand::Vivotek => {
            let at = |time: &Time| time.utc.strftime("%Y%m%d_%H%M%S.000").to_string();
            (format!("/mod.sdp?stime={}&etime={}&loctime=0", at(start), at(end)), true)
        }
        Brand::Tvt => {
            let at = |time: &Time| time.local.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let (start, end) = (at(start), at(end));
            let path = "/rtsp/playback?channel=";
            (format!("{path}{channel:02}&subtype={number}&starttime={start}&endtime={end}&localtime=true"), true)
        }
        Brand::Axis | Brand::Bosch | Brand::Unifi | Brand::Milestone | Brand::Reolink => {
            return Err(format!("{brand:?} has no RTSP URL for a recording by time; ONVIF may have one"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(words: &str) -> Arguments {
        use clap::Parser;
        #[derive(Parser)]
        struct Command {
            #[command(flatten)]
            arguments: Arguments,
        }
        Command::try_parse_from(format!("rtsp-url {words}").split(' ')).expect("arguments").arguments
    }

    #[test]
    fn addresses_by_brand() {
        let range = "--start 2026-11-21T09:00:00+01:00 --end 2026-11-21T08:05:00Z";
        for (words, is_verified, url) in [
            ("hikvision --host 10.0.0.7", true, "rtsp://10.0.0.7:554/Streaming/Channels/101"),
            (
                "hikvision --host 10.0.0.7 --channel 12 --stream sub",
                true,
                "rtsp://10.0.0.7:554/Streaming/Channels/1202",
            ),
            (
                "hikvision --host h RANGE",
                false,
                "rtsp://h:554/Streaming/tracks/101?starttime=20261121t080000z&endtime=20261121t080500z",
            ),
            ("dahua --host h --channel 2 --stream third", true, "rtsp://h:554/cam/realmonitor?channel=2&subtype=2"),
            (
                "amcrest --host h RANGE",
                false,
                "rtsp://h:554/cam/playback?channel=1&starttime=2026_11_21_09_00_00&endtime=2026_11_21_08_05_00",
            ),
            ("lorex --host h", true, "rtsp://h:554/cam/realmonitor?channel=1&subtype=0"),
            (
                "axis --host fe80::1 --port 8554 --channel 3",
                true,
                "rtsp://[fe80::1]:8554/axis-media/media.amp?camera=3",
            ),
            ("uniview --host h --channel 4 --stream sub", false, "rtsp://h:554/unicast/c4/s1/live"),
            ("uniview --host h RANGE", false, "rtsp://h:554/c1/b1795248000/e1795248300/replay/"),
            ("bosch --host h", true, "rtsp://h:554/rtsp_tunnel?h26x=4&line=1&inst=1"),
            ("vivotek --host h --stream sub", false, "rtsp://h:554/live2.sdp"),
            (
                "vivotek --host h RANGE",
                true,
                "rtsp://h:554/mod.sdp?stime=20261121_080000.000&etime=20261121_080500.000&loctime=0",
            ),
            ("tvt --host h --channel 2 --stream sub", true, "rtsp://h:554/?chID=2&streamType=sub&linkType=tcp"),
            (
                "tvt --host h --channel 2 --start 2024-02-29T15:09:15Z --end 2024-02-29T15:10:00Z",
                true,
                "rtsp://h:554/rtsp/playback?channel=02&subtype=0&starttime=2024-02-29T15:09:15Z&endtime=2024-02-29T15:10:00Z&localtime=true",
            ),
            ("unifi --host h --id AbC123?enableSrtp", true, "rtsps://h:7441/AbC123"),
            ("milestone --host h --id {6f1c-22}", false, "rtsp://h:554/live/6f1c-22"),
            ("reolink --host h --channel 3 --stream sub", false, "rtsp://h:554/h264Preview_03_sub"),
        ] {
            let found = address(&arguments(&words.replace("RANGE", range)));
            assert_eq!(found, Ok(Address { url: url.to_owned(), is_verified }), "{words}");
            url::Url::parse(url).expect("a URL");
        }
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (words, says) in [
            ("axis --host h --stream sub", "streamprofile"),
            ("tvt --host h --stream third", "no third stream"),
            ("unifi --host h", "--id is missing"),
            ("unifi --host h --id a/b", "--id holds"),
            ("vivotek --host h --channel 2", "one channel"),
            ("bosch --host h --start 2026-11-21T08:00:00Z --end 2026-11-21T08:05:00Z", "no RTSP URL for a recording"),
            ("hikvision --host h --start 8:00 --end 9:00", "`8:00` is no time"),
            ("hikvision --host h --start 2026-11-21T08:00:00Z --end 2026-11-21T08:00:00Z", "not after"),
            ("hikvision --host admin:secret@h", "do not belong here"),
            ("hikvision --host h/path", "--host is no host name"),
        ] {
            let error = address(&arguments(words)).expect_err(words);
            assert!(error.contains(says) && !error.contains("secret"), "{error}");
        }
    }
}
