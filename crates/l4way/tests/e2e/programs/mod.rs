//! TLS with the programs that people use: clients and servers from Debian's packages, which the tests
//! start and stop.

mod databases;
mod support;
mod tools;
