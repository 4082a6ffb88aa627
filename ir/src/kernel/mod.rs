//! Kernel IR: tile programs.
//!
//! A kernel runs once per point of its **grid**. It works on **tiles**: values that vary along a
//! few *iteration variables*, as many elements of each as the variable's tile says. This is what
//! Triton's users write, with named variables instead of positional dimensions, and one program
//! lowers to x86 (tiles become vector registers, packed panels or cache-resident blocks) and to
//! PTX (tiles are spread over the threads of a block).
//!
//! Meaning:
//! - A variable has an `extent` and a `tile`. A grid variable takes the positions
//!   `point·tile … point·tile + tile − 1`; a loop runs over its variable's tiles in ascending
//!   order, one after the other.
//! - **Lanes past the extent do not execute**: they load nothing, store nothing, and keep carried
//!   values and reductions unchanged. So no program needs masks for ragged edges.
//! - A value varies along the variables in its type and is uniform along all others; pointwise
//!   functions broadcast.
//! - `Reduce` and `Dot` act on the tile in hand. A reduction over a whole variable is a loop that
//!   carries an accumulator: a tile over the same variable, reduced after the loop, or a value
//!   already reduced in each turn. The order of additions is fixed by the tile sizes alone.
//! - `when m`, in a loop, promises that in a turn, from there on, lanes of `m`'s variables in which `m`
//!   does not hold count nowhere: they change neither carried values nor memory. So code may leave
//!   out turns in which no lane holds, and of other turns the parts of products in which none
//!   does: what a mask of attention hides. The interpreter leaves out nothing, and thereby tests
//!   the promise.
//! - Grid points are independent: no point reads what another one writes, and no two points write
//!   the same element. Inside a point, statements run in order.
//! - Arithmetic is f32 (IEEE, round to nearest, denormals kept, no contraction of `mul` and
//!   `add`), ints are i32 and wrap, comparisons with NaN are false except `ne`. Loads of bf16
//!   widen, stores to bf16 round to nearest even. `Dot` accumulates in f32 by fused
//!   multiply-add, in ascending order of the contracted variable within the order that the
//!   target documents.

mod interpret;
mod offset;
mod parse;
mod print;
mod share;
#[cfg(test)]
mod tests;
mod tiles;
mod verify;

pub use interpret::{Arithmetic, InterpretError, Sparse};
pub use offset::{Factor, Offset, Term};
pub use tiles::{
    AttentionKernel, AttentionTiles, ContractionTiles, KEPT_COLUMNS, Machine, RegionTiles,
    contraction_tiles,
};
pub use verify::KernelError;

use serde::{Deserialize, Serialize};

use crate::pointwise::Pointwise;
pub use crate::text::ParseError;

/// Index of an iteration variable in [`Kernel::vars`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VarId(pub u32);

/// Index of a tile value in [`Kernel::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TileId(pub u32);

/// Index of a buffer in [`Kernel::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BufferId(pub u32);

/// How elements lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Storage {
    /// 32-bit IEEE float.
    F32,
    /// Upper half of an f32.
    Bf16,
    /// 32-bit signed integer.
    I32,
    /// One byte, 0 or 1.
    Bool,
}

impl Storage {
    /// Bytes of one element.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::Bf16 => 2,
            Self::Bool => 1,
        }
    }
}

/// What a tile's elements are while they are computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scalar {
    /// 32-bit float.
    F32,
    /// 32-bit integer.
    I32,
    /// Truth value.
    Bool,
}

/// What a kernel does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Access {
    /// Only read.
    Read,
    /// Only written.
    Write,
    /// Read and written.
    ReadWrite,
    /// Memory of one grid point, gone when the point ends (cache on CPUs, shared memory on GPUs).
    Local,
}

/// A flat array that the kernel reads or writes. All but local buffers are arguments, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Buffer {
    /// Name, unique in the kernel.
    pub name: String,
    /// Element type in memory.
    pub storage: Storage,
    /// Number of elements from the address passed.
    pub elements: u64,
    /// Direction.
    pub access: Access,
    /// When known: the ints in it are at least 0 and below this.
    pub below: Option<u64>,
}

