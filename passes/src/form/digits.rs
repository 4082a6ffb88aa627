//! Arithmetic on digits of iteration variables: joins neighbouring digits of one variable, and
//! splits positions into digits, without divisions at run time where sizes allow.

use gigac_ir::kernel::{Factor, Offset, Term, Var, VarId};

/// Smallest and largest value of an offset, when it depends on variables alone.
fn range(offset: &Offset, vars: &[Var]) -> Option<(i64, i64)> {
    offset.terms.iter().try_fold((offset.constant, offset.constant), |(lo, hi), term| {
        let Factor::Digit { var, divisor, modulus } = term.factor else { return None };
        let top = term.coefficient * (count(var, divisor, modulus, vars) as i64 - 1);
        Some((lo + top.min(0), hi + top.max(0)))
    })
}

/// Number of values that a digit takes.
fn count(var: VarId, divisor: u64, modulus: u64, vars: &[Var]) -> u64 {
    let all = vars[var.0 as usize].extent.div_ceil(divisor);
    if modulus == 0 { all } else { all.min(modulus) }
}

/// Joins `c·m·((v / d·m) mod n) + c·((v / d) mod m)` to `c·((v / d) mod m·n)`, drops moduli that
/// never bite and digits that are always zero.
pub(crate) fn simplify(mut offset: Offset, vars: &[Var]) -> Offset {
    for term in &mut offset.terms {
        if let Factor::Digit { var, divisor, modulus } = &mut term.factor
            && *modulus != 0
            && vars[var.0 as usize].extent.div_ceil(*divisor) <= *modulus
        {
            *modulus = 0;
        }
    }
    offset.terms.retain(|t| match t.factor {
        Factor::Digit { var, divisor, modulus } => count(var, divisor, modulus, vars) > 1,
        _ => true,
    });
    while let Some((high, low, joined)) = joint(&offset.terms, vars) {
        offset.terms[low] = joined;
        offset.terms.remove(high);
    }
    offset
}

/// Two terms that are neighbouring digits, and the term that they make.
fn joint(terms: &[Term], vars: &[Var]) -> Option<(usize, usize, Term)> {
    for (h, high) in terms.iter().enumerate() {
        for (l, low) in terms.iter().enumerate() {
            let Factor::Digit { var: hv, divisor: hd, modulus: hm } = high.factor else { continue };
            let Factor::Digit { var: lv, divisor: ld, modulus: lm } = low.factor else { continue };
            let adjacent = h != l && hv == lv && lm != 0 && hd == ld * lm;
            if adjacent && high.coefficient == low.coefficient * lm as i64 {
                let whole = vars[lv.0 as usize].extent.div_ceil(ld);
                let modulus = if hm == 0 || hm * lm >= whole { 0 } else { hm * lm };
                let factor = Factor::Digit { var: lv, divisor: ld, modulus };
                return Some((h, l, Term { coefficient: low.coefficient, factor }));
            }
        }
    }
    None
}

/// `(offset / size, offset mod size)` where both are sums of digits again.
pub(crate) fn split(offset: &Offset, size: u64, vars: &[Var]) -> Option<(Offset, Offset)> {
    let n = size as i64;
    let (mut high, mut low) = (Offset::default(), Offset::default());
    high.constant = offset.constant.div_euclid(n);
    low.constant = offset.constant.rem_euclid(n);
    for term in &offset.terms {
        if term.coefficient % n == 0 {
            high.terms.push(Term { coefficient: term.coefficient / n, factor: term.factor });
            continue;
        }
        match term.factor {
            Factor::Digit { var, divisor, modulus }
                if n % term.coefficient == 0
                    && term.coefficient > 0
                    && count(var, divisor, modulus, vars) as i64 * term.coefficient > n =>
            {
                let m = size / term.coefficient as u64;
                if modulus != 0 && modulus % m != 0 {
                    return None;
                }
                let top = if modulus == 0 { 0 } else { modulus / m };
                let upper = Factor::Digit { var, divisor: divisor * m, modulus: top };
                high.terms.push(Term { coefficient: 1, factor: upper });
                let lower = Factor::Digit { var, divisor, modulus: m };
                low.terms.push(Term { coefficient: term.coefficient, factor: lower });
            }
            _ => low.terms.push(*term),
        }
    }
    let (lo, hi) = range(&low, vars)?;
    (lo >= 0 && hi < n).then(|| (simplify(high, vars), simplify(low, vars)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digit(divisor: u64, modulus: u64, coefficient: i64) -> Term {
        Term { coefficient, factor: Factor::Digit { var: VarId(0), divisor, modulus } }
    }

    fn evaluate(offset: &Offset, position: u64) -> i64 {
        offset.terms.iter().fold(offset.constant, |sum, term| {
            let Factor::Digit { divisor, modulus, .. } = term.factor else { unreachable!() };
            let digit = position / divisor;
            sum + term.coefficient * if modulus == 0 { digit } else { digit % modulus } as i64
        })
    }

    #[test]
    fn contiguous_digits_join() {
        let vars = [Var { name: "f".into(), extent: 24, tile: 1 }];
        let offset =
            Offset { constant: 5, terms: vec![digit(12, 0, 12), digit(4, 3, 4), digit(1, 4, 1)] };
        let simple = simplify(offset, &vars);
        assert_eq!(simple, Offset::var(VarId(0)).plus(&Offset::constant(5)));
    }

    #[test]
    fn splitting_keeps_the_value() {
        let vars = [Var { name: "f".into(), extent: 60, tile: 1 }];
        for (offset, size) in [
            (Offset::var(VarId(0)), 5),
            (Offset { constant: 0, terms: vec![digit(1, 30, 1)] }, 6),
            (Offset { constant: 0, terms: vec![digit(5, 0, 4), digit(1, 2, 1)] }, 4),
            (Offset { constant: 10, terms: vec![digit(6, 0, 20)] }, 20),
        ] {
            let (high, low) = split(&offset, size, &vars).expect("these split");
            for p in 0..60 {
                let whole = evaluate(&offset, p);
                assert_eq!(evaluate(&high, p), whole.div_euclid(size as i64), "at {p}");
                assert_eq!(evaluate(&low, p), whole.rem_euclid(size as i64), "at {p}");
            }
        }
    }

    #[test]
    fn what_needs_a_carry_does_not_split() {
        let vars = [Var { name: "f".into(), extent: 7, tile: 1 }];
        let offset = Offset { constant: 3, terms: vec![digit(1, 0, 1)] };
        assert!(split(&offset, 5, &vars).is_none());
    }
}
