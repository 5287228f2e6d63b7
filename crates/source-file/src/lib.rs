//! Objects from files: read, watched, and read again when they change.
//!
//! While running, nothing is lost to a mistake: an object that is refused stays as it was when it was
//! last good ([`FileSource`]), and nothing that is in a directory can stop a [`Follower`], which reads
//! again when something has changed.
//!
//! Whatever asks the file system may wait for ever, as a network's or FUSE's may have nobody who
//! answers. So all of that is in `look`, and is done on a thread beside (`patient`).
#![forbid(unsafe_code)]

mod follow;
mod listing;
mod look;
mod patient;
mod refusal;
mod source;
mod text;
mod watch;

pub use follow::Follower;
pub use look::look_for;
pub use source::{FileSource, Load};
