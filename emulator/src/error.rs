//! What can be wrong with a PTX text or a launch, and where.

use miette::{Diagnostic, SourceSpan};
use thiserror::Error;

/// A byte range of the PTX text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The range `start..end`.
    pub fn new(start: usize, end: usize) -> Self {
        Span { start: start as u32, end: end as u32 }
    }
}

/// The text is not PTX that this emulator can run: a syntax error, an undeclared name, an operand
/// of the wrong width, or an instruction that is not supported.
#[derive(Debug, Clone, Error, Diagnostic, PartialEq, Eq)]
#[error("line {line}, column {column}: {message}\n  | {source_line}")]
#[diagnostic(code(ptx::rejected))]
pub struct PtxError {
    /// What is wrong, in one sentence.
    pub message: String,
    /// Line in the text, from 1.
    pub line: u32,
    /// Column in the line, from 1, in characters.
    pub column: u32,
    /// The line itself.
    pub source_line: String,
    /// The guilty bytes.
    #[label("here")]
    pub at: SourceSpan,
    /// What to do about it, if anything is known.
    #[help]
    pub help: Option<String>,
}

impl PtxError {
    /// An error at `span` of `text`.
    pub fn new(text: &str, span: Span, message: impl Into<String>) -> Self {
        let start = (span.start as usize).min(text.len());
        let bytes = text.as_bytes();
        let line_start = bytes[..start].iter().rposition(|&b| b == b'\n').map_or(0, |p| p + 1);
        let line_end =
            bytes[start..].iter().position(|&b| b == b'\n').map_or(text.len(), |p| start + p);
        let line = bytes[..start].iter().filter(|&&b| b == b'\n').count() as u32 + 1;
        let column = String::from_utf8_lossy(&bytes[line_start..start]).chars().count() as u32 + 1;
        let source_line =
            String::from_utf8_lossy(&bytes[line_start..line_end]).trim_end().to_string();
        let length = (span.end.max(span.start) as usize).min(text.len()) - start;
        PtxError {
            message: message.into(),
            line,
            column,
            source_line,
            at: (start, length).into(),
            help: None,
        }
    }

    /// The same error with advice.
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Why a launch could not start. What goes wrong *during* a launch is a [`crate::Finding`].
#[derive(Debug, Error, Diagnostic)]
pub enum LaunchError {
    /// The PTX text was rejected.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ptx(#[from] PtxError),
    /// The module has no kernel of that name.
    #[error("no kernel `{name}`; the module has {known}")]
    NoEntry {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The arguments do not fit the kernel's parameters.
    #[error("{0}")]
    Arguments(String),
    /// The grid or block is impossible on this target.
    #[error("{0}")]
    Shape(String),
}
