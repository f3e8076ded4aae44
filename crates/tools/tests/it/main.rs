//! The base tools through the production path: catalog, in-process host, dispatch, real files.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests prepare and inspect files from outside, and end at the first surprise"
)]

mod context;
mod escapes;
mod fs_edit;
mod fs_list;
mod fs_read;
mod fs_write;
mod grep;
mod http;
mod json_yaml;
mod races;
mod special_files;
mod test_runner;
mod world;
