//! The server as a client meets it: over real sockets, byte by byte.

mod billing;
mod caching;
mod client;
mod demo;
mod faults;
mod many;
mod models;
mod production;
mod protocol;
mod refusals;
mod templates;
mod thinking;
