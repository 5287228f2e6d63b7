#![forbid(unsafe_code)]
//! Objects from a Kubernetes API server.
