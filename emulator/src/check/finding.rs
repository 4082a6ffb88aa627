//! Findings: what was wrong, where, and what it conflicted with.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

/// The classes of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Outside every allocation, or in the gap between two.
    OutOfBounds,
    /// Address not a multiple of the access size.
    Misaligned,
    /// A value that nobody wrote decided something.
    Uninitialised,
    /// Two unordered accesses, at least one a write.
    Race,
    /// Data used before its asynchronous copy or product was waited for.
    MissingWait,
    /// Nothing orders an access before an asynchronous one that needs a fence in between.
    MissingFence,
    /// Threads of a warp or block at different barriers, or gone.
    BarrierDivergence,
    /// Nothing can make progress any more.
    Deadlock,
    /// A member mask names lanes that do not take part, or leaves out one that does.
    MemberMask,
    /// A warp-wide matrix instruction without the whole warp.
    PartialWarp,
    /// `trap`, a failed assertion, or something else that the program raised itself.
    Trap,
    /// An operand with a value that the manual forbids.
    BadOperand,
}

impl FindingKind {
    /// As printed.
    pub fn name(self) -> &'static str {
        match self {
            FindingKind::OutOfBounds => "out of bounds",
            FindingKind::Misaligned => "misaligned",
            FindingKind::Uninitialised => "uninitialised read",
            FindingKind::Race => "race",
            FindingKind::MissingWait => "missing wait",
            FindingKind::MissingFence => "missing fence",
            FindingKind::BarrierDivergence => "barrier divergence",
            FindingKind::Deadlock => "deadlock",
            FindingKind::MemberMask => "member mask",
            FindingKind::PartialWarp => "partial warp",
            FindingKind::Trap => "trap",
            FindingKind::BadOperand => "bad operand",
        }
    }
}

/// A thread at a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// PTX line, from 1.
    pub line: u32,
    /// Its text.
    pub text: String,
    /// Block index.
    pub block: [u32; 3],
    /// Thread index in the block.
    pub thread: [u32; 3],
}

/// The other side of a race.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Access {
    /// `read`, `write` or `atomic`.
    pub what: &'static str,
    /// Who and where.
    pub at: Place,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its class.
    pub kind: FindingKind,
    /// One sentence.
    pub message: String,
    /// Who and where.
    pub at: Place,
    /// The address, if the fault has one.
    pub address: Option<u64>,
    /// For races, the other access.
    pub other: Option<Access>,
    /// How often the same fault occurred on this line.
    pub count: u64,
}

fn thread(f: &mut fmt::Formatter, at: &Place) -> fmt::Result {
    let ([bx, by, bz], [tx, ty, tz]) = (at.block, at.thread);
    write!(f, "block ({bx}, {by}, {bz}), thread ({tx}, {ty}, {tz})")
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "{}: {}\n  line {}: {}\n  ",
            self.kind.name(),
            self.message,
            self.at.line,
            self.at.text
        )?;
        thread(f, &self.at)?;
        if let Some(address) = self.address {
            write!(f, ", address {address:#x}")?;
        }
        if let Some(other) = &self.other {
            write!(
                f,
                "\n  against a {} on line {}: {}\n  ",
                other.what, other.at.line, other.at.text
            )?;
            thread(f, &other.at)?;
        }
        if self.count > 1 {
            write!(f, "\n  {} times on this line", self.count)?;
        }
        Ok(())
    }
}

/// Findings of a launch, one per kind and line (and the line of the other access).
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    index: HashMap<(FindingKind, u32, u32), usize>,
}

/// Different findings beyond this many are only counted.
const KEPT: usize = 100;

impl Findings {
    /// Whether a finding of this kind at this place is already there; if so, it is counted.
    pub(crate) fn seen(&mut self, kind: FindingKind, line: u32, other: u32) -> bool {
        if let Some(&i) = self.index.get(&(kind, line, other)) {
            self.list[i].count += 1;
            return true;
        }
        self.list.len() >= KEPT
    }

    pub(crate) fn push(&mut self, finding: Finding) {
        let key = (finding.kind, finding.at.line, finding.other.as_ref().map_or(0, |o| o.at.line));
        if !self.seen(key.0, key.1, key.2) {
            self.index.insert(key, self.list.len());
            self.list.push(finding);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn into_vec(self) -> Vec<Finding> {
        self.list
    }
}
