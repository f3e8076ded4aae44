//! The base tools through the production path: catalog, in-process host, dispatch, real files.

#![allow(
    clippy::disallowed_methods,
    reason = "the tests prepare and inspect files from outside, as a person would"
)]

mod context;
mod escapes;
mod fs_edit;
mod fs_list;
mod fs_read;
mod fs_write;
mod grep;
mod json_yaml;
mod races;
mod special_files;
mod world;
