//! What is known of a mask over a whole tile, from a few scalar instructions.
//!
//! Every int of the mask's expression becomes the interval of the values that its lanes take,
//! every truth value a pair: whether some lane may hold, and whether all lanes do. Positions come
//! from where the tile begins and how long it is; ints in memory are looked through, one vector
//! after the other. What is not understood may hold and need not.

use gigac_ir::kernel::{Expr, Factor, Offset, Scalar, TileId, VarId};
use gigac_ir::pointwise::Pointwise;
use inkwell::IntPredicate;
use inkwell::values::{BasicValueEnum, IntValue};

use super::super::contraction::emit::sound;
use super::super::reduce::{combine, reduce_lanes};
use super::driver::Driver;
use gigac_ir::kernel::Reduction;

/// Smallest and largest value of a tile's lanes, as i64.
type Interval<'c> = (IntValue<'c>, IntValue<'c>);

/// What holds in a tile.
#[derive(Clone, Copy)]
pub(super) struct Holds<'c> {
    /// Some lane may hold.
    pub(super) somewhere: IntValue<'c>,
    /// All lanes hold.
    pub(super) everywhere: IntValue<'c>,
}

impl<'c> Driver<'_, 'c, '_, '_> {
    /// What is known of a truth value over the tile in hand.
    pub(super) fn holds(&self, value: TileId) -> Holds<'c> {
        let emit = self.emit;
        let bit = |b: bool| emit.context.bool_type().const_int(b.into(), false);
        let unknown = Holds { somewhere: bit(true), everywhere: bit(false) };
        match self.plan.program.exprs.get(&value) {
            Some(Expr::Bool(b)) => Holds { somewhere: bit(*b), everywhere: bit(*b) },
            Some(Expr::Pointwise(function, operands)) => {
                self.function(*function, operands).unwrap_or(unknown)
            }
            _ => unknown,
        }
    }

    fn function(&self, function: Pointwise, x: &[TileId]) -> Option<Holds<'c>> {
        let builder = &self.emit.builder;
        let and = |a, b| sound(builder.build_and(a, b, ""));
        let or = |a, b| sound(builder.build_or(a, b, ""));
        let not = |a| sound(builder.build_not(a, ""));
        let swap =
            |h: Holds<'c>| Holds { somewhere: not(h.everywhere), everywhere: not(h.somewhere) };
        let compare = |p, a, b| self.emit.compare(p, a, b);
        Some(match function {
            Pointwise::Not => swap(self.holds(x[0])),
            Pointwise::And | Pointwise::Or => {
                let (a, b) = (self.holds(x[0]), self.holds(x[1]));
                let join = |a, b| if function == Pointwise::And { and(a, b) } else { or(a, b) };
                Holds {
                    somewhere: join(a.somewhere, b.somewhere),
                    everywhere: join(a.everywhere, b.everywhere),
                }
            }
            Pointwise::Gt => return self.function(Pointwise::Lt, &[x[1], x[0]]),
            Pointwise::Ge => return self.function(Pointwise::Le, &[x[1], x[0]]),
            Pointwise::Ne => swap(self.function(Pointwise::Eq, x)?),
            Pointwise::Lt | Pointwise::Le => {
                let (a, b) = (self.interval(x[0])?, self.interval(x[1])?);
                let less =
                    if function == Pointwise::Lt { IntPredicate::SLT } else { IntPredicate::SLE };
                Holds { somewhere: compare(less, a.0, b.1), everywhere: compare(less, a.1, b.0) }
            }
            Pointwise::Eq => {
                let (a, b) = (self.interval(x[0])?, self.interval(x[1])?);
                let meet =
                    and(compare(IntPredicate::SLE, a.0, b.1), compare(IntPredicate::SLE, b.0, a.1));
                let one =
                    and(compare(IntPredicate::EQ, a.0, b.1), compare(IntPredicate::EQ, a.1, b.0));
                Holds { somewhere: meet, everywhere: one }
            }
            _ => return None,
        })
    }

    /// The values of an int over the tile in hand; none where they are not understood.
    fn interval(&self, value: TileId) -> Option<Interval<'c>> {
        if self.plan.program.scalar(value) != Scalar::I32 {
            return None;
        }
        let emit = self.emit;
        match self.plan.program.exprs.get(&value)? {
            Expr::Int(x) => {
                let x = emit.int(i64::from(*x));
                Some((x, x))
            }
            Expr::Index(offset) => self.offset(offset),
            Expr::Load { mask: None, .. } => self.looked_through(value),
            Expr::Pointwise(function, operands) => self.arithmetic(*function, operands),
            _ => None,
        }
    }

    fn arithmetic(&self, function: Pointwise, x: &[TileId]) -> Option<Interval<'c>> {
        let emit = self.emit;
        let (a, b) = (self.interval(x[0])?, || self.interval(x[1]));
        Some(match function {
            Pointwise::Stop => a,
            Pointwise::Neg => (emit.times(a.1, -1), emit.times(a.0, -1)),
            Pointwise::Add => sum(self, a, b()?),
            Pointwise::Sub => {
                let b = b()?;
                sum(self, a, (emit.times(b.1, -1), emit.times(b.0, -1)))
            }
            Pointwise::Mul => {
                let b = b()?;
                let product = |x, y| sound(emit.builder.build_int_mul(x, y, ""));
                let all = [(a.0, b.0), (a.0, b.1), (a.1, b.0), (a.1, b.1)];
                let all = all.map(|(x, y)| product(x, y));
                let pick = |least| all.into_iter().reduce(|x, y| self.pick(least, x, y));
                (pick(true)?, pick(false)?)
            }
            Pointwise::Min | Pointwise::Max => {
                let (b, least) = (b()?, function == Pointwise::Min);
                (self.pick(least, a.0, b.0), self.pick(least, a.1, b.1))
            }
            Pointwise::FloorDiv => match self.plan.program.exprs.get(&x[1])? {
                Expr::Int(by) if *by > 0 => (self.floored(a.0, *by), self.floored(a.1, *by)),
                _ => return None,
            },
            _ => return None,
        })
    }

    /// The smaller of two, or the larger one.
    fn pick(&self, least: bool, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        let less = self.emit.compare(IntPredicate::SLT, a, b);
        let (then, otherwise) = if least { (a, b) } else { (b, a) };
        sound(self.emit.builder.build_select(less, then, otherwise, "")).into_int_value()
    }

    /// `⌊a / by⌋`.
    fn floored(&self, a: IntValue<'c>, by: i32) -> IntValue<'c> {
        let (emit, by) = (self.emit, i64::from(by));
        let divisor = emit.int(by);
        let quotient = sound(emit.builder.build_int_signed_div(a, divisor, ""));
        let rest = emit.sub(a, emit.times(quotient, by));
        let below = emit.compare(IntPredicate::SLT, rest, emit.int(0));
        let lower = emit.sub(quotient, emit.int(1));
        sound(emit.builder.build_select(below, lower, quotient, "")).into_int_value()
    }

    fn offset(&self, offset: &Offset) -> Option<Interval<'c>> {
        let emit = self.emit;
        let start = emit.int(offset.constant);
        offset.terms.iter().try_fold((start, start), |all, term| {
            let (low, high) = match term.factor {
                Factor::Digit { var, divisor, modulus } => self.digit(var, divisor, modulus),
                Factor::Scalar(scalar) => {
                    let x = self.scalar(scalar);
                    (x, x)
                }
                Factor::Tile(tile) => self.interval(tile)?,
            };
            let ends = [low, high].map(|x| emit.times(x, term.coefficient));
            let ends = if term.coefficient < 0 { (ends[1], ends[0]) } else { (ends[0], ends[1]) };
            Some(sum(self, all, ends))
        })
    }

    /// The values of a digit: both ends, or all of them where the digit wraps in between.
    fn digit(&self, var: VarId, divisor: u64, modulus: u64) -> Interval<'c> {
        let emit = self.emit;
        let at = self.at(var);
        let last = emit.sub(emit.add(at.base, at.size), emit.int(1));
        let [low, high] = [at.base, last].map(|x| emit.over(x, divisor));
        if modulus == 0 {
            return (low, high);
        }
        let [a, b] = [low, high].map(|x| emit.over(x, modulus));
        let same = emit.compare(IntPredicate::EQ, a, b);
        let most = emit.int(modulus.cast_signed() - 1);
        let pick = |x, otherwise: IntValue<'c>| {
            let digit = emit.modulo(x, modulus);
            sound(emit.builder.build_select(same, digit, otherwise, "")).into_int_value()
        };
        (pick(low, emit.int(0)), pick(high, most))
    }

    /// The smallest and the largest of ints in memory along one variable.
    fn looked_through(&self, value: TileId) -> Option<Interval<'c>> {
        let emit = self.emit;
        let domain = self.plan.program.domain(value);
        let &[var] = &domain[..] else { return None };
        let lanes = u64::from(emit.lanes);
        let constant = |x: i32| emit.base.int(x, lanes);
        let start = [constant(i32::MIN), constant(i32::MIN)];
        let size = self.at(var).size;
        let found = emit.fold((emit.int(0), size), lanes, &start, |i, so_far| {
            let inside = emit.lanes_below(emit.sub(size, i));
            let lanewise = self.lanes(var, i, Some(inside), None);
            let ints: BasicValueEnum<'c> = self.evaluate(&lanewise, value).into();
            // Minus one less: the negation of every i32 is one, so the least becomes the greatest.
            let flipped = emit.base.binary(
                inkwell::values::InstructionOpcode::Xor,
                ints,
                emit.base.int(-1, lanes),
            );
            let masked = |x| emit.base.select(inside.into(), x, constant(i32::MIN));
            let pairs = so_far.into_iter().zip([masked(ints), masked(flipped)]);
            pairs.map(|(a, b)| combine(emit.base, Reduction::Max, a, b)).collect()
        });
        let wide = emit.context.i64_type();
        let ends = found.iter().map(|x| {
            let lane = reduce_lanes(emit.base, Reduction::Max, *x).into_int_value();
            sound(emit.builder.build_int_s_extend(lane, wide, ""))
        });
        let [high, flipped] = ends.collect::<Vec<_>>()[..] else { return None };
        let low = emit.sub(emit.times(flipped, -1), emit.int(1));
        Some((low, high))
    }
}

fn sum<'c>(driver: &Driver<'_, 'c, '_, '_>, a: Interval<'c>, b: Interval<'c>) -> Interval<'c> {
    (driver.emit.add(a.0, b.0), driver.emit.add(a.1, b.1))
}
