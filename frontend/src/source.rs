//! Texts and places in them.

pub use gigac_ir::graph::Span;

/// A text to compile: a model file, a library it uses, or the value of a `--set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What diagnostics call it, usually the path as the user wrote it.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// A source from its name and text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Source {
        Source { name: name.into(), text: text.into() }
    }
}

/// Joining places.
pub(crate) trait Cover {
    /// The smallest span that covers both; they must lie in the same text.
    fn to(self, other: Span) -> Span;
}

impl Cover for Span {
    fn to(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end), ..self }
    }
}

/// All texts of one compilation; [`Span::source`] is an index into it. Text 0 is the model itself.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    files: Vec<Source>,
}

impl SourceMap {
    /// Adds a text and returns its index.
    pub(crate) fn add(&mut self, source: Source) -> u32 {
        self.files.push(source);
        self.files.len() as u32 - 1
    }

    /// The text that a span points into.
    pub fn file(&self, index: u32) -> Option<&Source> {
        self.files.get(index as usize)
    }

    /// The text under a span.
    pub fn text(&self, span: Span) -> &str {
        let text = self.file(span.source).map_or("", |file| &file.text);
        text.get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// One-based line and column of the start of a span; columns count characters.
    pub fn position(&self, span: Span) -> (usize, usize) {
        let text = self.file(span.source).map_or("", |file| &file.text);
        let before = text.get(..span.start as usize).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}
