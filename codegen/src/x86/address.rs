//! Offsets as addresses: a scalar base plus what each lane adds to it.
//!
//! Tiles begin at multiples of the tile. So a digit `(var / divisor) mod modulus` is the digit of
//! the tile's first position plus a constant of each lane whenever the tile divides the divisor,
//! or divides `divisor · modulus`, or is a multiple of it. All other digits, and int tiles that
//! vary along the vector variable, are computed lane by lane.

use gigac_ir::kernel::{Factor, Offset, Term, VarId};
use inkwell::values::{InstructionOpcode, IntValue};

use super::emit::{Elem, Value};
use super::region::Region;
use super::tile::Coordinates;

/// Element offsets of the lanes of one access.
pub(super) struct Address<'c> {
    /// Common to all lanes.
    pub(super) base: IntValue<'c>,
    /// Added by each lane, known at compile time; the first one is 0.
    pub(super) fixed: Vec<i64>,
    /// Added by each lane, computed: i64.
    pub(super) computed: Option<Value<'c>>,
}

/// Lanes of one digit: a scalar and what each lane adds, or all computed (i64).
enum Digits<'c> {
    Split(IntValue<'c>, Vec<i64>),
    Computed(Value<'c>),
}

impl Address<'_> {
    /// The constant distance of neighbouring lanes, if there is one.
    pub(super) fn stride(&self) -> Option<i64> {
        let stride = self.fixed.get(1).copied().unwrap_or(0);
        let regular = || self.fixed.windows(2).all(|pair| pair[1] - pair[0] == stride);
        (self.computed.is_none() && regular()).then_some(stride)
    }
}

impl<'c> Region<'_, 'c> {
    /// The address of an access with `lanes` lanes at some coordinates.
    pub(super) fn address(&self, offset: &Offset, at: &Coordinates, lanes: u64) -> Address<'c> {
        let emit = self.emit;
        let mut base = emit.i64(offset.constant);
        let mut fixed = vec![0; lanes as usize];
        let mut computed: Option<Value<'c>> = None;
        for Term { coefficient, factor } in &offset.terms {
            match self.factor(factor, at, lanes) {
                Digits::Split(scalar, add) => {
                    base = emit.add(base, emit.mul(scalar, *coefficient));
                    fixed.iter_mut().zip(add).for_each(|(f, a)| *f += coefficient * a);
                }
                Digits::Computed(value) => {
                    let coefficient = emit.i64s(&vec![*coefficient; lanes as usize]);
                    let value = emit.binary(InstructionOpcode::Mul, value, coefficient);
                    computed = Some(match computed {
                        Some(sum) => emit.binary(InstructionOpcode::Add, sum, value),
                        None => value,
                    });
                }
            }
        }
        base = emit.add(base, emit.i64(fixed[0]));
        let first = fixed[0];
        fixed.iter_mut().for_each(|f| *f -= first);
        Address { base, fixed, computed }
    }

    fn factor(&self, factor: &Factor, at: &Coordinates, lanes: u64) -> Digits<'c> {
        let zeros = || vec![0; lanes as usize];
        match *factor {
            Factor::Scalar(scalar) => Digits::Split(self.frame.scalars[scalar as usize], zeros()),
            Factor::Tile(tile) => {
                let row = self.tile(tile).row(at);
                let value = row.lanes_or_scalar(self.emit, self.span(lanes));
                let wide = self.emit.cast(InstructionOpcode::SExt, value, Elem::I64);
                match wide {
                    Value::IntValue(scalar) => Digits::Split(scalar, zeros()),
                    vector => Digits::Computed(vector),
                }
            }
            Factor::Digit { var, divisor, modulus } => {
                let (from, _) = self.span(lanes);
                let of: Vec<u64> = match self.vectors.contains(&var) {
                    true => (from..from + lanes).collect(),
                    false => vec![lane_of(at, var); lanes as usize],
                };
                self.digit(var, divisor, modulus, &of)
            }
        }
    }

    /// The digit of some lanes of a variable.
    fn digit(&self, var: VarId, divisor: u64, modulus: u64, lanes: &[u64]) -> Digits<'c> {
        let emit = self.emit;
        let extent = self.kernel.var(var).extent;
        let reach = divisor.saturating_mul(modulus);
        let modulus = if reach >= extent { 0 } else { modulus };
        let (base, tile, single) = self.position(var);
        let of = |lane: u64| {
            (if modulus == 0 { lane / divisor } else { lane / divisor % modulus }) as i64
        };
        let fixed: Vec<i64> = lanes.iter().map(|lane| of(*lane)).collect();
        let scalar = |position| {
            let quotient = emit.div(position, divisor);
            if modulus == 0 { quotient } else { emit.rem(quotient, modulus) }
        };
        if single || modulus > 0 && tile.is_multiple_of(reach) {
            return Digits::Split(emit.i64(0), fixed);
        }
        // No carry between the digit of the tile's first position and that of the lane.
        let whole = tile.is_multiple_of(divisor) && (modulus == 0 || reach.is_multiple_of(tile));
        if divisor.is_multiple_of(tile) || whole {
            return Digits::Split(scalar(base), fixed);
        }
        let zeros = vec![0; lanes.len()];
        if lanes.iter().all(|lane| *lane == lanes[0]) {
            return Digits::Split(scalar(emit.add(base, emit.i64(lanes[0] as i64))), zeros);
        }
        Digits::Computed(self.computed_digit(base, divisor, modulus, lanes))
    }

    /// A digit lane by lane, in 32 bits where they suffice.
    fn computed_digit(
        &self,
        base: IntValue<'c>,
        divisor: u64,
        modulus: u64,
        lanes: &[u64],
    ) -> Value<'c> {
        use InstructionOpcode::{Add, Trunc, UDiv, URem, ZExt};
        let emit = self.emit;
        let offsets: Vec<i64> = lanes.iter().map(|lane| *lane as i64).collect();
        let count = lanes.len() as u64;
        let positions = emit.binary(Add, emit.splat(base.into(), count), emit.i64s(&offsets));
        let elem =
            if self.kernel.vars.iter().all(|v| v.extent < 1 << 31) { Elem::I32 } else { Elem::I64 };
        let positions = match elem {
            Elem::I32 => emit.cast(Trunc, positions, elem),
            _ => positions,
        };
        let mut digit = emit.binary(UDiv, positions, emit.bits(elem, divisor, count));
        if modulus > 0 {
            digit = emit.binary(URem, digit, emit.bits(elem, modulus, count));
        }
        if elem == Elem::I32 { emit.cast(ZExt, digit, Elem::I64) } else { digit }
    }
}

/// The lane of an unrolled variable.
fn lane_of(at: &Coordinates, var: VarId) -> u64 {
    at.iter().find(|(v, _)| *v == var).map_or(0, |(_, lane)| *lane)
}
