//! Files that are there whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The temporary name of a file that is being written.
fn aside(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.tmp", std::process::id()));
    PathBuf::from(aside)
}

/// A file takes the place of a file: of devices and pipes nothing would be left.
fn replaceable(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if !there.is_file() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is not a file"))
        }
        _ => Ok(()),
    }
}

/// Finds out early whether [`write`] could write a file.
///
/// # Errors
/// [`Error::Io`] when it could not; nothing is left behind.
pub(crate) fn probe(path: &Path) -> Result<()> {
    let aside = aside(path);
    let made = replaceable(path)
        .and_then(|()| File::create(&aside))
        .and_then(|_| std::fs::remove_file(&aside));
    made.map_err(Error::io("write", path))
}

/// Writes a file under a temporary name beside it and renames it when it is complete and on disk.
///
/// # Errors
/// [`Error::Io`]; an older file of the name then stays as it was.
pub(crate) fn write(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    let aside = aside(path);
    let written = replaceable(path).and_then(|()| File::create(&aside)).and_then(|file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        fill(&mut out)?;
        out.into_inner()?.sync_all()?;
        std::fs::rename(&aside, path)
    });
    written.map_err(|e| {
        // What could not be finished is not worth keeping; its own failure says nothing new.
        let _ = std::fs::remove_file(&aside);
        Error::io("write", path)(e)
    })
}
