//! When a value may lie where another one lies that is read for the last time.

use std::collections::HashSet;

use gigac_ir::graph::ValueId;
use gigac_ir::kernel::{Access, BufferId};

use crate::form::{Formed, Launch, Loop, Unit};

/// Whether `new`, made by one of these units, may lie where `old` lies: its maker reads an element
/// of `old` before it writes the same one of `new`, and no later unit reads `old`.
pub(super) fn may_overwrite(formed: &Formed, units: &[Unit], old: ValueId, new: ValueId) -> bool {
    let Some(made) = units.iter().position(|u| makes(formed, u, new)) else { return false };
    units[made + 1..].iter().all(|u| !u.mentions(old))
        && match &units[made] {
            Unit::Launch(launch) => launch_may(formed, launch, old, new),
            Unit::Together(_) => unreachable!("{}", super::TOO_EARLY),
            Unit::Repeat(inner) => loop_may(formed, inner, old, new),
        }
}

fn makes(formed: &Formed, unit: &Unit, value: ValueId) -> bool {
    match unit {
        Unit::Launch(_) | Unit::Together(_) => unit.launches().iter().any(|launch| {
            let buffers = &formed.kernels[launch.kernel].buffers;
            let mut arguments = launch.arguments.iter().zip(buffers);
            arguments.any(|(a, b)| *a == value && b.access != Access::Read)
        }),
        Unit::Repeat(inner) => inner.results.contains(&value),
    }
}

/// The argument of a launch that a value is.
fn argument(launch: &Launch, value: ValueId) -> Option<BufferId> {
    launch.arguments.iter().position(|a| *a == value).map(|i| BufferId(i as u32))
}

/// Whether a launch may write `new` over `old`.
pub(super) fn launch_may(formed: &Formed, launch: &Launch, old: ValueId, new: ValueId) -> bool {
    let Some(to) = argument(launch, new) else { return false };
    match argument(launch, old) {
        Some(from) => formed.kernels[launch.kernel].may_lie_over(to, from),
        None => true,
    }
}

/// Whether a loop may stack `new` over `old`, which it takes slice by slice: each turn reads its
/// own slice alone, and writes the same slice.
pub(super) fn loop_may(formed: &Formed, inner: &Loop, old: ValueId, new: ValueId) -> bool {
    let stacked = |values: &[ValueId], of: ValueId| {
        let skip = |list: &[ValueId]| list.iter().take(inner.carried).any(|v| *v == of);
        let mut places = (inner.carried..values.len()).filter(|i| values[*i] == of);
        let first = places.next();
        first.filter(|_| places.next().is_none() && !skip(values))
    };
    let (Some(from), Some(to)) = (stacked(&inner.operands, old), stacked(&inner.results, new))
    else {
        return false;
    };
    formed.layouts[old.index()] == formed.layouts[new.index()]
        && inner.segments.iter().all(|segment| {
            let (arg, next) = (segment.arguments[1 + from], segment.next[to]);
            let kept = segment.stacks.iter().map(|stack| stack.slice);
            let mut leaving = segment.next.iter().copied().chain(kept);
            leaving.all(|v| v != arg)
                && segment.body.iter().all(|u| !u.mentions(old))
                && may_overwrite(formed, &segment.body, arg, next)
        })
}

/// For each unit of a region the values that no later unit and no result of the region mentions.
/// Those among them that the region defines are gone after the unit.
pub(super) fn last_mentions(units: &[Unit], results: &[ValueId]) -> Vec<HashSet<ValueId>> {
    let mut later: HashSet<ValueId> = results.iter().copied().collect();
    let mut last: Vec<HashSet<ValueId>> = units
        .iter()
        .rev()
        .map(|unit| {
            let mut now = HashSet::new();
            unit.each_mention(&mut |v| {
                if later.insert(v) {
                    now.insert(v);
                }
            });
            now
        })
        .collect();
    last.reverse();
    last
}
