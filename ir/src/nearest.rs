//! The nearest known name to an unknown one.

use std::fmt;

/// What to say about an unknown name.
#[derive(Clone, Debug)]
pub enum Nearest {
    /// A name close enough to be the one that was meant.
    Similar(String),
    /// Nothing close: the names there are, or how to make one.
    Otherwise(String),
}

impl fmt::Display for Nearest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Nearest::Similar(name) => write!(f, "did you mean `{name}`?"),
            Nearest::Otherwise(text) => f.write_str(text),
        }
    }
}

/// The candidate with the smallest edit distance to `name`, if that is at most a third of its length, or one edit for two
/// letters; otherwise the advice.
pub fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    advice: impl Into<String>,
) -> Nearest {
    let length = name.chars().count();
    let limit = if length == 2 { 1 } else { length / 3 };
    let scored = candidates.into_iter().filter(|candidate| *candidate != name);
    let best = scored.map(|candidate| (distance(name, candidate), candidate)).min();
    match best {
        Some((edits, candidate)) if edits <= limit => Nearest::Similar(candidate.to_string()),
        _ => Nearest::Otherwise(advice.into()),
    }
}

/// Edit distance with swaps of neighbours (optimal string alignment), ignoring case. Names longer than 64 never match.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swaps_and_slips_are_near() {
        let names = ["tokens", "targets", "embed"];
        assert_eq!(nearest("tokesn", names, "").to_string(), "did you mean `tokens`?");
        assert_eq!(nearest("loss", names, "none").to_string(), "none");
    }
}
