//! The store in memory: the same semantics without a disk.
