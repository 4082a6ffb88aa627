//! The reference interpreter: runs a verified kernel lane by lane.
//!
//! Numbers are kept as f64, which holds every f32, bf16, i32 and bool exactly. In
//! [`Arithmetic::F32`] each operation rounds to f32: for `+ − × ÷ √` of f32 operands rounding the
//! f64 result gives the correctly rounded f32; other functions are the f64 value rounded. `Dot`
//! adds by fused multiply-add in ascending order from zero; `sum` adds in ascending order.

use std::collections::BTreeMap;
use std::rc::Rc;

use thiserror::Error;

use super::{
    Access, BufferId, Carry, Expr, Factor, Kernel, Offset, Reduction, Scalar, Stmt, Storage,
    TileId, VarId,
};
use crate::philox;
use crate::pointwise::Pointwise;

/// How the interpreter rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// As the kernel says: f32, and bf16 where it is stored.
    F32,
    /// To bf16 where the kernel says so; f64 throughout else, also in memory.
    F64,
}

/// Why a kernel could not be interpreted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InterpretError {
    /// The arguments do not match the kernel's buffers or scalars.
    #[error("argument {0}: wrong number of elements, or missing")]
    Argument(usize),
    /// An access outside a buffer, through a scalar, gather or scatter.
    #[error("`{buffer}`: offset {offset} is outside")]
    Bounds {
        /// The buffer.
        buffer: String,
        /// The offset.
        offset: i64,
    },
}

/// Memory that a kernel runs over.
trait Memory {
    fn elements(&self) -> u64;
    fn get(&self, at: usize) -> f64;
    fn set(&mut self, at: usize, number: f64);
}

impl Memory for Vec<f64> {
    fn elements(&self) -> u64 {
        self.len() as u64
    }

    fn get(&self, at: usize) -> f64 {
        self[at]
    }

    fn set(&mut self, at: usize, number: f64) {
        self[at] = number;
    }
}

/// A buffer too large to be held: what is in it at first is computed, and what is written is kept.
pub struct Sparse<'f> {
    /// Number of elements.
    pub elements: u64,
    /// The content before the launch.
    pub initial: &'f dyn Fn(u64) -> f64,
    /// What was written.
    pub written: BTreeMap<u64, f64>,
}

impl Memory for Sparse<'_> {
    fn elements(&self) -> u64 {
        self.elements
    }

    fn get(&self, at: usize) -> f64 {
        let at = at as u64;
        self.written.get(&at).copied().unwrap_or_else(|| (self.initial)(at))
    }

    fn set(&mut self, at: usize, number: f64) {
        self.written.insert(at as u64, number);
    }
}

impl Kernel {
    /// Runs all grid points. `arguments` are the contents of all but local buffers, in order.
    ///
    /// # Errors
    /// Arguments that do not fit and accesses out of bounds.
    pub fn interpret(
        &self,
        arguments: &mut [Vec<f64>],
        scalars: &[i64],
        arithmetic: Arithmetic,
    ) -> Result<(), InterpretError> {
        let apart: Vec<usize> = (0..arguments.len()).collect();
        self.interpret_over(arguments, &apart, scalars, arithmetic)
    }

    /// Runs all grid points with arguments that are the same memory: argument `i` is memory
    /// `over[i]` of `memory`.
    ///
    /// # Errors
    /// Arguments that do not fit and accesses out of bounds.
    pub fn interpret_over(
        &self,
        memory: &mut [Vec<f64>],
        over: &[usize],
        scalars: &[i64],
        arithmetic: Arithmetic,
    ) -> Result<(), InterpretError> {
        let memory = memory.iter_mut().map(|m| m as &mut dyn Memory).collect();
        self.interpret_in(memory, over, scalars, arithmetic, 0..self.grid_points())
    }

