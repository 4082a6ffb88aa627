//! The cache of executables that `gigac train` builds: a folder with a file for each, whose name
//! is a digest of all that it depends on. Those used longest ago go when it outgrows [`LIMIT`].
//!
//! Whoever starts an executable holds a shared lock from finding the file until the system runs it,
//! and who removes files holds the lock alone: so nothing vanishes between the two. What runs
//! already needs its file's name no more.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::failure::Failure;

/// Bytes that the cache keeps.
pub const LIMIT: u64 = 2 << 30;

/// Builds write aside, to files of this extension; what is older than [`ABANDONED`] was left by one
/// that was killed.
const ASIDE: &str = "tmp";

/// See [`ASIDE`].
const ABANDONED: Duration = Duration::from_secs(3600);

/// Name of the locked file; it is empty and stays.
const LOCK: &str = ".lock";

/// An executable that stays where it is until this is dropped, or the process becomes another.
pub struct Cached {
    /// Where it lies.
    pub path: PathBuf,
    _lock: File,
}

/// `$XDG_CACHE_HOME/gigac`, or `~/.cache/gigac`, or a folder for temporary files.
pub fn folder() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|h| h.join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("gigac")
}

/// The executable of a name, which `build` writes to a path when the cache lacks it.
///
/// # Errors
/// Those of `build`, and of the folder.
pub fn executable(
    folder: &Path,
    name: &str,
    limit: u64,
    build: impl Fn(&Path) -> Result<(), Failure>,
) -> Result<Cached, Failure> {
    fs::create_dir_all(folder).map_err(|e| Failure::io("create", folder, &e))?;
    let path = folder.join(name);
    // Another process may drop the new file before it is found again, if it uses the whole cache
    // in between.
    loop {
        let lock = lock(folder, File::lock_shared)?;
        if used(&path) {
            return Ok(Cached { path, _lock: lock });
        }
        drop(lock);
        build(&path)?;
        let _lock = self::lock(folder, File::lock)?;
        prune(folder, &path, limit).map_err(|e| Failure::io("clean", folder, &e))?;
    }
}

fn lock(folder: &Path, how: fn(&File) -> std::io::Result<()>) -> Result<File, Failure> {
    let path = folder.join(LOCK);
    let options = File::options().create(true).write(true).truncate(false).open(&path);
    let file = options.map_err(|e| Failure::io("create", &path, &e))?;
    // Some network file systems know no locks; a run is worth more than the order of the cache.
    let _ = how(&file);
    Ok(file)
}

/// Whether a file is there; it counts as used now.
fn used(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    // Somebody else's file keeps its time.
    let _ = file.set_modified(SystemTime::now());
    true
}

/// Removes what was used longest ago until the rest is within a limit, but never `keep`.
fn prune(folder: &Path, keep: &Path, limit: u64) -> std::io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Builds that have just begun and are done elsewhere come and go.
        let Ok(info) = entry.metadata() else { continue };
        let (path, modified) = (entry.path(), info.modified()?);
        let aside = path.extension().is_some_and(|e| e == ASIDE);
        let building = aside && modified.elapsed().map_or(true, |age| age < ABANDONED);
        if info.is_file() && !building && entry.file_name() != LOCK {
            files.push((modified, path, info.len()));
        }
    }
    files.sort_unstable();
    let mut bytes: u64 = files.iter().map(|(_, _, len)| len).sum();
    for (_, path, len) in files {
        if bytes <= limit {
            break;
        }
        if path == keep {
            continue;
        }
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => bytes -= len,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    fn write(path: &Path) -> Result<(), Failure> {
        let aside = path.with_extension(format!("{:?}.{ASIDE}", std::thread::current().id()));
        fs::write(&aside, [7; 100]).and_then(|()| fs::rename(&aside, path)).expect("our folder");
        Ok(())
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("cache");
        let built = AtomicU32::new(0);
        let get = |name: &str| {
            let cached = executable(&folder, name, 300, |path| {
                built.fetch_add(1, SeqCst);
                write(path)
            });
            assert_eq!(fs::read(&cached.unwrap().path).unwrap(), [7; 100]);
        };
        let there = |name: &str| folder.join(name).exists();
        ["a", "b", "c"].into_iter().for_each(get);
        for (age, name) in [(30, "a"), (20, "b"), (10, "c")] {
            let file = File::open(folder.join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        get("a");
        assert_eq!(built.load(SeqCst), 3, "it was there");
        get("d");
        assert_eq!(["a", "b", "c", "d"].map(there), [true, false, true, true]);
        get("b");
        assert_eq!(["a", "b", "c", "d"].map(there), [true, true, false, true]);
        assert_eq!(built.load(SeqCst), 5);
        // One that is larger than the limit is used all the same.
        assert!(executable(&folder, "e", 10, write).is_ok());
        assert_eq!(["a", "b", "d", "e"].map(there), [false, false, false, true]);
    }

    #[test]
    fn what_killed_builds_left_goes_later() {
        let place = tempfile::tempdir().unwrap();
        let [fresh, old] = ["x.1.tmp", "y.2.tmp"].map(|name| place.path().join(name));
        [&fresh, &old].into_iter().for_each(|path| fs::write(path, [7; 100]).unwrap());
        let file = File::options().write(true).open(&old).unwrap();
        file.set_modified(SystemTime::now() - 2 * ABANDONED).unwrap();
        assert!(executable(place.path(), "a", 50, write).is_ok());
        assert_eq!((fresh.exists(), old.exists()), (true, false));
    }

    /// Who holds an executable finds it, whatever the others build.
    #[test]
    fn nothing_vanishes_while_it_is_held() {
        let place = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let folder = place.path();
                scope.spawn(move || {
                    for turn in 0..50 {
                        let name = format!("{}", (worker * 7 + turn * 3) % 11);
                        let cached = executable(folder, &name, 250, write).unwrap();
                        assert_eq!(fs::read(&cached.path).unwrap(), [7; 100]);
                    }
                });
            }
        });
        let names = fs::read_dir(place.path()).unwrap();
        let sizes = names.map(|e| e.unwrap().metadata().unwrap().len());
        assert!(sizes.sum::<u64>() <= 250 + 100);
    }
}
