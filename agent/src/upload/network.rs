//! What all connections of the agent share: TLS with its certificates, and the addresses last found.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use edgecam_kvs::{Fault, FaultClass};
use rustls::ClientConfig;
use tokio::net::lookup_host;
use tokio::sync::{Mutex, OnceCell};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::tls;

/// For one look-up, and for the turn to make one.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Shared by all cameras.
#[derive(Default)]
pub struct Network {
    tls: OnceCell<Result<Arc<ClientConfig>, String>>,
    /// One look-up at a time: each holds a thread for as long as the resolver takes.
    known: Mutex<HashMap<(String, u16), Vec<SocketAddr>>>,
}

impl Network {
    /// The TLS configuration: certificates are read once, and not on the thread that cameras are waiting for.
    pub(crate) async fn tls(&self) -> Result<Arc<ClientConfig>, Fault> {
        let make = async || match spawn_blocking(tls::client_config).await {
            Ok(made) => made,
            Err(error) => Err(format!("TLS cannot be set up: {error}")),
        };
        let config = self.tls.get_or_init(make).await.clone();
        config.map_err(|message| Fault::new(FaultClass::Network, message))
    }

    /// The addresses of a host. When the resolver fails, those it gave before: a connection may well work.
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Fault> {
        let lookup = async {
            let mut known = self.known.lock().await;
            let key = (host.to_owned(), port);
            match timeout(LOOKUP_TIMEOUT, lookup_host((host, port))).await {
                Ok(Ok(found)) => {
                    let found: Vec<SocketAddr> = found.collect();
                    known.insert(key, found.clone());
                    Ok(found)
                }
                Ok(Err(error)) => known.get(&key).cloned().ok_or_else(|| format!("{host} cannot be resolved: {error}")),
                Err(_) => known.get(&key).cloned().ok_or_else(|| format!("looking up {host} took longer than 5 s")),
            }
        };
        let found = match timeout(LOOKUP_TIMEOUT * 2, lookup).await {
            Ok(found) => found,
            Err(_) => Err(format!("the resolver is busy; {host} was not looked up")),
        };
        found.map_err(|message| Fault::new(FaultClass::Network, message))
    }
}