    /// Runs some grid points. `arguments` are the contents of all but local buffers, in order.
    ///
    /// # Errors
    /// Arguments that do not fit and accesses out of bounds.
    pub fn interpret_points(
        &self,
        points: &[u64],
        arguments: &mut [Sparse<'_>],
        scalars: &[i64],
        arithmetic: Arithmetic,
    ) -> Result<(), InterpretError> {
        let apart: Vec<usize> = (0..arguments.len()).collect();
        let memory = arguments.iter_mut().map(|m| m as &mut dyn Memory).collect();
        self.interpret_in(memory, &apart, scalars, arithmetic, points.iter().copied())
    }

    fn interpret_in(
        &self,
        arguments: Vec<&mut dyn Memory>,
        over: &[usize],
        scalars: &[i64],
        arithmetic: Arithmetic,
        mut points: impl Iterator<Item = u64>,
    ) -> Result<(), InterpretError> {
        let is_local = |access| access == Access::Local;
        let declared: Vec<_> = self.buffers.iter().filter(|b| !is_local(b.access)).collect();
        let lengths = |i: usize| Some(arguments.get(*over.get(i)?)?.elements());
        if let Some(i) = (0..declared.len()).find(|i| lengths(*i) != Some(declared[*i].elements)) {
            return Err(InterpretError::Argument(i));
        }
        if scalars.len() != self.scalars.len() {
            return Err(InterpretError::Argument(declared.len()));
        }
        let local = self.buffers.iter().filter(|b| is_local(b.access));
        let mut locals: Vec<_> = local.map(|b| vec![0.0; b.elements as usize]).collect();
        let (mut given, mut own) = (over.iter().copied(), arguments.len()..);
        let of = self.buffers.iter().map(|buffer| match is_local(buffer.access) {
            true => own.next().expect("a range without an end"),
            false => given.next().expect("arguments were counted"),
        });
        let of = of.collect();
        let mut memory: Vec<_> = arguments.into_iter().map(|m| m as &mut dyn Memory).collect();
        memory.extend(locals.iter_mut().map(|m| m as &mut dyn Memory));
        let mut machine = Machine {
            kernel: self,
            memory,
            of,
            scalars,
            arithmetic,
            positions: vec![None; self.vars.len()],
            values: self.values.iter().map(|_| Rc::default()).collect(),
        };
        points.try_for_each(|point| machine.point(point))
    }
}

/// The lanes of a value: row-major along its variables, `tile` lanes each.
type Tile = Rc<Vec<f64>>;

struct Machine<'k, 'm> {
    kernel: &'k Kernel,
    memory: Vec<&'m mut dyn Memory>,
    /// The memory of each buffer.
    of: Vec<usize>,
    scalars: &'k [i64],
    arithmetic: Arithmetic,
    /// First position of the tile in hand, per variable.
    positions: Vec<Option<u64>>,
    values: Vec<Tile>,
}

impl Machine<'_, '_> {
    fn point(&mut self, mut point: u64) -> Result<(), InterpretError> {
        for var in self.kernel.grid.iter().rev() {
            let declared = self.kernel.var(*var);
            self.positions[var.0 as usize] = Some(point % declared.tiles() * declared.tile);
            point /= declared.tiles();
        }
        self.block(&self.kernel.body)
    }

    fn block(&mut self, body: &[Stmt]) -> Result<(), InterpretError> {
        body.iter().try_for_each(|stmt| match stmt {
            Stmt::Let(value, expr) => {
                let tile = self.expr(*value, expr)?;
                self.values[value.0 as usize] = Rc::new(tile);
                Ok(())
            }
            Stmt::Loop { var, carried, body } => self.looped(*var, carried, body),
            Stmt::When(_) => Ok(()),
            Stmt::Store { buffer, offset, value, mask, accumulate } => {
                self.store(*buffer, offset, *value, *mask, *accumulate)
            }
        })
    }

    fn looped(
        &mut self,
        var: VarId,
        carried: &[Carry],
        body: &[Stmt],
    ) -> Result<(), InterpretError> {
        for carry in carried {
            self.values[carry.arg.0 as usize] = self.spread(carry.init, carry.arg);
        }
        let declared = self.kernel.var(var);
        for turn in 0..declared.tiles() {
            self.positions[var.0 as usize] = Some(turn * declared.tile);
            self.block(body)?;
            let next: Vec<Tile> = carried.iter().map(|c| self.next(c, var)).collect();
            for (carry, next) in carried.iter().zip(next) {
                self.values[carry.arg.0 as usize] = next;
            }
        }
        self.positions[var.0 as usize] = None;
        for carry in carried {
            self.values[carry.result.0 as usize] = self.values[carry.arg.0 as usize].clone();
        }
        Ok(())
    }

