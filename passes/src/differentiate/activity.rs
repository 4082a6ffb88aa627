//! Which values depend smoothly on a trained parameter.

use std::collections::HashSet;

use gigac_ir::graph::{Builder, Node, ValueId};
use gigac_ir::ops::vjp::is_smooth;

use super::forward::{Loop, Taped};

/// The active values of a tape, given those that are so from the start; no other value gets a
/// cotangent.
pub(super) fn active(
    b: &Builder,
    tape: &[Taped],
    start: impl IntoIterator<Item = ValueId>,
) -> HashSet<ValueId> {
    let mut active: HashSet<ValueId> = start.into_iter().collect();
    region(b, tape, &mut active);
    active
}

fn region(b: &Builder, tape: &[Taped], active: &mut HashSet<ValueId>) {
    for item in tape {
        match item {
            Taped::Node(item) => node(b, item, active),
            Taped::Repeat(item) => repeat(b, item, active),
        }
    }
}

fn node(b: &Builder, node: &Node, active: &mut HashSet<ValueId>) {
    if is_smooth(&node.op) && node.operands.iter().any(|v| active.contains(v)) {
        active.extend(node.results.iter().filter(|v| b.ty(**v).dtype.is_real()));
    }
}

/// A carried value is active when it is before the first turn or after any other.
fn repeat(b: &Builder, repeat: &Loop, active: &mut HashSet<ValueId>) {
    pass(active, &repeat.inits, repeat.carried());
    pass(active, &repeat.stacked, repeat.slices());
    loop {
        region(b, &repeat.body, active);
        if !pass(active, &repeat.next, repeat.carried()) {
            break;
        }
    }
    pass(active, repeat.carried(), &repeat.results);
    pass(active, &repeat.stack, &repeat.results[repeat.inits.len()..]);
}

/// Makes values active whose counterparts are; says whether that is news.
fn pass(active: &mut HashSet<ValueId>, from: &[ValueId], to: &[ValueId]) -> bool {
    from.iter()
        .zip(to)
        .fold(false, |news, (from, to)| (active.contains(from) && active.insert(*to)) || news)
}
