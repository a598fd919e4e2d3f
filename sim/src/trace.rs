//! What happened, line by line, as a hash that two runs can be compared by.
//!
//! A line is written for every input, action and change of time. Printing is for a person who looks
//! into one seed. `world.rs` writes it.

use std::fmt::{self, Write as _};

/// A running hash of lines.
pub(crate) struct Trace {
    hash: Fnv,
    pub(crate) lines: u64,
    print: bool,
}

/// FNV-1a with 64 bits: of a stated algorithm, unlike the standard library's hasher.
struct Fnv(u64);

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl Trace {
    pub(crate) fn new(print: bool) -> Self {
        Self {
            hash: Fnv(0xcbf2_9ce4_8422_2325),
            lines: 0,
            print,
        }
    }

    pub(crate) fn line(&mut self, t: u64, what: fmt::Arguments<'_>) {
        self.lines += 1;
        writeln!(self.hash, "{t} {what}").expect("hashing cannot fail");
        if self.print {
            println!("{:>14.6} {what}", t as f64 / 1e6);
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.0
    }
}
