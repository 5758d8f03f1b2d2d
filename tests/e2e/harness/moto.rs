//! moto: AWS's services besides Kinesis Video Streams, as far as the agent calls them.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tokio::net::TcpStream;

use super::agent::free_port;
use super::{PATIENCE, poll, python};

/// moto, as a server of its own. Killed when dropped.
pub(crate) struct Moto {
    child: Child,
    pub(crate) port: u16,
    python: PathBuf,
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Moto {
    pub(crate) async fn start() -> Self {
        let bin = python::environment("moto", &["moto[server]==5.1.16", "boto3==1.44.8", "awscli==1.46.3"]).await;
        let port = free_port();
        let mut command = Command::new(bin.join("moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("moto is installed");
        let up = poll(PATIENCE, async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        assert!(up.is_some(), "moto did not start");
        Self { child, port, python: bin.join("python") }
    }

    /// A program beside it, such as AWS's own command line.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.python.with_file_name(name)
    }

    /// Runs Python with boto3 clients at hand; returns what it prints, as JSON.
    pub(crate) async fn boto(&self, program: &str) -> Value {
        let head = format!(
            "import boto3, json\na = dict(endpoint_url='http://127.0.0.1:{}', region_name='eu-central-1', \
             aws_access_key_id='x', aws_secret_access_key='y')\nkinesis = boto3.client('kinesis', **a)\n\
             s3 = boto3.client('s3', **a)\nsecrets = boto3.client('secretsmanager', **a)\ndynamodb = boto3.client('dynamodb', **a)\n",
            self.port
        );
        let output = tokio::process::Command::new(&self.python).arg("-c").arg(head + program).output().await;
        let output = output.expect("python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }
}
