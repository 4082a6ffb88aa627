//! The rules, in named sets.
//!
//! A rule reads like mathematics: a left side, a right side, a reason, and the conditions under
//! which both mean the same, for every shape that type-checks. Where the right side lacks axes of
//! the left, it is broadcast along them. A rule is applied before differentiation, so both sides
//! also have the same derivatives; a law test evaluates values and gradients of both.
//!
//! Advice: never rewrite to something that is dearer in every case; prefer a targeted rule to
//! general commutativity or associativity; state what must be finite, and let the analysis prove
//! it.

/// A rule: set, name, left side, right side, conditions (all of which must hold), reason.
macro_rules! rule {
    ($set:expr, $name:literal, $left:literal => $right:expr, [$($when:expr),*], $reason:literal) => {
        $crate::fuse::rules::Rule {
            name: std::borrow::Cow::Borrowed($name),
            set: $set,
            reason: $reason,
            left: std::borrow::Cow::Borrowed($left),
            right: $right,
            when: std::borrow::Cow::Borrowed(&[$($when),*]),
        }
    };
}
mod algebra;
mod grouped;
#[cfg(test)]
mod laws;
mod layout;
mod logic;
mod masks;
mod products;
mod softmax;

use std::borrow::Cow;
use std::fmt;

use egg::{Applier, Id, Pattern, PatternAst, Rewrite, Subst, Symbol, Var};
use gigac_ir::graph::{AxisId, DType};

use super::facts::{Context, Facts, Known, Terms, broadcast, known, listed};
use super::term::Term;

/// What a rule may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// Nothing: both sides have the same bits.
    Exact,
    /// Rounding and the sign of zero: both sides are equal over the reals.
    Reassociating,
}

/// One rule.
#[derive(Clone)]
pub(crate) struct Rule {
    /// Its name, unique.
    pub(crate) name: Cow<'static, str>,
    /// Its set.
    pub(crate) set: Set,
    /// Why it is there.
    pub(crate) reason: &'static str,
    /// The pattern that it matches.
    pub(crate) left: Cow<'static, str>,
    /// What that equals.
    pub(crate) right: Right,
    /// When it does: all of these hold.
    pub(crate) when: Cow<'static, [When]>,
}

