//! The edgecam program.

use std::process::ExitCode;

fn main() -> ExitCode {
    edgecam::cli::main()
}
