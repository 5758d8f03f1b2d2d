//! A PutMedia session: media in, acknowledgements out, one task.
//!
//! [`request`] decides whether the call becomes a session; [`run`] is the loop, the only place that awaits;
//! [`conduct`] decides what to do next and [`store`] what becomes of fragments; [`ingest`], [`acks`] and [`faults`]
//! are plain state that they ask. Invariant: writing never waits for reading nor the other way round.

pub(crate) mod acks;
pub(crate) mod conduct;
pub(crate) mod faults;
pub(crate) mod ingest;
pub(crate) mod request;
pub(crate) mod run;
pub(crate) mod store;
