//! Python programs from PyPI, each set in an environment of its own: kept from run to run, outside the checkout.

use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::sync::Mutex;

static MAKING: Mutex<()> = Mutex::const_new(());

/// The directory with the programs of `packages`, which is made if it is not there.
pub(crate) async fn environment(name: &str, packages: &[&str]) -> PathBuf {
    let _alone = MAKING.lock().await;
    let base = std::env::var_os("EDGECAM_TEST_CACHE").map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = base.join(format!("edgecam-python-{name}"));
    let done = directory.join("packages.txt");
    let wanted = packages.join(" ");
    if std::fs::read_to_string(&done).is_ok_and(|found| found == wanted) {
        return directory.join("bin");
    }
    let (made, wanted_packages) =
        (directory.clone(), packages.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let made = tokio::task::spawn_blocking(move || make(&made, &wanted_packages)).await.expect("no panic");
    if let Err(error) = made {
        panic!("{wanted} cannot be had from PyPI: {error}");
    }
    std::fs::write(&done, wanted).expect("it is written");
    directory.join("bin")
}

fn make(directory: &Path, packages: &[String]) -> Result<(), String> {
    std::fs::remove_dir_all(directory).ok();
    run(Command::new("python3").args(["-m", "venv"]).arg(directory))?;
    run(Command::new(directory.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .args(packages))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
