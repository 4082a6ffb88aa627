//! One process at a time trains in a directory.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::make_folder;
use crate::error::{Error, Result};

/// Name of the locked file; it is empty and stays.
const FILE: &str = ".lock";

/// Claims a run's directory until the file is closed, however the process ends.
///
/// # Errors
/// [`Error::Usage`] when another process has it, [`Error::Io`] when it cannot be written.
pub(super) fn claim(run: &Path) -> Result<File> {
    make_folder(run)?;
    let path = run.join(FILE);
    let file = File::create(&path).map_err(Error::io("create", &path))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(Error::Usage(format!("--out {}: another process trains there", run.display())))
        }
        // Some network file systems know no locks; a run is worth more than the claim.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}
