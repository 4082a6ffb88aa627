//! How much memory there is, so that what cannot fit is refused before it is touched: the system
//! hands out addresses freely, and ends the process when it runs out of pages behind them.

use std::fs;

use crate::error::{Error, Result};

/// Files that hold the limit of a container, by version of control groups.
const GROUPS: [&str; 2] =
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Bytes that this process may ever have: the machine's memory, or a container's limit below it.
/// Nothing where the system does not say.
pub fn total() -> Option<u64> {
    let group = |path: &&str| fs::read_to_string(path).ok()?.trim().parse().ok();
    let limits = GROUPS.iter().filter_map(group).chain(meminfo(&read()?, "MemTotal:"));
    limits.min()
}

/// Bytes that can be had now, without ending anybody.
fn available() -> Option<u64> {
    let text = read()?;
    let free = meminfo(&text, "MemAvailable:")?.saturating_add(meminfo(&text, "SwapFree:")?);
    Some(total()?.min(free))
}

fn read() -> Option<String> {
    fs::read_to_string("/proc/meminfo").ok()
}

/// A line of `/proc/meminfo`, in bytes.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// Refuses what does not fit. `parts` are bytes with what they are for.
///
/// # Errors
/// [`Error::Machine`] names the parts, what is needed and what there is.
pub fn require(parts: &[(&str, u64)]) -> Result<()> {
    match available() {
        Some(available) => require_of(available, total().unwrap_or(available), parts),
        None => Ok(()),
    }
}

fn require_of(available: u64, total: u64, parts: &[(&str, u64)]) -> Result<()> {
    let needed = parts.iter().fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes));
    if needed <= available {
        return Ok(());
    }
    let one = |(what, bytes): &(&str, u64)| format!("{what} {}", size(*bytes));
    let list: Vec<String> = parts.iter().map(one).collect();
    Err(Error::Machine(format!(
        "this run needs {} of memory ({}); of this machine's {} there are {} to be had: compile it \
         with `--memory {}MiB`, or with a smaller batch",
        size(needed),
        list.join(", "),
        size(total),
        size(available),
        available >> 20
    )))
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let step = (bytes.max(1).ilog2() / 10) as usize;
    match step {
        0 => format!("{bytes} B"),
        _ => format!("{:.1} {}", bytes as f64 / 1024_f64.powi(step as i32), units[step]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_named() {
        let parts = [("arena", 3 << 30), ("batches", 1 << 29)];
        assert!(require_of(4 << 30, 8 << 30, &parts).is_ok());
        let error = require_of(3 << 30, 8 << 30, &parts).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        let text = error.to_string();
        for figure in ["3.5 GiB", "arena 3.0 GiB", "batches 512.0 MiB", "8.0 GiB", "3.0 GiB to"] {
            assert!(text.contains(figure), "{figure}: {text}");
        }
        // Sums beyond 64 bits are just as large.
        assert!(require_of(1 << 50, 1 << 50, &[("a", u64::MAX), ("b", 1)]).is_err());
    }

    #[test]
    fn this_machine_has_some() {
        let (total, available) = (total().unwrap(), available().unwrap());
        assert!(0 < available && available <= total);
        assert!(require(&[("nothing", 0)]).is_ok());
        assert_eq!(meminfo("MemTotal:  12 kB\n", "MemTotal:"), Some(12 * 1024));
        assert_eq!(meminfo("MemTotal:  12\n", "MemTotal:"), None);
    }
}
