//! The loop of a session: waits for one thing (input, a due time, an order), asks [`Session`] what it means, and
//! carries out the end.

use std::io;
use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;

use bytes::BytesMut;
use tokio::select;
use tokio::time::{Instant, sleep_until};

use crate::fault::Cut;
use crate::http::connection::Connection;
use crate::session::conduct::{Close, READ_SIZE, Session};
use crate::session::request::Admission;
use crate::state::Shared;

#[derive(Debug)]
enum Action {
    Input(io::Result<usize>),
    Orders,
    Due,
}

/// Serves an accepted PutMedia call to its end.
pub(crate) async fn run(shared: Arc<Shared>, admission: Admission, mut connection: Connection) -> io::Result<()> {
    let mut orders = shared.orders();
    let mut session = Session::new(shared, admission, Instant::now());
    let mut output = BytesMut::new();
    let mut buffer = vec![0; READ_SIZE];
    let mut shrunk = false;
    let early = connection.take_input();
    let mut flow = session.begin(Instant::now());
    if flow.is_continue() {
        flow = session.input(&early, Instant::now());
    }
    let end = loop {
        if let Break(end) = flow {
            break end;
        }
        let is_throttled = session.faults.throttle().is_some();
        if is_throttled != shrunk {
            connection.transport().set_receive_buffer(is_throttled)?;
            shrunk = is_throttled;
        }
        let now = Instant::now();
        session.acks.take_due(now, &mut output);
        let due = session.next_due(now);
        let input = session.read_limit(now).and_then(|limit| buffer.get_mut(..limit));
        let action = select! {
            changed = orders.changed() => if changed.is_ok() { Action::Orders } else { Action::Due },
            read = connection.exchange(&mut output, input) => Action::Input(read),
            () = sleep_until(due) => Action::Due,
        };
        let now = Instant::now();
        flow = match action {
            Action::Input(Ok(length)) if length > 0 => session.input(buffer.get(..length).unwrap_or_default(), now),
            Action::Input(ended) => session.peer_gone(ended, now),
            Action::Orders => session.look_for_orders(now),
            Action::Due => Continue(()),
        };
        if flow.is_continue() {
            flow = session.tick(now);
        }
    };
    if end.how == Close::Orderly {
        session.acks.take_all(Instant::now(), &mut output);
        output.extend_from_slice(b"0\r\n\r\n");
        // That the producer has gone and does not read its last acknowledgements changes nothing.
        connection.write(&output).await.ok();
    }
    session.close(end.why);
    match end.how {
        Close::Orderly => connection.into_transport().close().await,
        Close::Cut(Cut::Reset) => connection.into_transport().cut_with_reset(),
        Close::Cut(Cut::Fin) => connection.into_transport().cut_with_fin().await,
        Close::Drop => Ok(()),
    }
}
