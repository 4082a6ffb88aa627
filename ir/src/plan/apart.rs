//! Whether two accesses ever meet.

use super::{Address, TurnTerm};

/// Numbers from the first up to the second, both included.
type Interval = (i128, i128);

/// Whether so many bytes from one address on and so many from another one have no byte in common, in any turn
/// of the loops around them, whose lowest and highest turns are given, outermost first.
///
/// Exact where the two addresses differ by a constant or along one loop, or rotate through the same slots; never wrong when it
/// says yes.
pub fn apart(a: (&Address, u64), b: (&Address, u64), turns: &[(u64, u64)]) -> bool {
    let ((a, a_bytes), (b, b_bytes)) = (a, b);
    let (before, behind) = (-i128::from(b_bytes), i128::from(a_bytes));
    let empty = a_bytes == 0 || b_bytes == 0;
    empty || differences(a, b, turns).iter().all(|(low, high)| *high <= before || *low >= behind)
}

/// Where `b` may lie, seen from `a`.
fn differences(a: &Address, b: &Address, turns: &[(u64, u64)]) -> Vec<Interval> {
    let constant = i128::from(b.base) - i128::from(a.base);
    let mut found = vec![(constant, constant)];
    let (mut left, mut right) = (a.turns.clone(), Vec::new());
    for term in &b.turns {
        match left.iter().position(|other| other == term) {
            Some(equal) => drop(left.swap_remove(equal)),
            None => right.push(*term),
        }
    }
    for (depth, (first, last)) in turns.iter().enumerate() {
        add(&mut found, &[straight(&left, &right, depth as u32, *first, *last)]);
    }
    let rotates = |term: &TurnTerm| term.modulus > 0;
    let mut others: Vec<TurnTerm> = left.into_iter().filter(rotates).collect();
    for term in right.into_iter().filter(rotates) {
        match others.iter().position(|other| slots(other) == slots(&term)) {
            Some(at) => add(&mut found, &rotation(&others.swap_remove(at), &term)),
            None => add(&mut found, &[(0, reach(&term))]),
        }
    }
    for term in others {
        add(&mut found, &[(-reach(&term), 0)]);
    }
    found
}

/// Adds one of some intervals to one of those found.
fn add(found: &mut Vec<Interval>, more: &[Interval]) {
    let sums = |(low, high): &Interval| {
        let (low, high) = (*low, *high);
        more.iter().map(move |(a, b)| (low + a, high + b)).collect::<Vec<_>>()
    };
    *found = found.iter().flat_map(sums).collect();
}

/// What the terms of a loop without slots add to the difference.
fn straight(left: &[TurnTerm], right: &[TurnTerm], depth: u32, first: u64, last: u64) -> Interval {
    let own = |terms: &[TurnTerm], turn: u64| -> i128 {
        let terms = terms.iter().filter(|term| term.depth == depth && term.modulus == 0);
        terms.map(|t| i128::from(t.stride) * (i128::from(turn) + i128::from(t.shift))).sum()
    };
    let [early, late] = [first, last].map(|turn| own(right, turn) - own(left, turn));
    (early.min(late), early.max(late))
}

/// What tells the slots of terms apart.
fn slots(term: &TurnTerm) -> (u32, u64, u64) {
    (term.depth, term.stride, term.modulus)
}

/// The differences of two places in one rotation: the second is always so many slots further, or that many less a round.
fn rotation(a: &TurnTerm, b: &TurnTerm) -> [Interval; 2] {
    let (round, stride) = (i128::from(a.modulus), i128::from(a.stride));
    let further = (i128::from(b.shift) - i128::from(a.shift)).rem_euclid(round);
    [further, if further == 0 { 0 } else { further - round }]
        .map(|slots| (slots * stride, slots * stride))
}

/// The last slot of a rotation.
fn reach(term: &TurnTerm) -> i128 {
    i128::from(term.stride) * (i128::from(term.modulus) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address() -> impl Strategy<Value = Address> {
        let term = (0..2_u32, 0..4_u64, 0..3_i64, 0..4_u64);
        let term = term.prop_map(|(depth, stride, shift, modulus)| TurnTerm {
            depth,
            stride: 4 * stride,
            shift,
            modulus,
        });
        (0..64_u64, prop::collection::vec(term, 0..3))
            .prop_map(|(base, turns)| Address { base, turns })
    }

    /// Whether two accesses meet in some turn.
    fn meet(a: (&Address, u64), b: (&Address, u64), turns: [(u64, u64); 2]) -> bool {
        let inside = |(first, last): (u64, u64)| first..=last;
        inside(turns[0]).any(|i| {
            inside(turns[1]).any(|j| {
                let (x, y) = (a.0.at(&[i, j]), b.0.at(&[i, j]));
                x < y + b.1 && y < x + a.1
            })
        })
    }

    proptest! {
        #[test]
        fn what_is_apart_never_meets(
            a in address(), b in address(), bytes in (1..20_u64, 1..20_u64), last in (0..7_u64, 0..4_u64)
        ) {
            let turns = [(0, last.0), (1, 1 + last.1)];
            if apart((&a, bytes.0), (&b, bytes.1), &turns) {
                prop_assert!(!meet((&a, bytes.0), (&b, bytes.1), turns));
            }
        }
    }

    fn term(stride: u64, shift: i64, modulus: u64) -> TurnTerm {
        TurnTerm { depth: 0, stride, shift, modulus }
    }

    fn at(base: u64, turns: &[TurnTerm]) -> Address {
        Address { base, turns: turns.to_vec() }
    }

    #[test]
    fn slices_of_two_stacks_are_apart() {
        let (a, b) = (at(0, &[term(64, 0, 0)]), at(256, &[term(64, 0, 0)]));
        assert!(apart((&a, 64), (&b, 64), &[(0, 100)]));
        assert!(!apart((&a, 257), (&b, 64), &[(0, 100)]));
    }

    #[test]
    fn slots_of_one_rotation_are_apart() {
        let (a, b) = (at(0, &[term(64, 0, 2)]), at(0, &[term(64, 1, 2)]));
        assert!(apart((&a, 64), (&b, 64), &[(0, 9)]));
        assert!(!apart((&a, 65), (&b, 64), &[(0, 9)]));
        assert!(!apart((&a, 64), (&at(0, &[term(64, 2, 2)]), 64), &[(0, 9)]));
    }

    #[test]
    fn a_slice_meets_its_stack() {
        let (slice, whole) = (at(0, &[term(64, 0, 0)]), at(0, &[]));
        assert!(!apart((&slice, 64), (&whole, 256), &[(0, 3)]));
        assert!(apart((&slice, 64), (&at(256, &[]), 64), &[(0, 3)]));
        assert!(!apart((&slice, 64), (&at(256, &[]), 64), &[(0, 4)]));
    }
}
