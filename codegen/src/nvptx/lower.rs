//! Statements of a tile program, for given spreads of its variables.

use std::collections::HashMap;
use std::rc::Rc;

use gigac_ir::kernel::{
    BufferId, Carry, Expr, Factor, Kernel, Offset, Scalar, Stmt, Storage, Term, TileId, VarId,
};
use gigac_ir::pointwise::Pointwise;
use inkwell::values::{FunctionValue, InstructionOpcode as Op, IntValue, PointerValue};

use super::exchange::Exchange;
use super::gpu::Gpu;
use super::layout::{Layout, Limit, Shape, Spread};
use crate::llvm::emit::{Elem, Value, built};
use crate::llvm::noise::noise;
use crate::llvm::pointwise::pointwise;

/// Why a kernel is not lowered.
pub(super) type Refusal = String;

/// The registers of a tile, in the order of its [`Shape`].
pub(super) type Tile<'c> = Rc<[Value<'c>]>;

/// What a kernel is called with.
pub(super) struct Frame<'c> {
    pub(super) function: FunctionValue<'c>,
    /// Addresses of buffers, by number.
    pub(super) buffers: Vec<PointerValue<'c>>,
    pub(super) scalars: Vec<IntValue<'c>>,
    pub(super) thread: IntValue<'c>,
    /// The number of the grid point.
    pub(super) point: IntValue<'c>,
    /// Threads of the block.
    pub(super) threads: u64,
    /// Bytes of shared memory that local buffers take, from its start.
    pub(super) local: u64,
}

/// A kernel under construction.
pub(super) struct Lowerer<'e, 'c> {
    pub(super) gpu: &'e Gpu<'c>,
    pub(super) kernel: &'e Kernel,
    pub(super) frame: &'e Frame<'c>,
    pub(super) layout: Layout<'c>,
    /// The first position of the tile in hand, by variable.
    pub(super) firsts: Vec<Option<IntValue<'c>>>,
    pub(super) values: Vec<Option<Tile<'c>>>,
    /// Values that are computed where they are first needed.
    pub(super) lazy: HashMap<TileId, &'e Expr>,
    /// Masks that hold where the builder stands.
    pub(super) held: Vec<TileId>,
    /// Which buffers threads pass elements to one another through.
    pub(super) exchange: Exchange,
    /// Where in shared memory reductions may write, and how much they have written.
    pub(super) scratch: (u64, u64),
    /// Loads of vectors that lie in shared memory already: along which variable, and where.
    pub(super) staged: HashMap<TileId, (VarId, PointerValue<'c>)>,
    /// Whether bits may differ from those of the CPU: the order of additions is another one anyway.
    pub(super) quick: bool,
}

impl<'e, 'c> Lowerer<'e, 'c> {
    /// A kernel in the middle of nothing: no variable has a position.
    pub(super) fn new(
        gpu: &'e Gpu<'c>,
        kernel: &'e Kernel,
        frame: &'e Frame<'c>,
        layout: Layout<'c>,
    ) -> Self {
        Self {
            gpu,
            kernel,
            frame,
            exchange: Exchange::of(kernel, &layout, frame.threads),
            layout,
            firsts: vec![None; kernel.vars.len()],
            values: vec![None; kernel.values.len()],
            lazy: HashMap::new(),
            held: Vec::new(),
            scratch: (frame.local, 0),
            staged: HashMap::new(),
            quick: false,
        }
    }

    /// The same point of the kernel in another layout, where nothing is computed yet.
    pub(super) fn another(&self, layout: Layout<'c>) -> Self {
        let mut other = Self::new(self.gpu, self.kernel, self.frame, layout);
        other.firsts = self.firsts.clone();
        other.lazy = self.lazy.clone();
        other.quick = self.quick;
        other
    }

