//! How much memory the machine can still give.

/// Bytes that this process may still take, swap included; none when the system does not say.
pub fn available() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse(text: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    Some(field("MemAvailable")? + field("SwapFree").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_and_what_can_be_freed_counts() {
        let text = "MemTotal:       24000 kB\nMemAvailable:   10 kB\nSwapFree:   2 kB\n";
        assert_eq!(parse(text), Some(12 * 1024));
        assert_eq!(parse("MemTotal: 1 kB\n"), None);
    }
}
