//! Simplification: exact rewrites that make graphs smaller and never change a result's bits.
//!
//! - [`hoist`]: what does not depend on the turn leaves the body of a repeat, so that constant
//!   tables (angles, masks) are computed once;
//! - [`fold`]: operations that do nothing vanish, constants are computed, equal values become one,
//!   carried values that never change become captured ones;
//! - [`dead`]: what no result needs goes.
//!
//! Run it before differentiation, so that nothing constant is saved for the backward, and after.

mod dead;
mod fold;
mod hoist;

use gigac_ir::graph::{Graph, Region};

pub use dead::{DEAD, dead};
pub use fold::{FOLD, fold};
pub use hoist::{HOIST, hoist};

/// All of them, in an order that leaves nothing to do for a second run.
pub fn simplify(graph: Graph) -> Graph {
    dead(fold(hoist(graph)))
}

/// Number of nodes, those in bodies included.
fn nodes(region: &Region) -> usize {
    region.nodes.iter().map(|n| 1 + n.region.as_ref().map_or(0, nodes)).sum()
}
