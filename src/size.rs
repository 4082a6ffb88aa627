//! Sizes as people write them: `8GiB`, `1.5 GB`, `4096`.

use crate::failure::Failure;

const UNITS: [(&str, f64); 9] = [
    ("", 1.0),
    ("kb", 1e3),
    ("mb", 1e6),
    ("gb", 1e9),
    ("tb", 1e12),
    ("kib", 1024.0),
    ("mib", 1024.0 * 1024.0),
    ("gib", 1024.0 * 1024.0 * 1024.0),
    ("tib", 1024.0 * 1024.0 * 1024.0 * 1024.0),
];

/// The bytes of a size; a `b` behind a plain number is allowed, upper and lower case are the same.
///
/// # Errors
/// Anything else, and sizes below one byte or above 2⁶³.
pub fn bytes(text: &str) -> Result<u64, Failure> {
    let small = text.trim().to_ascii_lowercase();
    let end = small.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(small.len());
    let (number, unit) = small.split_at(end);
    let unit = if unit.trim() == "b" { "" } else { unit.trim() };
    let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| scale);
    let bytes = number.parse::<f64>().ok().zip(scale).map(|(n, scale)| n * scale);
    match bytes {
        Some(bytes) if (1.0..9.2e18).contains(&bytes) => Ok(bytes as u64),
        _ => Err(Failure::Usage(format!(
            "`{text}` is no size: write a number with B, KB, MB, GB, TB, KiB, MiB, GiB or TiB, as in `8GiB`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("4096", 4096),
            ("4096B", 4096),
            ("8GiB", 8 << 30),
            ("8 gib", 8 << 30),
            ("1.5GB", 1_500_000_000),
            ("0.5MiB", 1 << 19),
        ] {
            assert_eq!(bytes(text).unwrap(), expected, "{text}");
        }
        for text in ["", "GiB", "-1", "8G", "1e9", "0", "9999999TiB", "1.2.3MB", "inf"] {
            assert!(bytes(text).unwrap_err().to_string().contains("no size"), "{text}");
        }
    }
}
