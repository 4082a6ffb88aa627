//! How many turns of a loop are left out: the share of tiles on which a mask may hold.
//!
//! A kernel says `when mask` where the rest of a turn changes nothing unless some lane of the mask
//! holds; a causal attention leaves out half of its tiles that way. Whether a lane may hold is
//! decided by interval arithmetic over the positions of a tile, as code generators do.

use std::collections::{BTreeSet, HashMap};

use gigac_ir::kernel::{Expr, Factor, Kernel, Offset, Stmt, TileId, VarId};
use gigac_ir::pointwise::Pointwise;

/// Combinations of tiles that are looked at; of more, evenly spaced ones are.
const MOST: u64 = 1 << 14;

/// What a tile value may be on some lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    /// Whole numbers from the first to the second.
    Int(i64, i64),
    /// Whether it may be true, and whether it may be false.
    Bool(bool, bool),
    /// Anything: it depends on data.
    Any,
}

/// Definitions of all tile values of a kernel.
pub(crate) type Definitions<'k> = HashMap<TileId, &'k Expr>;

/// Collects the definitions of a kernel.
pub(crate) fn definitions(kernel: &Kernel) -> Definitions<'_> {
    fn collect<'k>(stmts: &'k [Stmt], found: &mut Definitions<'k>) {
        for stmt in stmts {
            match stmt {
                Stmt::Let(tile, expr) => {
                    found.insert(*tile, expr);
                }
                Stmt::Loop { body, .. } => collect(body, found),
                Stmt::When(_) | Stmt::Store { .. } => {}
            }
        }
    }
    let mut found = HashMap::new();
    collect(&kernel.body, &mut found);
    found
}

/// The share of the tiles of `blocks` (the grid and the loops around) on which a mask may hold.
pub(crate) fn share(
    kernel: &Kernel,
    definitions: &Definitions<'_>,
    mask: TileId,
    blocks: &[VarId],
) -> f64 {
    let mut vars = BTreeSet::new();
    reads(definitions, mask, &mut vars);
    let moving: Vec<VarId> = blocks.iter().copied().filter(|v| vars.contains(v)).collect();
    let each = (MOST as f64).powf(1.0 / moving.len().max(1) as f64) as u64;
    let samples: Vec<u64> = moving.iter().map(|v| kernel.var(*v).tiles().min(each)).collect();
    let all: u64 = samples.iter().product();
    let held = (0..all).filter(|combination| {
        let mut rest = *combination;
        let mut at: HashMap<VarId, (i64, i64)> =
            vars.iter().map(|v| (*v, (0, kernel.var(*v).extent as i64 - 1))).collect();
        for (var, count) in moving.iter().zip(&samples) {
            let v = kernel.var(*var);
            let tile = rest % count * v.tiles() / count;
            rest /= count;
            let first = tile * v.tile;
            at.insert(*var, (first as i64, (first + v.tile).min(v.extent) as i64 - 1));
        }
        !matches!(evaluate(definitions, mask, &at), Range::Bool(false, _))
    });
    held.count() as f64 / all as f64
}

/// The variables that a value depends on.
fn reads(definitions: &Definitions<'_>, tile: TileId, vars: &mut BTreeSet<VarId>) {
    match definitions.get(&tile) {
        Some(Expr::Index(offset)) => {
            for term in &offset.terms {
                match term.factor {
                    Factor::Digit { var, .. } => {
                        vars.insert(var);
                    }
                    Factor::Tile(tile) => reads(definitions, tile, vars),
                    Factor::Scalar(_) => {}
                }
            }
        }
        Some(Expr::Pointwise(_, operands)) => {
            operands.iter().for_each(|o| reads(definitions, *o, vars));
        }
        _ => {}
    }
}

fn evaluate(definitions: &Definitions<'_>, tile: TileId, at: &HashMap<VarId, (i64, i64)>) -> Range {
    match definitions.get(&tile) {
        Some(Expr::Int(value)) => Range::Int(i64::from(*value), i64::from(*value)),
        Some(Expr::Bool(value)) => Range::Bool(*value, !*value),
        Some(Expr::Index(offset)) => index(definitions, offset, at),
        Some(Expr::Pointwise(function, operands)) => {
            let operands: Vec<Range> =
                operands.iter().map(|o| evaluate(definitions, *o, at)).collect();
            pointwise(*function, &operands)
        }
        _ => Range::Any,
    }
}

fn index(definitions: &Definitions<'_>, offset: &Offset, at: &HashMap<VarId, (i64, i64)>) -> Range {
    let mut sum = (offset.constant, offset.constant);
    for term in &offset.terms {
        let range = match term.factor {
            Factor::Digit { var, divisor, modulus } => digit(at[&var], divisor, modulus),
            Factor::Tile(tile) => evaluate(definitions, tile, at),
            Factor::Scalar(_) => Range::Any,
        };
        let Range::Int(low, high) = range else { return Range::Any };
        let (a, b) = (low * term.coefficient, high * term.coefficient);
        sum = (sum.0 + a.min(b), sum.1 + a.max(b));
    }
    Range::Int(sum.0, sum.1)
}

/// The values of `(position / divisor) mod modulus`.
fn digit((low, high): (i64, i64), divisor: u64, modulus: u64) -> Range {
    let (low, high) = (low / divisor.max(1) as i64, high / divisor.max(1) as i64);
    match modulus as i64 {
        0 => Range::Int(low, high),
        m if high - low < m && low % m <= high % m => Range::Int(low % m, high % m),
        m => Range::Int(0, m - 1),
    }
}

fn pointwise(function: Pointwise, operands: &[Range]) -> Range {
    use Range::{Any, Bool, Int};
    match (function, operands) {
        (Pointwise::Neg, [Int(a, b)]) => Int(-b, -a),
        (Pointwise::Add, [Int(a, b), Int(c, d)]) => Int(a + c, b + d),
        (Pointwise::Sub, [Int(a, b), Int(c, d)]) => Int(a - d, b - c),
        (Pointwise::Min, [Int(a, b), Int(c, d)]) => Int(*a.min(c), *b.min(d)),
        (Pointwise::Max, [Int(a, b), Int(c, d)]) => Int(*a.max(c), *b.max(d)),
        (Pointwise::Le, [Int(a, b), Int(c, d)]) => Bool(a <= d, b > c),
        (Pointwise::Lt, [Int(a, b), Int(c, d)]) => Bool(a < d, b >= c),
        (Pointwise::Ge, [a, b]) => pointwise(Pointwise::Le, &[*b, *a]),
        (Pointwise::Gt, [a, b]) => pointwise(Pointwise::Lt, &[*b, *a]),
        (Pointwise::Eq, [Int(a, b), Int(c, d)]) => {
            Bool(a <= d && c <= b, a != b || a != c || c != d)
        }
        (Pointwise::Not, [Bool(t, f)]) => Bool(*f, *t),
        (Pointwise::And, [a, b]) => {
            let ((at, af), (bt, bf)) = (truth(*a), truth(*b));
            Bool(at && bt, af || bf)
        }
        (Pointwise::Or, [a, b]) => {
            let ((at, af), (bt, bf)) = (truth(*a), truth(*b));
            Bool(at || bt, af && bf)
        }
        _ => Any,
    }
}

/// Whether it may be true, and whether it may be false.
fn truth(range: Range) -> (bool, bool) {
    match range {
        Range::Bool(t, f) => (t, f),
        _ => (true, true),
    }
}
