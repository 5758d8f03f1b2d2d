//! `edgecam nvr list`: what a recorder or an ONVIF device has.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::EXIT_CONFIG;
use super::output::{fail, say};
use crate::capture::nuuo::{self, Camera};
use crate::capture::onvif::{self, MediaProfile, Offer};
use crate::config;
use crate::config::secret::redact_url;
use crate::config::source::Source;
use crate::telemetry;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the cameras of a NUUO recorder, or the sources of an ONVIF device, and their profiles
    List {
        /// nuuo://[user@]host[:port] or onvif://[user@]host[:port]
        url: String,
        #[command(flatten)]
        access: Access,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Who one is there.
#[derive(Args)]
pub(super) struct Access {
    /// User name
    #[arg(long)]
    username: Option<String>,
    /// File that holds the password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Environment variable that holds the password
    #[arg(long, value_name = "NAME")]
    password_env: Option<String>,
}

impl Access {
    /// The source that the config file would have, with its checks.
    pub(super) fn source(&self, kind: &str, url: &str) -> Result<Source, config::ConfigError> {
        let mut source = json!({ "url": url });
        if let Some(name) = &self.username {
            source["username"] = json!(name);
        }
        if let Some(file) = &self.password_file {
            source["password_file"] = json!(file);
        }
        if let Some(name) = &self.password_env {
            source["password_env"] = json!(name);
        }
        let config = config::parse(&json!({ "cameras": [{ "name": "nvr", kind: source }] }).to_string())?;
        let camera = config.cameras.into_iter().next();
        camera.map(|camera| camera.source).ok_or_else(|| config::ConfigError::new("no source"))
    }
}

pub(super) async fn main(arguments: Arguments) -> ExitCode {
    telemetry::log::init(tracing::Level::WARN);
    let Command::List { url, access, json } = arguments.command;
    let kind = if url.starts_with("onvif:") { "onvif" } else { "nuuo" };
    let listed = match access.source(kind, &url) {
        Ok(Source::Nuuo(settings)) => nuuo::list(&settings).await.map(|(_, cameras)| {
            if json {
                say(format_args!("{}", json!({ "cameras": cameras })));
            } else {
                table(&cameras);
            }
        }),
        Ok(Source::Onvif(settings)) => onvif::list(&settings, true).await.map(|offers| {
            if json {
                say(format_args!("{}", json!({ "profiles": offers })));
            } else {
                profiles(&offers);
            }
        }),
        Ok(_) => return fail(EXIT_CONFIG, format_args!("not a nuuo:// or onvif:// URL")),
        Err(error) => return fail(EXIT_CONFIG, format_args!("{error}")),
    };
    match listed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, format_args!("{error}")),
    }
}

fn profiles(offers: &[Offer]) {
    for Offer { profile, stream, .. } in offers {
        let MediaProfile { token, name, source, encoding, width, height } = profile;
        // The query of a URL may hold a password.
        let url = stream.as_deref().and_then(|url| url.parse().ok()).map(|url| redact_url(&url)).unwrap_or_default();
        say(format_args!("{source}  {token}  {name}  {encoding} {width}x{height}  {url}"));
    }
}

fn table(cameras: &[Camera]) {
    let width =
        |cell: fn(&Camera) -> &str| cameras.iter().map(|camera| cell(camera).chars().count()).max().unwrap_or(0);
    let (name, id) = (width(|camera| &camera.name).max(4), width(|camera| &camera.id).max(2));
    say(format_args!("{:name$}  {:id$}  PROFILES", "NAME", "ID"));
    for camera in cameras {
        let profile = |profile: &nuuo::Profile| match profile.codecs.join("/") {
            codecs if codecs.is_empty() => profile.name.clone(),
            codecs if codecs == "h264" => profile.name.clone(),
            codecs => format!("{} ({codecs})", profile.name),
        };
        let profiles = camera.profiles.iter().map(profile).collect::<Vec<_>>().join(", ");
        say(format_args!("{:name$}  {:id$}  {profiles}", camera.name, camera.id));
    }
}