/// An iteration variable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Var {
    /// Name, unique in the kernel.
    pub name: String,
    /// Number of positions.
    pub extent: u64,
    /// Positions handled at a time.
    pub tile: u64,
}

impl Var {
    /// Number of tiles, the last one perhaps ragged.
    pub fn tiles(&self) -> u64 {
        self.extent.div_ceil(self.tile)
    }
}

/// Type of a tile value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TileType {
    /// Element type.
    pub scalar: Scalar,
    /// Variables it varies along, ascending.
    pub vars: Vec<VarId>,
}

/// A reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reduction {
    /// Sum.
    Sum,
    /// Maximum; NaN wins.
    Max,
}

/// How a tile value is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Expr {
    /// A real constant, rounded to f32.
    Real(f64),
    /// An integer constant.
    Int(i32),
    /// A truth value.
    Bool(bool),
    /// An int tile computed from variables, scalars and other int tiles.
    Index(Offset),
    /// Elements of a buffer. Lanes whose mask is false are not read and give zero.
    Load {
        /// Where from.
        buffer: BufferId,
        /// Element offset of each lane.
        offset: Offset,
        /// Bool tile.
        mask: Option<TileId>,
    },
    /// A pointwise function.
    Pointwise(Pointwise, Vec<TileId>),
    /// A reduction of the tile along one variable.
    Reduce(Reduction, TileId, VarId),
    /// `Σ a·b` along one variable of the tile; other variables are kept.
    Dot(TileId, TileId, VarId),
    /// Uniform in [0, 1), 24 bits: see [`crate::philox`].
    Noise {
        /// Constant that tells one use from another: word 1 of the key.
        key: u32,
        /// Int tiles: first the seed, which is word 0 of the key, then up to four words of the
        /// counter; absent ones are 0.
        counter: Vec<TileId>,
    },
}

/// A value carried from turn to turn of a loop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carry {
    /// Value before the first turn.
    pub init: TileId,
    /// The value as the body sees it.
    pub arg: TileId,
    /// The value that the body leaves.
    pub next: TileId,
    /// The value after the last turn.
    pub result: TileId,
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Stmt {
    /// Defines a tile value.
    Let(TileId, Expr),
    /// Runs a block for each tile of a variable, ascending.
    Loop {
        /// The variable.
        var: VarId,
        /// Carried values.
        carried: Vec<Carry>,
        /// Statements of one turn.
        body: Vec<Stmt>,
    },
    /// In a loop's body, in front of its stores and inner loops: lanes in which this bool tile does
    /// not hold count nowhere in the rest of the turn.
    When(TileId),
    /// Writes a tile to a buffer.
    Store {
        /// Where to.
        buffer: BufferId,
        /// Element offset of each lane.
        offset: Offset,
        /// The tile, converted to the buffer's storage.
        value: TileId,
        /// Lanes to write.
        mask: Option<TileId>,
        /// Adds to what is there instead of overwriting it.
        accumulate: bool,
    },
}

/// A tile program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// Unique name, a valid symbol.
    pub name: String,
    /// Where it comes from, for people: the values of the graph it computes.
    pub origin: String,
    /// Buffers; arguments first come, first passed.
    pub buffers: Vec<Buffer>,
    /// Names of the int arguments (turns of the loops around the launch).
    pub scalars: Vec<String>,
    /// Iteration variables.
    pub vars: Vec<Var>,
    /// Variables of the grid, the last one fastest.
    pub grid: Vec<VarId>,
    /// Types of the tile values.
    pub values: Vec<TileType>,
    /// The program of one grid point.
    pub body: Vec<Stmt>,
}

impl Kernel {
    /// Number of grid points.
    pub fn grid_points(&self) -> u64 {
        self.grid.iter().map(|v| self.var(*v).tiles()).product()
    }

    /// A variable.
    pub fn var(&self, var: VarId) -> &Var {
        &self.vars[var.0 as usize]
    }

    /// The type of a value.
    pub fn ty(&self, value: TileId) -> &TileType {
        &self.values[value.0 as usize]
    }
}
