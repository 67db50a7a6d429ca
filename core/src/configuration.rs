//! Configuration: how documents are read, and the filter's own.

pub mod problems;
