//! Live view: readers of a camera's log that send to whoever watches.
//!
//! [`rtp`] sends one camera to one receiver; [`honeycomb`] is the language in which a platform asks for that;
//! [`streams`] knows which streams run, and describes them as the platform's own service does.

pub mod honeycomb;
pub mod rtp;
pub mod streams;
