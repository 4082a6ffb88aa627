//! The certificate of an attention: before it may be chosen, its value and its closed-form gradient
//! are compared, in f64, with those of the operations that it stands for.
//!
//! Both are tried in f64 on a small graph with the candidate's own score function ([`Trial`]), where
//! the mask shows some pairs of queries and keys: where it shows none, nothing would be proved, and no
//! certificate is given.

use std::fmt;

use gigac_ir::graph::Graph;
use gigac_ir::interpret::{Bindings, interpret};

use super::attend::Attention;
use super::facts::Terms;
use super::trial::{CLOSED, Places, Trial, open};
use crate::decompose;
use crate::differentiate::differentiate;

/// Differences up to this, relative or below 1 absolute, are rounding.
const ROUNDING: f64 = 1e-9;

/// What was compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Certificate {
    /// Numbers that were compared: the loss, and gradients of all operands.
    pub numbers: usize,
    /// Pairs of queries and keys that the mask showed.
    pub pairs: usize,
    /// The largest difference, relative or below 1 absolute.
    pub difference: f64,
}

/// Why there is no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No query was found that sees two keys.
    Hidden,
    /// Value or gradient is another.
    Differs,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hidden => "no query was found that sees two keys",
            Self::Differs => "its gradient is another",
        })
    }
}

impl Certificate {
    /// The one with the larger difference.
    pub(super) fn worse<'c>(a: &'c Self, b: &'c Self) -> &'c Self {
        if b.difference > a.difference { b } else { a }
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { numbers, pairs, difference } = self;
        write!(f, "gradients certified, {numbers} numbers of {pairs} pairs within {difference:.0e}")
    }
}

/// The certificate of an attention.
///
/// # Errors
/// When it is not what it stands for, or nothing of it was seen.
pub(crate) fn certify(terms: &Terms, attention: &Attention) -> Result<Certificate, Refusal> {
    let places = Places::of(terms, attention).ok_or(Refusal::Hidden)?;
    let (fused, bindings) = Trial::new(terms, &places).loss(terms, attention, CLOSED);
    let (unfused, _) = Trial::new(terms, &places).loss(terms, attention, open);
    let unfused = differentiate(&decompose::attention(unfused), 1);
    let certificate = compare(&differentiate(&fused, 1), &unfused, &bindings);
    certificate.map(|c| Certificate { pairs: places.pairs, ..c }).ok_or(Refusal::Differs)
}

