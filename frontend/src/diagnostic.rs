//! What users see of an error: message, places in the source, calls on the way, help.

use std::fmt;
use std::sync::Arc;

use miette::{
    Diagnostic as _, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};

use crate::error::{Cause, Report};
use crate::source::{SourceMap, Span};

/// An error in a model text.
///
/// Its code (`axis::unknown`, `shape::clash`, …) comes from [`miette::Diagnostic::code`].
#[derive(Debug)]
pub struct Diagnostic {
    cause: Cause,
    labels: Vec<LabeledSpan>,
    source: NamedSource<String>,
    related: Vec<Inside>,
    place: Option<Span>,
}

impl Diagnostic {
    /// Sorts the places of a report: those in the model's own text become labels, those in libraries notes.
    fn new(report: Report, sources: &SourceMap) -> Diagnostic {
        let home = main_source(&report);
        let mut places = report.labels;
        let own_calls = report.calls.iter().rev().filter(|(span, _)| span.source == home);
        for (span, name) in own_calls.take(2) {
            places.push((*span, format!("in this call of `{name}`")));
        }
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            places.into_iter().partition(|(span, _)| span.source == home);
        let related = elsewhere.into_iter().map(|place| Inside::new(place, sources)).collect();
        let place = here.first().map(|(span, _)| *span);
        let labels = labels(here);
        Diagnostic { cause: report.cause, labels, source: named(home, sources), related, place }
    }

    /// The main place.
    pub fn span(&self) -> Option<Span> {
        self.place
    }

    /// Its code, such as `axis::unknown`.
    pub fn code(&self) -> String {
        miette::Diagnostic::code(&self.cause).map_or(String::new(), |code| code.to_string())
    }
}

/// The text to show first: the innermost one that belongs to the user, who can change it.
fn main_source(report: &Report) -> u32 {
    let spans = report.labels.iter().map(|(span, _)| span.source);
    let calls = report.calls.iter().rev().map(|(span, _)| span.source);
    let first = spans.clone().next().unwrap_or(0);
    spans.chain(calls).find(|source| *source == 0).unwrap_or(first)
}

fn named(source: u32, sources: &SourceMap) -> NamedSource<String> {
    let (name, text) = sources.file(source).map_or(("", ""), |file| (&file.name, &file.text));
    NamedSource::new(name, text.to_string())
}

fn labels(places: Vec<(Span, String)>) -> Vec<LabeledSpan> {
    let label = |(at, (span, text)): (usize, (Span, String))| {
        let range = span.start as usize..span.end as usize;
        let make =
            if at == 0 { LabeledSpan::new_primary_with_span } else { LabeledSpan::new_with_span };
        make(Some(text), range)
    };
    places.into_iter().enumerate().map(label).collect()
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.cause.code()
    }
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.cause.help()
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        if self.related.is_empty() {
            return None;
        }
        Some(Box::new(self.related.iter().map(|note| note as &dyn miette::Diagnostic)))
    }
}

/// A place in another text that an error also concerns.
#[derive(Debug)]
struct Inside {
    label: LabeledSpan,
    source: NamedSource<String>,
}

impl Inside {
    fn new((span, text): (Span, String), sources: &SourceMap) -> Inside {
        let range = span.start as usize..span.end as usize;
        Inside {
            label: LabeledSpan::new_with_span(Some(text), range),
            source: named(span.source, sources),
        }
    }
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found in `{}`", self.source.name())
    }
}

impl std::error::Error for Inside {}

impl miette::Diagnostic for Inside {
    fn severity(&self) -> Option<miette::Severity> {
        Some(miette::Severity::Advice)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(self.label.clone())))
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }
}

/// All errors of one compilation, in the order of the text.
#[derive(Debug)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// How many more there are.
    omitted: usize,
    sources: Arc<SourceMap>,
}

/// More errors than this are only counted: they are rarely independent.
const MAX_ERRORS: usize = 100;

/// Lines longer than this are not drawn.
const MAX_LINE: usize = 1000;

impl Diagnostics {
    pub(crate) fn new(mut reports: Vec<Report>, sources: Arc<SourceMap>) -> Diagnostics {
        let key =
            |report: &Report| report.labels.first().map(|(span, _)| (span.source, span.start));
        reports.sort_by_key(key);
        reports.dedup_by_key(|report| (key(report), report.cause.to_string()));
        let omitted = reports.len().saturating_sub(MAX_ERRORS);
        reports.truncate(MAX_ERRORS);
        let list = reports.into_iter().map(|report| Diagnostic::new(report, &sources)).collect();
        Diagnostics { list, omitted, sources }
    }

    /// The errors.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// The texts that their spans point into.
    pub fn sources(&self) -> &SourceMap {
        &self.sources
    }

    /// Whether the lines around an error are short enough to be drawn.
    fn narrow(&self, diagnostic: &Diagnostic) -> bool {
        let own = diagnostic.labels.iter().map(|label| (label, diagnostic.source.inner()));
        let notes = diagnostic.related.iter().map(|note| (&note.label, note.source.inner()));
        let mut places = own.chain(notes);
        places.all(|(label, text)| {
            short_lines(text, label.offset()) && short_lines(text, label.offset() + label.len())
        })
    }

    /// An error without a drawing: its place and a piece of the line.
    fn plain(&self, diagnostic: &Diagnostic) -> String {
        let place = diagnostic.place.map_or(String::new(), |span| {
            let (line, column) = self.sources.position(span);
            let text: String = self.sources.text(span).chars().take(60).collect();
            format!("  at {}:{line}:{column}: {text}\n", diagnostic.source.name())
        });
        let help =
            diagnostic.cause.help().map_or(String::new(), |help| format!("  help: {help}\n"));
        format!("{}\n\n  × {diagnostic}\n{place}{help}", diagnostic.code())
    }

    /// All errors as text for a terminal, with or without colours.
    pub fn render(&self, colour: bool) -> String {
        let theme =
            if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(110).with_links(false);
        let mut text = String::new();
        for diagnostic in &self.list {
            let drawn =
                self.narrow(diagnostic) && handler.render_report(&mut text, diagnostic).is_ok();
            if !drawn {
                text.push_str(&self.plain(diagnostic));
            }
            text.push('\n');
        }
        if self.omitted > 0 {
            text.push_str(&format!("and {} more errors\n", self.omitted));
        }
        text
    }
}

/// Whether the lines around a byte are short.
fn short_lines(text: &str, at: usize) -> bool {
    let start = at.saturating_sub(MAX_LINE).min(text.len());
    let mut run = 0;
    text.as_bytes()[start..].iter().take(3 * MAX_LINE).all(|byte| {
        run = if *byte == b'\n' { 0 } else { run + 1 };
        run < MAX_LINE
    })
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}
