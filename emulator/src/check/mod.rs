//! What the emulator looks for, and how it says what it found.

pub(crate) mod clock;
mod finding;
pub(crate) mod knowledge;
pub(crate) mod shadow;

pub(crate) use finding::Findings;
pub use finding::{Access, Finding, FindingKind, Place};

/// Which checks run; all do by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// Accesses outside every allocation.
    pub bounds: bool,
    /// Accesses whose address is not a multiple of their size.
    pub alignment: bool,
    /// Values from memory that nobody wrote, once they reach a branch, an address or a result.
    pub uninitialised: bool,
    /// Conflicting accesses that nothing orders.
    pub races: bool,
    /// Use of data that an asynchronous operation has not delivered yet.
    pub waits: bool,
    /// Barriers that not all threads of a warp or block reach together.
    pub barriers: bool,
    /// `.sync` instructions whose member mask names lanes that do not take part.
    pub masks: bool,
}

impl Checks {
    /// Every check.
    pub const ALL: Checks = Checks {
        bounds: true,
        alignment: true,
        uninitialised: true,
        races: true,
        waits: true,
        barriers: true,
        masks: true,
    };
    /// No check. An access that has no memory behind it still stops nothing: it reads zero.
    pub const NONE: Checks = Checks {
        bounds: false,
        alignment: false,
        uninitialised: false,
        races: false,
        waits: false,
        barriers: false,
        masks: false,
    };

    /// Switches the check called `name`; false if there is none.
    pub fn set(&mut self, name: &str, on: bool) -> bool {
        let field = match name {
            "bounds" => &mut self.bounds,
            "alignment" => &mut self.alignment,
            "uninitialised" | "uninitialized" => &mut self.uninitialised,
            "races" => &mut self.races,
            "waits" => &mut self.waits,
            "barriers" => &mut self.barriers,
            "masks" => &mut self.masks,
            _ => return false,
        };
        *field = on;
        true
    }

    /// Whether findings of this kind are wanted; those that no switch silences always are.
    pub(crate) fn wants(&self, kind: FindingKind) -> bool {
        match kind {
            FindingKind::OutOfBounds => self.bounds,
            FindingKind::Misaligned => self.alignment,
            FindingKind::Uninitialised => self.uninitialised,
            FindingKind::Race => self.races,
            FindingKind::MissingWait | FindingKind::MissingFence => self.waits,
            FindingKind::BarrierDivergence => self.barriers,
            FindingKind::MemberMask | FindingKind::PartialWarp => self.masks,
            FindingKind::Deadlock | FindingKind::Trap | FindingKind::BadOperand => true,
        }
    }

    /// The names that [`Checks::set`] knows.
    pub const NAMES: [&'static str; 7] =
        ["bounds", "alignment", "uninitialised", "races", "waits", "barriers", "masks"];
}

impl Default for Checks {
    fn default() -> Self {
        Checks::ALL
    }
}