/// The right side of a rule.
#[derive(Clone)]
pub(crate) enum Right {
    /// A pattern.
    Text(Cow<'static, str>),
    /// What a function builds, or nothing where the rule does not apply.
    Build(fn(&mut Terms, &Match) -> Option<Id>),
}

/// A right side that is a pattern.
const fn text(pattern: &'static str) -> Right {
    Right::Text(Cow::Borrowed(pattern))
}

/// A condition on what the left side's variables stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// A value has none of the listed axes.
    Lacks(&'static str, &'static str),
    /// A value has all of the listed axes.
    Has(&'static str, &'static str),
    /// Two lists share no axis.
    Apart(&'static str, &'static str),
    /// A value has all axes of another.
    Covers(&'static str, &'static str),
    /// Two values share an axis beside the listed ones.
    Together(&'static str, &'static str, &'static str),
    /// All elements are this number.
    Is(&'static str, f64),
    /// All elements are one number.
    Number(&'static str),
    /// It is no number that is known.
    Varies(&'static str),
    /// No element is infinite or NaN.
    Finite(&'static str),
    /// Finite and not zero.
    Divisor(&'static str),
    /// Finite and above zero.
    Positive(&'static str),
    /// Finite, and not below zero.
    NotNegative(&'static str),
    /// Not below zero; it may be infinite or NaN.
    NeverNegative(&'static str),
    /// Not NaN.
    Ordered(&'static str),
    /// Not NaN, and below +∞.
    BelowInfinity(&'static str),
    /// Not NaN, and above −∞.
    AboveInfinity(&'static str),
    /// Gradients may flow through it.
    Active(&'static str),
    /// A truth value.
    IsBool(&'static str),
    /// An int.
    IsInt(&'static str),
    /// A real.
    IsReal(&'static str),
}

/// One match of a left side.
pub(crate) struct Match<'s> {
    subst: &'s Subst,
}

impl Match<'_> {
    /// The class that a variable stands for.
    pub(crate) fn at(&self, name: &str) -> Id {
        let variable: Var = name.parse().expect("names of variables begin with `?`");
        self.subst[variable]
    }
}

impl When {
    fn holds(self, terms: &Terms, m: &Match) -> bool {
        let value = |name: &str| known(terms, m.at(name));
        let range = |name: &str| value(name).range;
        match self {
            Self::Lacks(x, axes) => listed(terms, m.at(axes)).iter().all(|a| !value(x).has(*a)),
            Self::Has(x, axes) => listed(terms, m.at(axes)).iter().all(|a| value(x).has(*a)),
            Self::Apart(x, y) => {
                listed(terms, m.at(x)).iter().all(|a| !listed(terms, m.at(y)).contains(a))
            }
            Self::Covers(x, y) => value(y).axes.iter().all(|a| value(x).has(*a)),
            Self::Together(x, y, axes) => {
                let beside = |a: &&AxisId| !listed(terms, m.at(axes)).contains(a);
                value(x).axes.iter().filter(beside).any(|a| value(y).has(*a))
            }
            Self::Is(x, number) => value(x).number() == Some(number),
            Self::Number(x) => value(x).constant.is_some(),
            Self::Varies(x) => value(x).constant.is_none(),
            Self::Finite(x) => range(x).finite(),
            Self::Divisor(x) => range(x).finite() && !range(x).zero,
            Self::Positive(x) => range(x).positive(),
            Self::NotNegative(x) => range(x).finite() && range(x).lo >= 0.0,
            Self::NeverNegative(x) => range(x).lo >= 0.0,
            Self::Ordered(x) => !range(x).nan,
            Self::BelowInfinity(x) => !range(x).nan && !range(x).plus,
            Self::AboveInfinity(x) => !range(x).nan && !range(x).minus,
            Self::Active(x) => value(x).active,
            Self::IsBool(x) => value(x).dtype == DType::Bool,
            Self::IsInt(x) => matches!(value(x).dtype, DType::Int { .. }),
            Self::IsReal(x) => value(x).dtype.is_real(),
        }
    }
}

/// All rules.
pub(crate) fn all() -> Vec<Rule> {
    let sets = [
        logic::RULES,
        algebra::RULES,
        masks::RULES,
        layout::RULES,
        products::RULES,
        softmax::RULES,
    ];
    sets.into_iter().flatten().cloned().chain(grouped::rules()).collect()
}

/// All rules as a table in Markdown, for the documentation.
pub fn catalogue() -> String {
    let mut table = String::from("| rule | is | when | because |\n|---|---|---|---|\n");
    for rule in all() {
        let right = match &rule.right {
            Right::Text(text) => format!("`{text}`"),
            Right::Build(_) => "computed".to_owned(),
        };
        let when: Vec<String> = rule.when.iter().map(When::to_string).collect();
        let Rule { name, left, reason, .. } = &rule;
        let exact = if rule.set == Set::Exact { "" } else { " ~" };
        let row = [format!("{name}{exact}"), format!("`{left}` = {right}"), when.join(", ")];
        table += &format!("| {} | {} | {} | {reason} |\n", row[0], row[1], row[2]);
    }
    table
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lacks(x, axes) => write!(f, "{x} lacks {axes}"),
            Self::Has(x, axes) => write!(f, "{x} has {axes}"),
            Self::Apart(a, b) => write!(f, "{a} and {b} share no axis"),
            Self::Covers(x, y) => write!(f, "{x} has the axes of {y}"),
            Self::Together(x, y, axes) => write!(f, "{x} and {y} share an axis beside {axes}"),
            Self::Is(x, number) => write!(f, "{x} is {number}"),
            Self::Number(x) => write!(f, "{x} is a number"),
            Self::Varies(x) => write!(f, "{x} is no number"),
            Self::Finite(x) => write!(f, "{x} is finite"),
            Self::Divisor(x) => write!(f, "{x} is finite and not 0"),
            Self::Positive(x) => write!(f, "{x} is above 0"),
            Self::NotNegative(x) => write!(f, "{x} is finite and not below 0"),
            Self::NeverNegative(x) => write!(f, "{x} is not below 0"),
            Self::Ordered(x) => write!(f, "{x} is not NaN"),
            Self::BelowInfinity(x) => write!(f, "{x} is below ∞"),
            Self::AboveInfinity(x) => write!(f, "{x} is above −∞"),
            Self::Active(x) => write!(f, "{x} is trained"),
            Self::IsBool(x) => write!(f, "{x} is a truth value"),
            Self::IsInt(x) => write!(f, "{x} is an int"),
            Self::IsReal(x) => write!(f, "{x} is a real"),
        }
    }
}

impl Rule {
    /// The rule as egg wants it.
    ///
    /// # Panics
    /// When a side is not a pattern, or the right side has a variable that the left lacks.
    pub(crate) fn rewrite(&self) -> Rewrite<Term, Context> {
        let left: Pattern<Term> =
            self.left.parse().unwrap_or_else(|e| panic!("rule `{}`: {e}", self.name));
        let apply = Apply { right: Side::new(self), when: self.when.clone() };
        Rewrite::new(self.name.as_ref(), left, apply)
            .unwrap_or_else(|e| panic!("rule `{}`: {e}", self.name))
    }
}

/// A right side, parsed.
enum Side {
    Text(PatternAst<Term>),
    Build(fn(&mut Terms, &Match) -> Option<Id>),
}

impl Side {
    fn new(rule: &Rule) -> Self {
        match &rule.right {
            Right::Build(build) => Self::Build(*build),
            Right::Text(text) => {
                let parsed = text.parse::<Pattern<Term>>();
                Self::Text(parsed.unwrap_or_else(|e| panic!("rule `{}`: {e}", rule.name)).ast)
            }
        }
    }
}

struct Apply {
    right: Side,
    when: Cow<'static, [When]>,
}

impl Applier<Term, Context> for Apply {
    fn apply_one(
        &self,
        terms: &mut Terms,
        root: Id,
        subst: &Subst,
        _: Option<&PatternAst<Term>>,
        _: Symbol,
    ) -> Vec<Id> {
        let m = Match { subst };
        if !self.when.iter().all(|condition| condition.holds(terms, &m)) {
            return Vec::new();
        }
        let built = match &self.right {
            Side::Text(pattern) => Some(terms.add_instantiation(pattern, subst)),
            Side::Build(build) => build(terms, &m),
        };
        match built {
            Some(right) if equate(terms, root, right) => vec![root],
            _ => Vec::new(),
        }
    }

    fn vars(&self) -> Vec<Var> {
        match &self.right {
            Side::Text(pattern) => Pattern::new(pattern.clone()).vars(),
            Side::Build(_) => Vec::new(),
        }
    }
}

/// Unites a class with what equals it up to missing axes. Gives whether that was news.
fn equate(terms: &mut Terms, left: Id, right: Id) -> bool {
    let missing: Vec<_> = match (&terms[left].data, &terms[right].data) {
        (Facts::Value(l), Facts::Value(r)) => {
            l.axes.iter().copied().filter(|a| !r.has(*a)).collect()
        }
        _ => Vec::new(),
    };
    let right = broadcast(terms, right, &missing);
    terms.union(left, right)
}

/// The terms of a class, by value: rules add terms while they look at them.
fn terms_of(terms: &Terms, id: Id) -> Vec<Term> {
    terms[id].nodes.clone()
}

/// Whether all elements of a value are the number.
fn is(known: &Known, number: f64) -> bool {
    known.number() == Some(number)
}
