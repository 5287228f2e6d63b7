//! Objects from files: read, watched, and read again when they change.
//!
//! While running, nothing is lost to a mistake: a file with an error in it changes nothing of what
//! is in force ([`FileSource`]). A [`Watcher`] tells when to look again.
#![forbid(unsafe_code)]

mod listing;
mod source;
mod watch;

pub use source::{FileSource, Load};
pub use watch::Watcher;
