//! `edgecam schema`.

use std::process::ExitCode;

use super::output::{fail, say};
use crate::config;

pub(super) fn main() -> ExitCode {
    match serde_json::to_string_pretty(&config::schema()) {
        Ok(text) => {
            say(format_args!("{text}"));
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, format_args!("{error}")),
    }
}