    /// A value with the lanes of another one's type.
    fn spread(&self, value: TileId, like: TileId) -> Tile {
        let lanes = self.lanes(&self.kernel.ty(like).vars);
        let strides = lanes.strides(self, value);
        Rc::new(lanes.all().map(|lane| self.lane(value, &strides, &lane)).collect())
    }

    /// What a carry's argument becomes: lanes past the extent of the loop keep their value.
    fn next(&self, carry: &Carry, var: VarId) -> Tile {
        let lanes = self.lanes(&self.kernel.ty(carry.arg).vars);
        let (next, arg) = (lanes.strides(self, carry.next), lanes.strides(self, carry.arg));
        let at = lanes.vars.iter().position(|v| *v == var);
        let runs = |lane: &[u64]| at.is_none_or(|at| self.runs(var, lane[at]));
        Rc::new(
            lanes
                .all()
                .map(|lane| match runs(&lane) {
                    true => self.lane(carry.next, &next, &lane),
                    false => self.lane(carry.arg, &arg, &lane),
                })
                .collect(),
        )
    }

    /// Whether a lane of a variable is within the extent; outside the variable's loop, whether it
    /// was in the loop's first turn.
    fn runs(&self, var: VarId, lane: u64) -> bool {
        self.positions[var.0 as usize].unwrap_or(0) + lane < self.kernel.var(var).extent
    }

    fn lanes(&self, vars: &[VarId]) -> Lanes {
        Lanes {
            vars: vars.to_vec(),
            sizes: vars.iter().map(|v| self.kernel.var(*v).tile).collect(),
        }
    }

    fn lane(&self, value: TileId, strides: &[u64], lane: &[u64]) -> f64 {
        let at: u64 = strides.iter().zip(lane).map(|(s, l)| s * l).sum();
        self.values[value.0 as usize][at as usize]
    }

    fn expr(&self, value: TileId, expr: &Expr) -> Result<Vec<f64>, InterpretError> {
        match expr {
            Expr::Reduce(reduction, operand, var) => {
                Ok(self.reduce(value, *reduction, *operand, *var))
            }
            Expr::Dot(a, b, var) => Ok(self.dot(value, *a, *b, *var)),
            _ => self.lanewise(value, expr),
        }
    }

    /// Expressions that compute each lane by itself. Lanes past an extent become zero.
    fn lanewise(&self, value: TileId, expr: &Expr) -> Result<Vec<f64>, InterpretError> {
        let lanes = self.lanes(&self.kernel.ty(value).vars);
        let access = |operands: &[TileId]| -> Vec<(TileId, Vec<u64>)> {
            operands.iter().map(|o| (*o, lanes.strides(self, *o))).collect()
        };
        let operands = match expr {
            Expr::Pointwise(_, operands) | Expr::Noise { counter: operands, .. } => {
                access(operands)
            }
            Expr::Load { mask, .. } => access(&mask.iter().copied().collect::<Vec<_>>()),
            _ => Vec::new(),
        };
        let tiles = match expr {
            Expr::Load { offset, .. } | Expr::Index(offset) => access(&offset.tiles()),
            _ => Vec::new(),
        };
        let read = |accesses: &[(TileId, Vec<u64>)], lane: &[u64]| -> Vec<f64> {
            accesses.iter().map(|(value, strides)| self.lane(*value, strides, lane)).collect()
        };
        lanes
            .all()
            .map(|lane| {
                if !lanes.vars.iter().zip(&lane).all(|(var, lane)| self.runs(*var, *lane)) {
                    return Ok(0.0);
                }
                let operands = read(&operands, &lane);
                Ok(match expr {
                    Expr::Real(x) => self.round(*x),
                    Expr::Int(x) => f64::from(*x),
                    Expr::Bool(x) => f64::from(*x),
                    Expr::Index(offset) => {
                        f64::from(self.offset(offset, &lanes, &lane, &read(&tiles, &lane)) as i32)
                    }
                    Expr::Load { .. } if operands == [0.0] => 0.0,
                    Expr::Load { buffer, offset, .. } => {
                        let at = self.offset(offset, &lanes, &lane, &read(&tiles, &lane));
                        self.memory[self.of[buffer.0 as usize]].get(self.element(*buffer, at)?)
                    }
                    Expr::Pointwise(op, _) => self.pointwise(value, *op, &operands),
                    Expr::Noise { key, .. } => self.noise(*key, &operands),
                    Expr::Reduce(..) | Expr::Dot(..) => panic!("reductions are not lanewise"),
                })
            })
            .collect()
    }