/// Compares all results of two joint graphs; none when some differ.
fn compare(fused: &Graph, unfused: &Graph, bindings: &Bindings) -> Option<Certificate> {
    let results = |graph: &Graph| {
        interpret(graph, bindings).unwrap_or_else(|e| panic!("a trial is bound wholly: {e}"))
    };
    let (got, expected) = (results(fused), results(unfused));
    let mut certificate = Certificate { numbers: 0, pairs: 0, difference: 0.0 };
    for (role, got) in fused.roles.iter().zip(&got) {
        let at = unfused.roles.iter().position(|r| r == role)?;
        let expected = expected[at].arranged(&got.axes, &got.sizes);
        for (x, y) in got.data.iter().zip(&expected.data) {
            let same = x == y || x.is_nan() && y.is_nan();
            let difference = if same { 0.0 } else { (x - y).abs() / y.abs().max(1.0) };
            // A NaN on one side alone is no rounding either.
            if difference.is_nan() || difference > ROUNDING {
                return None;
            }
            certificate.numbers += 1;
            certificate.difference = certificate.difference.max(difference);
        }
    }
    Some(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::{Options, fuse};

    /// A soft cap, a bias and a causal mask.
    const FUSED: &str = "graph attention {
  axes T = 3, S = 3, K = 2
  param q[T, K] ~ normal(1.0)
  param k[S, K] ~ normal(1.0)
  param v[S, K] ~ normal(1.0)
  param bias[S] ~ normal(1.0)
  %0 = param[q]
  %1 = param[k]
  %2 = param[v]
  %3 = param[bias]
  %4, %5 = attend[S, K] %0, %1, %2 score(%6, %7 = %3) {
    %8 = tanh %6
    %9 = add %8, %7
    %10 = pos[S]
    %11 = pos[T]
    %12 = le %10, %11
    %13 = real[-inf]
    %14 = where %12, %9, %13
    give %14
  }
  %15 = mul %4, %4
  %16 = reduce[sum: T, K] %15
  result term 0 = %16
}";

    /// Every way to damage one operation of the gradient is found.
    #[test]
    fn wrong_gradients_get_no_certificate() {
        let fused = Graph::parse(FUSED).expect("well formed");
        let bindings = Bindings::example(&fused);
        let unfused = differentiate(&decompose::attention(fused.clone()), 1);
        let right = differentiate(&fused, 1).to_string();
        let judge = |text: &str| {
            let joint = Graph::parse(text).unwrap_or_else(|e| panic!("{e} in\n{text}"));
            compare(&joint, &unfused, &bindings)
        };
        let certificate = judge(&right).expect("the gradient as it is");
        assert_eq!(certificate.numbers, 1 + 3 * 3 * 2 + 3, "the loss, q, k, v and the bias");
        assert!(certificate.difference < ROUNDING);
        let body = right.find("attend_grad").expect("the gradient is closed-form");
        let (before, after) = right.split_at(body);
        let mut damaged = 0;
        for (from, to) in
            [(" mul ", " add "), (" sub ", " add "), (" le ", " lt "), ("tanh", "sin")]
        {
            for (at, _) in after.match_indices(from) {
                let (left, rest) = after.split_at(at);
                let wrong = format!("{before}{left}{to}{}", &rest[from.len()..]);
                assert_eq!(judge(&wrong), None, "{wrong}");
                damaged += 1;
            }
        }
        assert!(damaged >= 5, "{damaged} damaged in\n{right}");
    }

    /// The certificate, or its refusal, of attention with 600 positions, 3 documents and a mask.
    fn of_mask(mask: &str) -> Result<Certificate, Refusal> {
        let text = format!(
            "graph masked {{
  axes T = 600, S = 600, K = 2
  param q[T, K] ~ normal(1.0)
  param k[S, K] ~ normal(1.0)
  param v[S, K] ~ normal(1.0)
  input documents: int(0, 9)[T] from data
  %0 = param[q]
  %1 = param[k]
  %2 = param[v]
  %3 = input[documents]
  %4 = rename[T -> S] %3
  %5 = pos[T]
  %6 = pos[S]
  %7 = dot[K] %0, %1
  %8 = sub %5, %6
{mask}
  %20 = real[-inf]
  %21 = where %19, %7, %20
  %22 = reduce[max: S] %21
  %23 = stop %22
  %24 = eq %23, %20
  %25 = real[0.0]
  %26 = where %24, %25, %23
  %27 = sub %21, %26
  %28 = exp %27
  %29 = reduce[sum: S] %28
  %30 = real[0.5]
  %31 = max %29, %30
  %32 = div %28, %31
  %33 = dot[S] %32, %2
  result output out = %33
}}"
        );
        let graph = Graph::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        graph.verify().expect("a good graph");
        let (_, reports) = fuse(&graph, &Options::default());
        let [report] = &reports[..] else { panic!("{reports:?}") };
        match (&report.attentions[..], &report.refused[..]) {
            ([certificate], []) => Ok(*certificate),
            ([], [refusal, ..]) => Err(*refusal),
            _ => panic!("{report:?}"),
        }
    }

    /// Masks that hide all pairs of the positions that are tried first (0, 299, 599), and of small ints.
    #[test]
    fn pairs_that_a_mask_shows_are_found() {
        let window = "  %9 = int[0]\n  %10 = lt %9, %8\n  %11 = int[4]\n  %12 = lt %8, %11\n";
        let masks = [
            format!("{window}  %19 = and %10, %12"),
            "  %9 = int[7]\n  %10 = mod %8, %9\n  %11 = int[3]\n  %19 = eq %10, %11".to_owned(),
            "  %9 = int[6]\n  %10 = lt %9, %3\n  %11 = eq %3, %4\n  %19 = and %10, %11".to_owned(),
            format!(
                "{window}  %13 = and %10, %12\n  %14 = int[6]\n  %15 = lt %14, %3
  %16 = eq %3, %4\n  %17 = and %15, %16\n  %19 = and %13, %17"
            ),
        ];
        for mask in masks {
            let certificate = of_mask(&mask).unwrap_or_else(|e| panic!("{e}: {mask}"));
            assert!(certificate.pairs >= 2, "{certificate}: {mask}");
        }
    }

    /// With one key for each query there is nothing to compare.
    #[test]
    fn what_is_hidden_gets_no_certificate() {
        assert_eq!(of_mask("  %19 = eq %5, %6"), Err(Refusal::Hidden));
    }
}
