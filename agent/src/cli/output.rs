//! Words for the person at the terminal. A closed pipe is no error.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// A line on standard output.
pub(super) fn say(line: fmt::Arguments<'_>) {
    writeln!(io::stdout(), "{line}").ok();
}

/// A line on standard error, before there is a log.
pub(super) fn note(line: &str) {
    writeln!(io::stderr(), "edgecam: {line}").ok();
}

/// A line on standard error, and an exit code.
pub(super) fn fail(code: u8, line: fmt::Arguments<'_>) -> ExitCode {
    writeln!(io::stderr(), "edgecam: {line}").ok();
    ExitCode::from(code)
}

/// Overwrites the current line of a terminal's standard error.
pub(super) fn progress(line: &str) {
    write!(io::stderr(), "\r\x1b[2K{line}").ok();
    io::stderr().flush().ok();
}

/// Bytes in words.
pub(super) fn bytes(count: u64) -> String {
    bytesize::ByteSize(count).display().si().to_string()
}
