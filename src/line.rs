//! Places of a model's text that something comes from.

use std::fmt;

use gigac_frontend::SourceMap;
use gigac_ir::graph::Span;

/// A line of a model file or of the library, or an expression there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Name of the file.
    pub file: String,
    /// One-based number.
    pub number: usize,
    /// Its text on one line.
    pub text: String,
}

impl Line {
    /// The line in which an expression begins; none when there is no such text.
    pub fn of(place: Span, sources: &SourceMap) -> Option<Self> {
        let file = sources.file(place.source)?;
        let (number, _) = sources.position(place);
        let text = file.text.lines().nth(number - 1).unwrap_or_default().trim().to_owned();
        Some(Self { file: file.name.clone(), number, text })
    }

    /// An expression, with the line in which it begins; none when there is no such text.
    pub fn expression(place: Span, sources: &SourceMap) -> Option<Self> {
        let whole = sources.text(place).split_whitespace().collect::<Vec<_>>().join(" ");
        Some(Self { text: whole, ..Self::of(place, sources)? })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.number, self.text)
    }
}
