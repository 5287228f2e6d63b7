#![forbid(unsafe_code)]
//! HTTP and HTTPS listeners.
