//! When a kernel may write its result over one of its operands.

use gigac_ir::graph::ValueId;
use gigac_ir::kernel::{Expr, Kernel, Offset, Stmt};

use crate::form::{Formed, Launch, Unit};

/// Whether the launch that makes `new` reads `old` only at the element that it is about to write,
/// so that both may be the same memory: every load of `old` has the offset of the only store of
/// `new`, and stands in the same block before it.
fn element_by_element(kernel: &Kernel, launch: &Launch, old: ValueId, new: ValueId) -> bool {
    let index = |value| launch.arguments.iter().position(|a| *a == value).map(|i| i as u32);
    let Some(new) = index(new) else { return false };
    let Some(old) = index(old) else { return true };
    let mut stores = Vec::new();
    let mut loads = Vec::new();
    accesses(&kernel.body, 0, &mut |block, stmt| match stmt {
        Stmt::Let(_, Expr::Load { buffer, offset, .. }) if buffer.0 == old => {
            loads.push((block, offset.clone()));
        }
        Stmt::Store { buffer, offset, accumulate, .. } if buffer.0 == new => {
            stores.push((block, offset.clone(), *accumulate));
        }
        _ => {}
    });
    let [(block, offset, false)] = &stores[..] else { return false };
    loads.iter().all(|(b, o): &(usize, Offset)| b == block && o == offset)
}

/// Visits statements with the number of their block; loads come before the stores of a block.
fn accesses(stmts: &[Stmt], block: usize, visit: &mut dyn FnMut(usize, &Stmt)) -> usize {
    let mut next = block + 1;
    for stmt in stmts {
        visit(block, stmt);
        if let Stmt::Loop { body, .. } = stmt {
            next = accesses(body, next, visit);
        }
    }
    next
}

/// Whether `new`, made by one of these units, may lie where `old` lies: its maker reads `old`
/// element by element, and no later unit reads `old`.
pub(crate) fn may_overwrite(formed: &Formed, units: &[Unit], old: ValueId, new: ValueId) -> bool {
    let made = units.iter().position(|u| matches!(u, Unit::Launch(l) if writes(formed, l, new)));
    let Some(made) = made else { return false };
    let Unit::Launch(launch) = &units[made] else { unreachable!("found as a launch") };
    element_by_element(&formed.kernels[launch.kernel], launch, old, new)
        && units[made + 1..].iter().all(|u| !mentions(u, old))
}

fn writes(formed: &Formed, launch: &Launch, value: ValueId) -> bool {
    use gigac_ir::kernel::Access;
    let buffers = &formed.kernels[launch.kernel].buffers;
    launch.arguments.iter().zip(buffers).any(|(a, b)| *a == value && b.access != Access::Read)
}

/// Whether a unit touches a value.
fn mentions(unit: &Unit, value: ValueId) -> bool {
    match unit {
        Unit::Launch(launch) => launch.arguments.contains(&value),
        Unit::Repeat(inner) => {
            inner.operands.contains(&value)
                || inner
                    .segments
                    .iter()
                    .any(|s| s.next.contains(&value) || s.body.iter().any(|u| mentions(u, value)))
        }
    }
}
