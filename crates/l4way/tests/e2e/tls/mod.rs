//! TLS with real programs: clients and servers of Debian's packages, which `make setup` installs.
//!
//! Servers run on loopback addresses of the tests' own, on the ports that they are known for.

pub(crate) mod authority;
mod curl;
mod daemon;
mod mariadb;
mod mosquitto;
mod openssl;
mod postgres;
mod redis;
pub(crate) mod setting;
