//! The embedded store against the conformance suite, damaged files, other processes and failing disks.

mod conformance;
mod smoke;
