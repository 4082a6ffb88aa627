//! Which way tiles of two variables lie: one choice for each pair of variables.
//!
//! All choices are tried, and the cheapest one is taken. What costs: transposed twins of right
//! operands, loads and stores across memory's order, and sums along lanes instead of rows.

use std::collections::{BTreeMap, BTreeSet};

use gigac_ir::kernel::{Expr, Offset, TileId, VarId};

use super::super::contraction::access::{Access, Starts, classify};
use super::Reason;
use super::home::{LINE, Lie, size};
use super::program::Program;

/// Packed operands take at most this many bytes to be kept for all turns of a loop.
const CACHE_BYTES: u64 = 2 << 20;

/// Most pairs whose choices are tried.
const MOST_PAIRS: usize = 12;

/// Two variables, the smaller id first.
type Pair = [VarId; 2];

/// The lanes of every pair.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    lanes: BTreeMap<Pair, VarId>,
}

/// Where a value is packed that comes from memory alone and is read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cache {
    /// Variables that tell packed values of one slot apart.
    pub(super) key: Vec<VarId>,
    /// Variables whose tiles have slots of their own.
    pub(super) slots: Vec<VarId>,
}

impl Shape {
    /// The cheapest choice.
    ///
    /// # Errors
    /// When there are too many pairs to choose for.
    pub(super) fn choose(program: &Program<'_>) -> Result<Self, Reason> {
        let pairs: Vec<Pair> = pairs(program).into_iter().collect();
        if pairs.len() > MOST_PAIRS {
            return Err("it has tiles of too many pairs of variables");
        }
        let choices = (0..1u32 << pairs.len()).map(|choice| {
            let lanes = pairs.iter().enumerate();
            let lanes = lanes.map(|(i, pair)| (*pair, pair[(choice >> i & 1) as usize]));
            Self { lanes: lanes.collect() }
        });
        let cheapest = choices.min_by_key(|shape| shape.cost(program));
        Ok(cheapest.expect("there is one choice at least"))
    }

    /// How a tile of these variables lies.
    pub(super) fn lie(&self, domain: &[VarId]) -> Lie {
        match *domain {
            [lanes] => Lie { rows: None, lanes },
            [a, b] => {
                let lanes = self.lanes[&[a, b]];
                Lie { rows: Some(if lanes == a { b } else { a }), lanes }
            }
            _ => panic!("tiles have one or two variables"),
        }
    }

    /// The operands of a product as left and right, and how the right one must lie.
    pub(super) fn sides(
        &self,
        program: &Program<'_>,
        product: TileId,
        (a, b, along): (TileId, TileId, VarId),
    ) -> (TileId, TileId, Lie) {
        let lanes = self.lie(&program.domain(product)).lanes;
        let right_is_b = program.domain(b).contains(&lanes);
        let (left, right) = if right_is_b { (a, b) } else { (b, a) };
        (left, right, Lie { rows: Some(along), lanes })
    }

    /// The values that must lie the other way as well.
    pub(super) fn twins(&self, program: &Program<'_>) -> BTreeSet<TileId> {
        let right = |(value, expr): (&TileId, &&Expr)| {
            let Expr::Dot(a, b, along) = **expr else { return None };
            let (_, right, lie) = self.sides(program, *value, (a, b, along));
            (self.lie(&program.domain(right)) != lie).then_some(right)
        };
        program.exprs.iter().filter_map(right).collect()
    }

    fn cost(&self, program: &Program<'_>) -> u64 {
        let twins = self.twins(program).into_iter().map(|v| 2 * work(program, v));
        let mut cost: u64 = twins.sum();
        for (value, expr) in &program.exprs {
            match expr {
                Expr::Load { offset, .. } if program.domain(*value).len() == 2 => {
                    cost += self.crossing(program, &program.domain(*value), offset)
                        * 8
                        * work(program, *value);
                }
                Expr::Reduce(_, of, along) if program.domain(*of).len() == 2 => {
                    let across = self.lie(&program.domain(*of)).lanes == *along;
                    cost += u64::from(across) * 32 * work(program, *value);
                }
                _ => {}
            }
        }
        for store in &program.stores {
            let domain = program.store_domain(store);
            if domain.len() == 2 {
                let elements: u64 = domain.iter().map(|v| size(program.kernel, *v)).product();
                cost += self.crossing(program, &domain, store.offset) * 8 * elements;
            }
        }
        cost
    }

    /// 1 when memory does not lie along the lanes.
    fn crossing(&self, program: &Program<'_>, domain: &[VarId], offset: &Offset) -> u64 {
        let along = self.lie(domain).lanes;
        let starts = Starts::Multiples(LINE);
        u64::from(classify(program.kernel, offset, along, starts, LINE) == Access::Scattered)
    }
}

/// Pairs of variables that something varies along.
fn pairs(program: &Program<'_>) -> BTreeSet<Pair> {
    let values = program.block.keys().map(|v| program.domain(*v));
    let stores = program.stores.iter().map(|s| program.store_domain(s));
    values.chain(stores).filter_map(|domain| Pair::try_from(domain).ok()).collect()
}

/// Elements of a value times how often it is made in the whole grid.
fn work(program: &Program<'_>, value: TileId) -> u64 {
    let kernel = program.kernel;
    let elements = program.domain(value).into_iter().map(|v| size(kernel, v));
    let around = match cache(program, value) {
        Some(cache) => [cache.key, cache.slots].concat(),
        None => surroundings(program, value),
    };
    let times = around.iter().map(|v| kernel.var(*v).tiles());
    elements.chain(times).fold(1, u64::saturating_mul)
}

/// Variables of the grid and the loops around a value's definition, slowest first.
fn surroundings(program: &Program<'_>, value: TileId) -> Vec<VarId> {
    let loops = &program.loops[program.block[&value]];
    program.kernel.grid.iter().chain(loops).copied().collect()
}

/// Where a kept value can stay packed: it comes from memory alone, and some variable around it,
/// on which it does not depend, moves while others that it depends on come back.
pub(super) fn cache(program: &Program<'_>, value: TileId) -> Option<Cache> {
    let kernel = program.kernel;
    let pure = program.kept.contains(&value) && program.leaves(value).is_empty();
    if !pure || program.domain(value).len() != 2 {
        return None;
    }
    let moves = |v: &VarId| kernel.var(*v).tiles() > 1;
    let around: Vec<VarId> = surroundings(program, value).into_iter().filter(moves).collect();
    let depends = |v: &VarId| kernel.ty(value).vars.contains(v);
    let free = around.iter().position(|v| !depends(v))?;
    let only = |vars: &[VarId]| vars.iter().copied().filter(|v| depends(v)).collect::<Vec<_>>();
    let (key, slots) = (only(&around[..free]), only(&around[free..]));
    let elements: u64 = program.domain(value).iter().map(|v| size(kernel, *v)).product();
    let slots_count = slots.iter().map(|v| kernel.var(*v).tiles());
    let bytes = slots_count.fold(4 * elements, u64::saturating_mul);
    (bytes <= CACHE_BYTES).then_some(Cache { key, slots })
}