    fn round(&self, x: f64) -> f64 {
        match self.arithmetic {
            Arithmetic::F32 => f64::from(x as f32),
            Arithmetic::F64 => x,
        }
    }

    fn pointwise(&self, value: TileId, op: Pointwise, operands: &[f64]) -> f64 {
        match self.kernel.ty(value).scalar {
            Scalar::F32 => self.round((op.def().eval)(operands)),
            Scalar::I32 => f64::from(integer(op, operands)),
            Scalar::Bool => (op.def().eval)(operands),
        }
    }

    fn noise(&self, key: u32, counter: &[f64]) -> f64 {
        let mut words = [0; 5];
        words.iter_mut().zip(counter).for_each(|(word, x)| *word = *x as i64 as u32);
        let [seed, counter @ ..] = words;
        philox::uniform(philox::philox([seed, key], counter)[0])
    }

    /// The element offset of a lane; `tiles` are the values of the tile factors, in order.
    fn offset(&self, offset: &Offset, lanes: &Lanes, lane: &[u64], tiles: &[f64]) -> i64 {
        let mut tiles = tiles.iter();
        let mut at = offset.constant;
        for term in &offset.terms {
            let factor = match term.factor {
                Factor::Digit { var, divisor, modulus } => {
                    let lane = lanes.vars.iter().position(|v| *v == var).map_or(0, |i| lane[i]);
                    let digit = (self.positions[var.0 as usize].unwrap_or(0) + lane) / divisor;
                    (if modulus == 0 { digit } else { digit % modulus }) as i64
                }
                Factor::Scalar(scalar) => self.scalars[scalar as usize],
                Factor::Tile(_) => *tiles.next().expect("one value per tile factor") as i64,
            };
            at = at.wrapping_add(term.coefficient.wrapping_mul(factor));
        }
        at
    }

    fn element(&self, buffer: BufferId, offset: i64) -> Result<usize, InterpretError> {
        let declared = &self.kernel.buffers[buffer.0 as usize];
        match u64::try_from(offset) {
            Ok(at) if at < declared.elements => Ok(at as usize),
            _ => Err(InterpretError::Bounds { buffer: declared.name.clone(), offset }),
        }
    }

    fn reduce(&self, value: TileId, reduction: Reduction, operand: TileId, var: VarId) -> Vec<f64> {
        let lanes = self.lanes(&self.kernel.ty(value).vars);
        let strides = lanes.strides(self, operand);
        let step = self.stride(operand, var);
        let source = &self.values[operand.0 as usize];
        let count = (0..self.kernel.var(var).tile).take_while(|lane| self.runs(var, *lane)).count();
        let ints = self.kernel.ty(value).scalar == Scalar::I32;
        let fold = |start: u64| {
            let elements = (0..count as u64).map(|i| source[(start + i * step) as usize]);
            match reduction {
                Reduction::Sum if ints => {
                    elements.fold(0.0, |a, b| f64::from(integer(Pointwise::Add, &[a, b])))
                }
                Reduction::Max if ints => elements.fold(f64::from(i32::MIN), greater),
                Reduction::Sum => elements.fold(0.0, |sum, x| self.round(sum + x)),
                Reduction::Max => elements.fold(f64::NEG_INFINITY, greater),
            }
        };
        lanes.all().map(|lane| fold(dot_product(&strides, &lane))).collect()
    }

    fn dot(&self, value: TileId, a: TileId, b: TileId, var: VarId) -> Vec<f64> {
        let lanes = self.lanes(&self.kernel.ty(value).vars);
        let strides = [lanes.strides(self, a), lanes.strides(self, b)];
        let steps = [self.stride(a, var), self.stride(b, var)];
        let count = (0..self.kernel.var(var).tile).take_while(|lane| self.runs(var, *lane)).count();
        let (a, b) = (&self.values[a.0 as usize], &self.values[b.0 as usize]);
        let fold = |lane: &[u64]| {
            let starts = [dot_product(&strides[0], lane), dot_product(&strides[1], lane)];
            (0..count as u64).fold(0.0, |sum, i| {
                let x = a[(starts[0] + i * steps[0]) as usize];
                let y = b[(starts[1] + i * steps[1]) as usize];
                match self.arithmetic {
                    Arithmetic::F32 => f64::from((x as f32).mul_add(y as f32, sum as f32)),
                    Arithmetic::F64 => x.mul_add(y, sum),
                }
            })
        };
        lanes.all().map(|lane| fold(&lane)).collect()
    }