    /// The place in its tile of one register along a variable.
    pub(super) fn in_tile(&self, var: VarId, register: usize) -> IntValue<'c> {
        let spread = self.layout.spread(var);
        let inside = spread.start + spread.registers[register];
        self.gpu.plus_constant(self.layout.of_thread(var), inside as i64)
    }

    /// Positions the grid's variables by the number of the block, the last one fastest.
    pub(super) fn place(&mut self) {
        let mut point = self.frame.point;
        let several = |v: &&VarId| self.kernel.var(**v).tiles() > 1;
        let outermost = self.kernel.grid.iter().find(several);
        for var in self.kernel.grid.iter().rev() {
            let declared = self.kernel.var(*var);
            let first = match declared.tiles() {
                1 => self.gpu.i32(0),
                _ if Some(var) == outermost => self.gpu.times(point, declared.tile as i64),
                tiles => {
                    let digit = self.gpu.remainder(point, tiles);
                    point = self.gpu.quotient(point, tiles);
                    self.gpu.times(digit, declared.tile as i64)
                }
            };
            self.firsts[var.0 as usize] = Some(first);
        }
    }

    pub(super) fn block(&mut self, body: &'e [Stmt]) -> Result<(), Refusal> {
        body.iter().try_for_each(|stmt| match stmt {
            Stmt::Let(value, expr) => {
                let tile = self.expr(*value, expr)?;
                self.values[value.0 as usize] = Some(tile);
                Ok(())
            }
            Stmt::Loop { var, carried, body } => self.looped(*var, carried, body),
            // A promise that parts of the turn change nothing; all of it may be computed.
            Stmt::When(_) => Ok(()),
            Stmt::Store { buffer, offset, value, mask, accumulate } => {
                self.store(*buffer, offset, *value, *mask, *accumulate)
            }
        })
    }

