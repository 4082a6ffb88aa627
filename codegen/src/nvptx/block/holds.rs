//! What is known of a mask over a whole tile, from a few instructions that all threads agree in.
//!
//! Every int of the mask becomes the interval of the values that it takes in the tile; a truth value,
//! whether it may hold and whether it holds everywhere. What is not understood may hold and need not.

use gigac_ir::kernel::{Expr, Factor, Offset, TileId, VarId};
use gigac_ir::pointwise::Pointwise;
use inkwell::IntPredicate;
use inkwell::values::IntValue;

use super::super::lower::Lowerer;
use crate::llvm::emit::Value;

/// Ints up to here are far from overflow.
const LIMIT: i64 = 1 << 30;

/// What is known of a truth value; nothing where it depends on data.
#[derive(Clone, Copy, Default)]
pub(super) struct Holds<'c> {
    /// Some lane may hold.
    pub(super) somewhere: Option<Value<'c>>,
    /// All lanes hold.
    pub(super) everywhere: Option<Value<'c>>,
}

/// Smallest and largest value in a tile, and what they are for all tiles.
#[derive(Clone, Copy)]
struct Interval<'c> {
    ends: [IntValue<'c>; 2],
    range: [i64; 2],
}

impl<'c> Lowerer<'_, 'c> {
    /// What is known of a truth value over the tile in hand.
    pub(super) fn holds(&self, value: TileId) -> Holds<'c> {
        match self.lazy.get(&value) {
            Some(Expr::Bool(b)) => {
                let known = Some(self.gpu.bool(*b, 1));
                Holds { somewhere: known, everywhere: known }
            }
            Some(Expr::Pointwise(function, x)) => self.truth(*function, x),
            _ => Holds::default(),
        }
    }

    fn truth(&self, function: Pointwise, x: &[TileId]) -> Holds<'c> {
        use IntPredicate::{EQ, SLE, SLT};
        let gpu = self.gpu;
        let swap = |h: Holds<'c>| Holds {
            somewhere: h.everywhere.map(|x| gpu.not(x)),
            everywhere: h.somewhere.map(|x| gpu.not(x)),
        };
        let compare = |p, a: IntValue<'c>, b: IntValue<'c>| gpu.icmp(p, a.into(), b.into());
        match function {
            Pointwise::Not => swap(self.holds(x[0])),
            Pointwise::And => {
                let (a, b) = (self.holds(x[0]), self.holds(x[1]));
                // One that may hold anywhere says nothing; one that nothing is known of may not hold.
                Holds {
                    somewhere: either_known(a.somewhere, b.somewhere, |a, b| gpu.both(a, b)),
                    everywhere: a.everywhere.zip(b.everywhere).map(|(a, b)| gpu.both(a, b)),
                }
            }
            Pointwise::Or => {
                let (a, b) = (self.holds(x[0]), self.holds(x[1]));
                Holds {
                    somewhere: a.somewhere.zip(b.somewhere).map(|(a, b)| gpu.either(a, b)),
                    everywhere: either_known(a.everywhere, b.everywhere, |a, b| gpu.either(a, b)),
                }
            }
            Pointwise::Gt => self.truth(Pointwise::Lt, &[x[1], x[0]]),
            Pointwise::Ge => self.truth(Pointwise::Le, &[x[1], x[0]]),
            Pointwise::Ne => swap(self.truth(Pointwise::Eq, x)),
            Pointwise::Lt | Pointwise::Le => {
                let Some([a, b]) = self.intervals(x) else { return Holds::default() };
                let less = if function == Pointwise::Lt { SLT } else { SLE };
                Holds {
                    somewhere: Some(compare(less, a.ends[0], b.ends[1])),
                    everywhere: Some(compare(less, a.ends[1], b.ends[0])),
                }
            }
            Pointwise::Eq => {
                let Some([a, b]) = self.intervals(x) else { return Holds::default() };
                let both = |p, first: [IntValue<'c>; 2], second: [IntValue<'c>; 2]| {
                    gpu.both(compare(p, first[0], first[1]), compare(p, second[0], second[1]))
                };
                let ([a, c], [b, d]) = (a.ends, b.ends);
                Holds {
                    somewhere: Some(both(SLE, [a, d], [b, c])),
                    everywhere: Some(both(EQ, [a, d], [c, b])),
                }
            }
            _ => Holds::default(),
        }
    }

    fn intervals(&self, x: &[TileId]) -> Option<[Interval<'c>; 2]> {
        Some([self.interval(x[0])?, self.interval(x[1])?])
    }

    /// The values of an int over the tile in hand; none where they are not understood.
    fn interval(&self, value: TileId) -> Option<Interval<'c>> {
        let found = match self.lazy.get(&value)? {
            Expr::Int(x) => self.fixed(i64::from(*x)),
            Expr::Index(offset) => self.sum(offset)?,
            Expr::Pointwise(Pointwise::Stop, x) => self.interval(x[0])?,
            Expr::Pointwise(Pointwise::Neg, x) => self.times(self.interval(x[0])?, -1)?,
            Expr::Pointwise(Pointwise::Add, x) => {
                let [a, b] = self.intervals(x)?;
                self.plus(a, b)?
            }
            Expr::Pointwise(Pointwise::Sub, x) => {
                let [a, b] = self.intervals(x)?;
                self.plus(a, self.times(b, -1)?)?
            }
            Expr::Pointwise(function @ (Pointwise::Min | Pointwise::Max), x) => {
                let [a, b] = self.intervals(x)?;
                let name = if *function == Pointwise::Min { "llvm.smin" } else { "llvm.smax" };
                let pick = |i: usize| {
                    self.gpu.intrinsic(name, &[a.ends[i].into(), b.ends[i].into()]).into_int_value()
                };
                let range = [a.range[0].min(b.range[0]), a.range[1].max(b.range[1])];
                Interval { ends: [pick(0), pick(1)], range }
            }
            _ => return None,
        };
        Some(found)
    }

    fn fixed(&self, x: i64) -> Interval<'c> {
        let end = self.gpu.int(x as i32, 1).into_int_value();
        Interval { ends: [end, end], range: [x, x] }
    }

    fn plus(&self, a: Interval<'c>, b: Interval<'c>) -> Option<Interval<'c>> {
        let ends = [0, 1].map(|i| self.gpu.plus(a.ends[i], b.ends[i]));
        bounded(Interval { ends, range: [a.range[0] + b.range[0], a.range[1] + b.range[1]] })
    }

    fn times(&self, a: Interval<'c>, by: i64) -> Option<Interval<'c>> {
        let [low, high] = a.ends.map(|x| self.gpu.times(x, by));
        let [least, most] = a.range.map(|x| x.checked_mul(by));
        let (least, most) = (least?, most?);
        bounded(match by {
            0.. => Interval { ends: [low, high], range: [least, most] },
            _ => Interval { ends: [high, low], range: [most, least] },
        })
    }

    fn sum(&self, offset: &Offset) -> Option<Interval<'c>> {
        let start = bounded(self.fixed(offset.constant))?;
        offset.terms.iter().try_fold(start, |sum, term| {
            let factor = match term.factor {
                Factor::Digit { var, divisor, modulus: 0 } => self.quotients(var, divisor)?,
                Factor::Tile(tile) => self.interval(tile)?,
                Factor::Digit { .. } | Factor::Scalar(_) => return None,
            };
            self.plus(sum, self.times(factor, term.coefficient)?)
        })
    }

    /// The positions of a tile, divided.
    fn quotients(&self, var: VarId, divisor: u64) -> Option<Interval<'c>> {
        let (gpu, declared) = (self.gpu, self.kernel.var(var));
        let first = self.firsts[var.0 as usize]?;
        let last = gpu.plus_constant(first, declared.tile as i64 - 1);
        let ends = [first, last].map(|x| gpu.quotient(x, divisor));
        let most = (declared.tiles() * declared.tile - 1) / divisor;
        bounded(Interval { ends, range: [0, most.cast_signed()] })
    }
}

fn bounded(of: Interval<'_>) -> Option<Interval<'_>> {
    of.range.iter().all(|x| x.abs() <= LIMIT).then_some(of)
}

/// What two together say, or the one of which something is known.
fn either_known<'c>(
    a: Option<Value<'c>>,
    b: Option<Value<'c>>,
    join: impl FnOnce(Value<'c>, Value<'c>) -> Value<'c>,
) -> Option<Value<'c>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(join(a, b)),
        (one, other) => one.or(other),
    }
}