    /// Distance of neighbours along a variable in a value; 0 when it does not vary along it.
    fn stride(&self, value: TileId, var: VarId) -> u64 {
        let vars = &self.kernel.ty(value).vars;
        match vars.iter().position(|v| *v == var) {
            Some(at) => vars[at + 1..].iter().map(|v| self.kernel.var(*v).tile).product(),
            None => 0,
        }
    }

    fn store(
        &mut self,
        buffer: BufferId,
        offset: &Offset,
        value: TileId,
        mask: Option<TileId>,
        accumulate: bool,
    ) -> Result<(), InterpretError> {
        let lanes = self.lanes(&self.stored_vars(offset, value, mask));
        let strides = lanes.strides(self, value);
        let mask = mask.map(|mask| (mask, lanes.strides(self, mask)));
        let tiles: Vec<_> =
            offset.tiles().into_iter().map(|t| (t, lanes.strides(self, t))).collect();
        for lane in lanes.all() {
            let inside = lanes.vars.iter().zip(&lane).all(|(var, lane)| self.runs(*var, *lane));
            let masked = mask.as_ref().is_some_and(|(m, s)| self.lane(*m, s, &lane) == 0.0);
            if !inside || masked {
                continue;
            }
            let tiles: Vec<f64> = tiles.iter().map(|(t, s)| self.lane(*t, s, &lane)).collect();
            let at = self.element(buffer, self.offset(offset, &lanes, &lane, &tiles))?;
            let number = self.lane(value, &strides, &lane);
            let memory = self.of[buffer.0 as usize];
            let number = match accumulate {
                true => self.round(self.memory[memory].get(at) + number),
                false => number,
            };
            let number = self.stored(buffer, number);
            self.memory[memory].set(at, number);
        }
        Ok(())
    }

    /// Variables along which a store has lanes.
    fn stored_vars(&self, offset: &Offset, value: TileId, mask: Option<TileId>) -> Vec<VarId> {
        let tiles = offset.tiles().into_iter().chain(mask).chain([value]);
        let mut vars: Vec<VarId> = tiles.flat_map(|t| self.kernel.ty(t).vars.clone()).collect();
        vars.extend(offset.terms.iter().filter_map(|t| match t.factor {
            Factor::Digit { var, .. } => Some(var),
            Factor::Scalar(_) | Factor::Tile(_) => None,
        }));
        vars.sort_unstable();
        vars.dedup();
        vars
    }

    fn stored(&self, buffer: BufferId, number: f64) -> f64 {
        let storage = self.kernel.buffers[buffer.0 as usize].storage;
        match storage {
            Storage::Bf16 => (Pointwise::Bf16.def().eval)(&[number]),
            _ => number,
        }
    }
}

/// Ints wrap. Products of two do not fit f64, so they take their own path.
fn integer(op: Pointwise, operands: &[f64]) -> i32 {
    let wide = |i: usize| operands[i] as i64;
    match op {
        Pointwise::Mul => (wide(0) * wide(1)) as i32,
        _ => (op.def().eval)(operands) as i64 as i32,
    }
}

/// Larger of two; NaN wins.
fn greater(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

fn dot_product(a: &[u64], b: &[u64]) -> u64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The lanes of a tile along some variables.
struct Lanes {
    vars: Vec<VarId>,
    sizes: Vec<u64>,
}

impl Lanes {
    /// Coordinates of all lanes, the last variable fastest.
    fn all(&self) -> impl Iterator<Item = Vec<u64>> + use<'_> {
        (0..self.sizes.iter().product()).map(|mut index: u64| {
            let mut lane = vec![0; self.sizes.len()];
            for (at, size) in lane.iter_mut().zip(&self.sizes).rev() {
                *at = index % size;
                index /= size;
            }
            lane
        })
    }

    /// Strides of a value along these variables.
    fn strides(&self, machine: &Machine<'_, '_>, value: TileId) -> Vec<u64> {
        self.vars.iter().map(|var| machine.stride(value, *var)).collect()
    }
}