    /// The registers of a value.
    pub(super) fn value(&mut self, value: TileId) -> Result<Tile<'c>, Refusal> {
        if let Some(tile) = &self.values[value.0 as usize] {
            return Ok(tile.clone());
        }
        let Some(expr) = self.lazy.get(&value).copied() else {
            return Err(format!("{value} is used where the lowering does not have it"));
        };
        let tile = self.expr(value, expr)?;
        self.values[value.0 as usize] = Some(tile.clone());
        Ok(tile)
    }

    pub(super) fn shape(&self, value: TileId) -> Shape {
        self.layout.shape(&self.kernel.ty(value).vars)
    }

    /// The registers of values, to be read at coordinates of a shape.
    pub(super) fn operands(&mut self, of: &[TileId]) -> Result<Vec<(Tile<'c>, Shape)>, Refusal> {
        of.iter().map(|v| Ok((self.value(*v)?, self.shape(*v)))).collect()
    }

    fn expr(&mut self, value: TileId, expr: &Expr) -> Result<Tile<'c>, Refusal> {
        let shape = self.shape(value);
        let fill = |x: Value<'c>| Ok(vec![x; shape.count()].into());
        match expr {
            Expr::Real(x) => fill(self.gpu.real(*x as f32, 1)),
            Expr::Int(x) => fill(self.gpu.int(*x, 1)),
            Expr::Bool(x) => fill(self.gpu.bool(*x, 1)),
            Expr::Index(offset) => self.index(offset, &shape),
            Expr::Load { buffer, offset, mask } => match self.staged.get(&value) {
                Some(from) => {
                    let storage = self.kernel.buffers[buffer.0 as usize].storage;
                    Ok(self.read_vector(storage, *from, &shape))
                }
                None => self.load(*buffer, offset, *mask, &shape),
            },
            Expr::Pointwise(function, of) => self.pointwise(*function, of, &shape),
            Expr::Reduce(reduction, of, var) => self.reduce(*reduction, *of, *var, &shape),
            Expr::Noise { key, counter } => self.noise(*key, counter, &shape),
            Expr::Dot(..) => Err(format!("{value} is a product outside of the pattern")),
        }
    }

    fn pointwise(
        &mut self,
        function: Pointwise,
        of: &[TileId],
        shape: &Shape,
    ) -> Result<Tile<'c>, Refusal> {
        if self.quick
            && let Some(tile) = self.quickly(function, of, shape)?
        {
            return Ok(tile);
        }
        let last = of.last().expect("pointwise functions have operands");
        let scalar = self.kernel.ty(*last).scalar;
        let operands = self.operands(of)?;
        let apply = |at: Vec<usize>| {
            let at = |(tile, own): &(Tile<'c>, Shape)| tile[own.index(shape, &at)];
            let x: Vec<Value> = operands.iter().map(at).collect();
            match function {
                Pointwise::Bf16 => self.round(x[0]),
                _ => pointwise(self.gpu, function, scalar, &x),
            }
        };
        Ok(shape.all().map(apply).collect())
    }

    /// The nearest bf16.
    fn round(&self, x: Value<'c>) -> Value<'c> {
        let bits = self.gpu.cast(Op::ZExt, self.gpu.bf16_bits(x), Elem::I32);
        let high = self.gpu.shift(bits.into_int_value(), 16);
        self.gpu.cast(Op::BitCast, high.into(), Elem::F32)
    }

    fn noise(&mut self, key: u32, counter: &[TileId], shape: &Shape) -> Result<Tile<'c>, Refusal> {
        let words = self.operands(counter)?;
        let draw = |at: Vec<usize>| {
            let word = |i: usize| match words.get(i) {
                Some((tile, own)) => tile[own.index(shape, &at)],
                None => self.gpu.int(0, 1),
            };
            let key = [word(0), self.gpu.int(key as i32, 1)];
            noise(self.gpu, key, [word(1), word(2), word(3), word(4)])
        };
        Ok(shape.all().map(draw).collect())
    }

    // Positions.

    /// The position along a variable of one register.
    pub(super) fn position(&self, var: VarId, register: usize) -> IntValue<'c> {
        let first =
            self.firsts[var.0 as usize].expect("offsets name variables that have positions");
        self.gpu.plus(first, self.in_tile(var, register))
    }

    /// Whether the position of a register exists; none when it always does. A variable without
    /// a position is limited by its tile.
    pub(super) fn exists(&self, var: VarId, register: usize) -> Option<Value<'c>> {
        let spread = self.layout.spread(var);
        let first = self.firsts[var.0 as usize];
        let limit = match (Limit::of(self.kernel, var, spread), first) {
            (Limit::None, _) => return None,
            (Limit::Fixed(limit), _) => self.gpu.i32(limit),
            (Limit::Ragged { tile, .. }, None) if spread.span() <= tile => return None,
            (Limit::Ragged { tile, .. }, None) => self.gpu.i32(tile),
            (Limit::Ragged { tile, extent }, Some(first)) => {
                let rest = self.gpu.sub(self.gpu.i32(extent), first);
                self.gpu.min(rest, self.gpu.i32(tile))
            }
        };
        Some(self.gpu.below(self.in_tile(var, register), limit))
    }

    /// Whether the positions of a register along all variables of a shape exist.
    pub(super) fn inside(&self, shape: &Shape, at: &[usize]) -> Option<Value<'c>> {
        let along = shape.vars.iter().zip(at);
        along.filter_map(|(v, r)| self.exists(*v, *r)).reduce(|a, b| self.gpu.both(a, b))
    }

    fn index(&mut self, offset: &Offset, shape: &Shape) -> Result<Tile<'c>, Refusal> {
        let tiles = self.operands(&offset.tiles())?;
        let gpu = self.gpu;
        let element = |at: Vec<usize>| {
            let mut tiles = tiles.iter();
            let constant = gpu.context.i32_type().const_int(offset.constant as i32 as u64, true);
            let sum = offset.terms.iter().fold(constant, |sum, Term { coefficient, factor }| {
                let factor = match *factor {
                    Factor::Scalar(scalar) => self.frame.scalars[scalar as usize],
                    Factor::Tile(_) => {
                        let (tile, own) = tiles.next().expect("one value per tile factor");
                        tile[own.index(shape, &at)].into_int_value()
                    }
                    Factor::Digit { var, divisor, modulus } => {
                        let position = self.position(var, shape.along(&at, var));
                        self.digit(position, divisor, modulus)
                    }
                };
                gpu.plus(sum, gpu.times(factor, i64::from(*coefficient as i32)))
            });
            sum.into()
        };
        Ok(shape.all().map(element).collect())
    }

    pub(super) fn digit(&self, of: IntValue<'c>, divisor: u64, modulus: u64) -> IntValue<'c> {
        let quotient = self.gpu.quotient(of, divisor);
        if modulus == 0 { quotient } else { self.gpu.remainder(quotient, modulus) }
    }

    // Loops.

    fn looped(&mut self, var: VarId, carried: &[Carry], body: &'e [Stmt]) -> Result<(), Refusal> {
        let mut entering = Vec::new();
        for carry in carried {
            let (init, own) = (self.value(carry.init)?, self.shape(carry.init));
            let shape = self.shape(carry.arg);
            entering.extend(shape.all().map(|at| init[own.index(&shape, &at)]));
        }
        let declared = self.kernel.var(var);
        let turns = (declared.tiles(), declared.tile);
        let leaving = self.counted(turns, &entering, |s, first, values| {
            s.firsts[var.0 as usize] = Some(first);
            s.distribute(carried.iter().map(|c| c.arg), values);
            s.turn(carried, body)?;
            let mut next = Vec::new();
            for carry in carried {
                next.extend(s.next(carry)?);
            }
            s.firsts[var.0 as usize] = None;
            Ok(next)
        })?;
        self.distribute(carried.iter().map(|c| c.result), &leaving);
        Ok(())
    }

    /// One turn of a loop. When all threads agree that the rest of it changes nothing, and nothing of
    /// it is carried on, they leave it out.
    fn turn(&mut self, carried: &[Carry], body: &'e [Stmt]) -> Result<(), Refusal> {
        let agreed = |stmt: &Stmt| match stmt {
            Stmt::When(mask) if carried.is_empty() && self.is_uniform(*mask) => Some(*mask),
            _ => None,
        };
        let found = body.iter().enumerate().find_map(|(i, stmt)| Some((i, agreed(stmt)?)));
        let Some((place, mask)) = found else { return self.block(body) };
        self.block(&body[..place])?;
        let holds = self.value(mask)?[0];
        let (then, join) = (self.gpu.block("then"), self.gpu.block("join"));
        self.gpu.branch(holds, then, join);
        self.gpu.enter(then);
        self.held.push(mask);
        self.block(&body[place..])?;
        self.held.pop();
        self.gpu.jump(join);
        self.gpu.enter(join);
        Ok(())
    }

    /// Whether a value is one number, the same in all threads.
    fn is_uniform(&self, value: TileId) -> bool {
        let single = |var: &VarId| *self.layout.spread(*var) == Spread::single();
        self.kernel.ty(value).vars.iter().all(single)
    }

    /// Gives values their registers, one after the other.
    pub(super) fn distribute(
        &mut self,
        values: impl Iterator<Item = TileId>,
        mut registers: &[Value<'c>],
    ) {
        for value in values {
            let (own, rest) = registers.split_at(self.shape(value).count());
            self.values[value.0 as usize] = Some(own.into());
            registers = rest;
        }
    }

    /// What a carry takes into the next turn: positions that do not exist keep what they had.
    fn next(&mut self, carry: &Carry) -> Result<Vec<Value<'c>>, Refusal> {
        let (next, own) = (self.value(carry.next)?, self.shape(carry.next));
        let (before, shape) = (self.value(carry.arg)?, self.shape(carry.arg));
        let pick = |(at, before): (Vec<usize>, &Value<'c>)| {
            let next = next[own.index(&shape, &at)];
            match self.inside(&shape, &at) {
                Some(inside) => self.gpu.select(inside, next, *before),
                None => next,
            }
        };
        Ok(shape.all().zip(before.iter()).map(pick).collect())
    }

    /// Runs `body` for the first positions of so many tiles, carrying values.
    pub(super) fn counted(
        &mut self,
        (turns, step): (u64, u64),
        entering: &[Value<'c>],
        body: impl FnOnce(&mut Self, IntValue<'c>, &[Value<'c>]) -> Result<Vec<Value<'c>>, Refusal>,
    ) -> Result<Vec<Value<'c>>, Refusal> {
        if turns == 1 {
            return body(self, self.gpu.i32(0), entering);
        }
        self.until(self.gpu.i32(turns * step), step, entering, body)
    }

    /// Runs `body` for `0, step, 2·step …` below a limit that is not 0, carrying values.
    pub(super) fn until(
        &mut self,
        limit: IntValue<'c>,
        step: u64,
        entering: &[Value<'c>],
        body: impl FnOnce(&mut Self, IntValue<'c>, &[Value<'c>]) -> Result<Vec<Value<'c>>, Refusal>,
    ) -> Result<Vec<Value<'c>>, Refusal> {
        let gpu = self.gpu;
        let (before, head, exit) = (gpu.here(), gpu.block("loop"), gpu.block("done"));
        gpu.jump(head);
        gpu.enter(head);
        let first = gpu.phi(gpu.elem_type(Elem::I32));
        let phis: Vec<_> = entering.iter().map(|value| gpu.phi(value.get_type())).collect();
        let values: Vec<_> = phis.iter().map(|phi| phi.as_basic_value()).collect();
        let index = first.as_basic_value().into_int_value();
        let leaving = body(self, index, &values)?;
        let next = gpu.plus_constant(index, step as i64);
        let more = gpu.below(next, limit);
        let last = gpu.here();
        gpu.branch(more, head, exit);
        first.add_incoming(&[(&gpu.i32(0), before), (&next, last)]);
        for ((phi, enters), leaves) in phis.iter().zip(entering).zip(&leaving) {
            phi.add_incoming(&[(enters, before), (leaves, last)]);
        }
        gpu.enter(exit);
        Ok(leaving)
    }

    // Memory.

    /// The part of an element offset that all registers share, in 64 bits: whole variables at
    /// their first positions, and scalars.
    pub(super) fn shared_offset(&self, offset: &Offset) -> IntValue<'c> {
        self.gpu.widen_position(self.narrow_offset(offset))
    }

    /// [`Self::shared_offset`] in 32 bits where all offsets fit, so that constants can be added there.
    pub(super) fn narrow_offset(&self, offset: &Offset) -> IntValue<'c> {
        let gpu = self.gpu;
        // Offsets that the verifier has bounded fit 32 bits, where multiplication is cheap.
        let narrow = offset.range(self.kernel).is_some_and(|(low, high)| {
            let reach = offset.terms.iter().map(|t| t.coefficient);
            low >= 0 && high < 1 << 30 && reach.min().unwrap_or(0) >= 0
        });
        let widen = |x: IntValue<'c>| if narrow { x } else { gpu.widen_int(x) };
        let mut sum: Option<IntValue<'c>> = None;
        for Term { coefficient, factor } in &offset.terms {
            let factor = match *factor {
                Factor::Digit { var, divisor: 1, modulus: 0 } => {
                    let first = self.firsts[var.0 as usize];
                    let first = first.expect("offsets name variables that have positions");
                    gpu.plus(first, self.layout.of_thread(var))
                }
                Factor::Scalar(scalar) => self.frame.scalars[scalar as usize],
                Factor::Digit { .. } | Factor::Tile(_) => continue,
            };
            let part = gpu.times(widen(factor), *coefficient);
            sum = Some(sum.map_or(part, |sum| gpu.plus(sum, part)));
        }
        sum.unwrap_or_else(|| gpu.i64(0))
    }

    /// The element offset of a register in 64 bits, as what is computed and what is constant.
    pub(super) fn element(
        &mut self,
        shared: IntValue<'c>,
        offset: &Offset,
        (shape, at): (&Shape, &[usize]),
    ) -> Result<(IntValue<'c>, i64), Refusal> {
        let gpu = self.gpu;
        let (mut sum, mut constant) = (shared, offset.constant);
        for Term { coefficient, factor } in &offset.terms {
            let part = match *factor {
                Factor::Digit { var, divisor: 1, modulus: 0 } => {
                    let spread = self.layout.spread(var);
                    let register = spread.registers[shape.along(at, var)];
                    constant += coefficient * (spread.start + register) as i64;
                    continue;
                }
                Factor::Scalar(_) => continue,
                Factor::Digit { var, divisor, modulus } => {
                    let position = self.position(var, shape.along(at, var));
                    gpu.widen_position(self.digit(position, divisor, modulus))
                }
                Factor::Tile(value) => {
                    let (tile, own) = (self.value(value)?, self.shape(value));
                    gpu.widen_int(tile[own.index(shape, at)].into_int_value())
                }
            };
            sum = gpu.plus(sum, gpu.times(part, *coefficient));
        }
        Ok((sum, constant))
    }

    /// The address of an element.
    pub(super) fn address(
        &self,
        buffer: BufferId,
        (offset, constant): (IntValue<'c>, i64),
    ) -> PointerValue<'c> {
        let base = self.frame.buffers[buffer.0 as usize];
        let bytes = self.kernel.buffers[buffer.0 as usize].storage.bytes() as i64;
        let at = self.gpu.bytes(base, self.gpu.times(offset, bytes));
        if constant == 0 { at } else { self.gpu.bytes(at, self.gpu.i64(constant * bytes)) }
    }

    /// Whether a buffer is only read, so that any of its elements may be read at any time.
    pub(super) fn is_constant(&self, buffer: BufferId) -> bool {
        !self.exchange.changes(buffer)
    }
}

