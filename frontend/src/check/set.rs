//! `--set NAME=VALUE`: values from the command line in place of those in the text.

use crate::error::{Cause, Report};
use crate::source::{Source, SourceMap, Span};
use crate::syntax::ast::Expr;
use crate::syntax::parse_expr;
use gigac_ir::nearest::nearest;

use super::Checker;

/// The values given, and which have found their place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sets {
    list: Vec<Set>,
}

#[derive(Clone, Debug)]
struct Set {
    name: String,
    value: Expr,
    used: bool,
}

impl Sets {
    /// Parses the values; each is a text of its own for diagnostics.
    pub(crate) fn parse(sets: &[(String, String)], sources: &mut SourceMap) -> (Sets, Vec<Report>) {
        let mut list: Vec<Set> = Vec::new();
        let mut reports = Vec::new();
        for (name, text) in sets {
            let file = sources.add(Source::new(format!("--set {name}"), text.clone()));
            let (value, errors) = parse_expr(text, file);
            reports.extend(errors);
            // The last of several wins, as on any command line.
            list.retain(|set| set.name != *name);
            list.push(Set { name: name.clone(), value, used: false });
        }
        (Sets { list }, reports)
    }

    /// Where a value for a line of the `train` block, or for an argument in it, is given.
    pub(crate) fn for_line(&self, line: &str) -> Option<Span> {
        let inside = |name: &str| {
            let rest = name.strip_prefix("train.").and_then(|rest| rest.strip_prefix(line));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.list.iter().find(|set| inside(&set.name)).map(|set| set.value.span)
    }

    /// The value given for a name.
    pub(crate) fn take(&mut self, name: &str) -> Option<Expr> {
        let set = self.list.iter_mut().find(|set| set.name == name)?;
        set.used = true;
        Some(set.value.clone())
    }
}

impl Checker {
    /// Values that found no place are errors.
    pub(crate) fn check_sets(&mut self) {
        let mut known: Vec<String> = self.train_names.clone();
        let names = self.tables[0].names.iter();
        let settable = |what: &str| ["an axis", "a constant"].contains(&what);
        known.extend(names.filter(|(_, (d, _))| settable(d.what())).map(|(name, _)| name.clone()));
        let unused: Vec<Set> = self.sets.list.iter().filter(|set| !set.used).cloned().collect();
        for set in unused {
            let advice = "axes, constants and `train.…` can be set";
            let near = nearest(&set.name, known.iter().map(String::as_str), advice);
            let cause = Cause::UnknownSet { name: set.name, near };
            let span = Span { start: 0, ..set.value.span };
            self.report(Report::new(cause, span, "this value is not used"));
        }
    }
}
