//! What depends on the depth of a model: the axes of repeats.

use std::collections::BTreeSet;

use gigac_ir::graph::{AxisId, Op, Region};

/// Axes that repeats run over: what is decided by sizes leaves them out, so that the plan has
/// the same shape for any depth.
pub(crate) fn repeated_axes(region: &Region) -> BTreeSet<AxisId> {
    let mut axes = BTreeSet::new();
    for node in &region.nodes {
        if let (Op::Repeat { axis, .. }, Some(body)) = (&node.op, &node.region) {
            axes.insert(*axis);
            axes.extend(repeated_axes(body));
        }
    }
    axes
}