/// What an element of a storage type is in registers.
pub(super) fn zero<'c>(gpu: &Gpu<'c>, storage: Storage) -> Value<'c> {
    match scalar_of(storage) {
        Scalar::F32 => gpu.real(0.0, 1),
        Scalar::I32 => gpu.int(0, 1),
        Scalar::Bool => gpu.bool(false, 1),
    }
}

fn scalar_of(storage: Storage) -> Scalar {
    match storage {
        Storage::F32 | Storage::Bf16 => Scalar::F32,
        Storage::I32 => Scalar::I32,
        Storage::Bool => Scalar::Bool,
    }
}

impl<'c> Lowerer<'_, 'c> {
    /// Runs `body`, which gives values, where a condition holds; elsewhere these are zero.
    pub(super) fn where_holds(
        &self,
        condition: Value<'c>,
        zero: Value<'c>,
        body: impl FnOnce() -> Vec<Value<'c>>,
    ) -> Vec<Value<'c>> {
        let gpu = self.gpu;
        let (before, then, join) = (gpu.here(), gpu.block("then"), gpu.block("join"));
        gpu.branch(condition, then, join);
        gpu.enter(then);
        let values = body();
        let last = gpu.here();
        gpu.jump(join);
        gpu.enter(join);
        let merge = |value: &Value<'c>| {
            let phi = built(gpu.builder.build_phi(value.get_type(), ""));
            phi.add_incoming(&[(&zero, before), (value, last)]);
            phi.as_basic_value()
        };
        values.iter().map(merge).collect()
    }
}
