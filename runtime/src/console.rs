//! What a run says to its terminal.
//!
//! A log that cannot be written to (a full disk, a closed pipe) ends no run: `eprintln!` would.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Says something to people, on stderr.
pub fn say(line: impl Display) {
    // There is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Gives an answer to machines, on stdout; a closed pipe ends it quietly.
///
/// # Errors
/// [`Error::Io`] when it cannot be written.
pub fn answer(text: impl Display) -> Result<()> {
    let mut out = std::io::stdout();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Error::io("write to", Path::new("standard output"))(e))
        }
        _ => Ok(()),
    }
}
