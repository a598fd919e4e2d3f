//! The integration tests, all in one binary: one link, and one place to look.
//!
//! A module here is a part of the product seen from outside, or a promise about the source itself.
//! Unit tests live beside what they test. Nothing shares a port or a file.

mod tidy;
