//! Empties the outbox of one destination.

use std::time::Duration;

use edgecam_kvs::Backoff;
use tokio_util::sync::CancellationToken;

use super::aws::Connection;
use super::batch::{Failure, Fate, Sent};
use super::s3::Bucket;
use super::webhook::Hook;
use super::{Aws, Publisher, directory, dynamodb, greengrass, kinesis, s3};
use crate::config::publishers::Destination;
use crate::event::message::Envelope;
use crate::event::outbox::{Next, Sequence};

/// For one attempt: several requests to S3 at most.
const ATTEMPT: Duration = Duration::from_secs(60);
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
const RETRY_REFUSED: Duration = Duration::from_secs(60);

/// After so many messages a directory is looked through for what is too much.
const SWEEP: u64 = 50;

/// A message that was taken and is not done.
struct Waiting {
    sequence: Sequence,
    envelope: Envelope,
}

/// Sends what waits until `cancel` is called.
pub async fn run(publisher: Publisher, aws: Aws, cancel: CancellationToken) {
    let mut sender = Sender::new(publisher.destination(), aws);
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
    let mut rng = fastrand::Rng::new();
    let mut batch: Vec<Waiting> = Vec::new();
    // After a panic: what was taken then is not done.
    publisher.outbox.rewind();
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            () = fill(&publisher, &mut batch, sender.most()) => {}
        }
        let envelopes: Vec<Envelope> = batch.iter().map(|waiting| waiting.envelope.clone()).collect();
        let attempt = tokio::time::timeout(ATTEMPT, sender.send(&envelopes));
        let sent = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            sent = attempt => sent.unwrap_or_else(|_| Err(Failure::passing("no answer within a minute"))),
        };
        let delay = settle(&publisher, &mut batch, sent, &mut sender, &mut backoff, &mut rng).await;
        if let Some(delay) = delay {
            publisher.outbox.hurry(true);
            tokio::select! {
                () = cancel.cancelled() => break,
                () = tokio::time::sleep(delay) => {}
            }
        } else {
            publisher.outbox.hurry(false);
        }
    }
    publisher.outbox.rewind();
    publisher.outbox.settled().await;
}

/// Waits for at least one message, and takes what there is beside it.
async fn fill(publisher: &Publisher, batch: &mut Vec<Waiting>, (most, most_bytes): (usize, usize)) {
    let mut bytes: usize = batch.iter().map(|waiting| waiting.envelope.json.len()).sum();
    while batch.len() < most && (batch.is_empty() || bytes < most_bytes) {
        match publisher.outbox.take() {
            Next::Message(sequence, body) => match Envelope::from_bytes(body) {
                Some(envelope) => {
                    bytes += envelope.json.len();
                    batch.push(Waiting { sequence, envelope });
                }
                None => {
                    tracing::error!(to = publisher.destination().shown(), "an event on disk is damaged: left out");
                    publisher.change(|status| status.refused += 1);
                    publisher.outbox.done(sequence);
                }
            },
            Next::Loading if batch.is_empty() => publisher.outbox.changed().await,
            Next::Nothing if batch.is_empty() => publisher.outbox.changed().await,
            Next::Loading | Next::Nothing => return,
        }
    }
}

/// Forgets what is done; returns how long to wait before the rest is sent again.
async fn settle(
    publisher: &Publisher,
    batch: &mut Vec<Waiting>,
    sent: Result<Sent, Failure>,
    sender: &mut Sender,
    backoff: &mut Backoff,
    rng: &mut fastrand::Rng,
) -> Option<Duration> {
    let to = publisher.destination().shown();
    let failure = match sent {
        Ok(Sent { fates, complaint }) => {
            let mut fates = fates.into_iter();
            let mut is_partial = false;
            batch.retain(|waiting| {
                let fate = fates.next().unwrap_or(Fate::Again);
                if fate == Fate::Again {
                    is_partial = true;
                    return true;
                }
                publisher.outbox.done(waiting.sequence);
                publisher.change(|status| match fate {
                    Fate::Arrived => status.published += 1,
                    Fate::Refused | Fate::Again => status.refused += 1,
                });
                false
            });
            if !is_partial {
                backoff.succeeded();
                publisher.change(|status| status.error = complaint);
                return None;
            }
            Failure::passing(complaint.unwrap_or_default())
        }
        Err(failure) => failure,
    };
    if failure.is_poison {
        tracing::error!(to, cause = %failure, "an event is refused for good: left out");
        if !batch.is_empty() {
            publisher.outbox.done(batch.remove(0).sequence);
        }
        publisher.change(|status| {
            status.refused += 1;
            status.error = Some(failure.message);
        });
        return None;
    }
    if failure.is_credentials {
        sender.forget_credentials().await;
    }
    let longest = if failure.needs_a_person { RETRY_REFUSED } else { RETRY_LONGEST };
    let delay = backoff.failed_with(longest, rng);
    let failures = backoff.failures();
    if failures <= 3 || failures.is_multiple_of(20) {
        let retry_ms = delay.as_millis() as u64;
        tracing::warn!(to, cause = %failure, failures, retry_ms, "events could not be published");
    }
    publisher.change(|status| {
        status.failures += 1;
        status.error = Some(failure.message);
    });
    Some(delay)
}

/// Speaks to one destination.
struct Sender {
    destination: Destination,
    aws: Aws,
    connection: Connection,
    hook: Option<Hook>,
    /// Messages written to a directory.
    written: u64,
}

impl Sender {
    fn new(destination: &Destination, aws: Aws) -> Self {
        let hook = match destination {
            Destination::Webhook { url, secret, ca_file } => {
                Some(Hook::new(url.clone(), secret.clone(), ca_file.clone()))
            }
            _ => None,
        };
        Self { destination: destination.clone(), aws, connection: Connection::default(), hook, written: 0 }
    }

    /// Messages, and bytes, of one attempt at most.
    fn most(&self) -> (usize, usize) {
        match self.destination {
            Destination::Kinesis { .. } => (kinesis::MOST, kinesis::MOST_BYTES),
            _ => (1, usize::MAX),
        }
    }

    async fn send(&mut self, batch: &[Envelope]) -> Result<Sent, Failure> {
        let Some(first) = batch.first() else { return Ok(Sent::all(0)) };
        let (connection, aws) = (&mut self.connection, &self.aws);
        match &self.destination {
            Destination::Kinesis { stream } => kinesis::send(connection, aws, stream, batch).await,
            Destination::DynamoDb { table } => dynamodb::send(connection, aws, table, first).await,
            Destination::S3 { bucket, prefix, kms_key } => {
                let bucket = Bucket { name: bucket, prefix, kms_key: kms_key.as_deref() };
                s3::send(connection, aws, &bucket, first).await
            }
            Destination::Webhook { .. } => match &mut self.hook {
                Some(hook) => hook.send(first).await,
                None => Ok(Sent::all(0)),
            },
            Destination::Greengrass { topic } => greengrass::send(topic, first).await,
            Destination::Directory { path, max_bytes } => {
                self.written += 1;
                let max_bytes = self.written.is_multiple_of(SWEEP).then_some(*max_bytes);
                directory::send(path, first, max_bytes).await
            }
        }
    }

    async fn forget_credentials(&self) {
        if let Some(control) = self.aws.control.get() {
            control.forget_credentials().await;
        }
    }
}
