//! Tile values as registers.
//!
//! Some variables of a kernel are **vector variables**, at most one in any value: a value that
//! varies along one is a row of as many lanes as the tile in hand has, in one or several LLVM
//! vectors. Along every other variable with a tile above one, a value is unrolled: one row for each
//! lane. A value that does not vary along a vector variable is a scalar.

use gigac_ir::kernel::{TileType, VarId};

use super::emit::{Emitter, Value};

/// A lane of each unrolled variable.
pub(super) type Coordinates = Vec<(VarId, u64)>;

/// Consecutive lanes of a vector variable: the first one, and how many.
pub(super) type Span = (u64, u64);

/// How a tile value is spread.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// Unrolled variables and their lanes, ascending.
    pub(super) unrolled: Vec<(VarId, u64)>,
    /// Lanes of the vector variable; 1 if the value varies along none.
    pub(super) lanes: u64,
}

/// A tile value in registers.
#[derive(Clone, Debug)]
pub(super) struct Tile<'c> {
    pub(super) shape: Shape,
    /// Row-major over the unrolled variables.
    pub(super) rows: Vec<Row<'c>>,
}

/// The lanes of the vector variable, in pieces that follow each other; or one scalar.
#[derive(Clone, Debug)]
pub(super) struct Row<'c> {
    pub(super) pieces: Vec<Value<'c>>,
}

impl Shape {
    /// The shape of a type, given the lanes that each variable has at present.
    pub(super) fn of(ty: &TileType, vectors: &[VarId], lanes: impl Fn(VarId) -> u64) -> Self {
        let mut shape = Self { unrolled: Vec::new(), lanes: 1 };
        for var in &ty.vars {
            match lanes(*var) {
                n if vectors.contains(var) => shape.lanes = n,
                n => shape.unrolled.push((*var, n)),
            }
        }
        shape
    }

    /// All coordinates, row-major.
    pub(super) fn coordinates(&self) -> Vec<Coordinates> {
        let mut all: Vec<Coordinates> = vec![Vec::new()];
        for (var, lanes) in &self.unrolled {
            let with = |c: &Coordinates, lane| c.iter().copied().chain([(*var, lane)]).collect();
            all = all.iter().flat_map(|c| (0..*lanes).map(move |lane| with(c, lane))).collect();
        }
        all
    }

    /// Where the row at some coordinates stands; variables that a value of this shape does not
    /// vary along are ignored.
    fn index(&self, at: &Coordinates) -> usize {
        let lane = |var| at.iter().find(|(v, _)| *v == var).map_or(0, |(_, lane)| *lane);
        self.unrolled.iter().fold(0, |index, (var, lanes)| index * lanes + lane(*var)) as usize
    }
}

impl<'c> Tile<'c> {
    /// The row at some coordinates.
    pub(super) fn row(&self, at: &Coordinates) -> &Row<'c> {
        &self.rows[self.shape.index(at)]
    }

    /// The first rows along one unrolled variable, at the coordinates of the others.
    pub(super) fn along(&self, at: &Coordinates, (var, count): (VarId, u64)) -> Vec<&Row<'c>> {
        let with = |lane| at.iter().copied().chain([(var, lane)]).collect();
        (0..count).map(|lane| self.row(&with(lane))).collect()
    }

    /// Adds the next lanes to every row.
    pub(super) fn append(&mut self, next: Self) {
        self.shape.lanes += next.shape.lanes;
        for (row, next) in self.rows.iter_mut().zip(next.rows) {
            row.pieces.extend(next.pieces);
        }
    }

    /// This tile, in pieces of the given spans, with the first lanes of each variable replaced
    /// by those of a smaller one.
    pub(super) fn overlay(&self, emit: &Emitter<'c>, first: &Self, spans: &[Span]) -> Self {
        let row = |at: &Coordinates| {
            let inside = |(var, lane): &(VarId, u64)| {
                first.shape.unrolled.iter().all(|(v, lanes)| v != var || lane < lanes)
            };
            let replaced = at.iter().all(inside);
            let piece = |span| match replaced {
                true => blend(emit, first.row(at), first.shape.lanes, self.row(at), span),
                false => self.row(at).lanes_or_scalar(emit, span),
            };
            Row { pieces: spans.iter().copied().map(piece).collect() }
        };
        let rows = self.shape.coordinates().iter().map(row).collect();
        Self { shape: self.shape.clone(), rows }
    }
}

impl<'c> Row<'c> {
    /// Some lanes; a scalar is in each of them.
    pub(super) fn lanes(&self, emit: &Emitter<'c>, span: Span) -> Value<'c> {
        emit.splat(self.lanes_or_scalar(emit, span), span.1)
    }

    /// Some lanes, or the scalar.
    pub(super) fn lanes_or_scalar(&self, emit: &Emitter<'c>, (from, count): Span) -> Value<'c> {
        if let [scalar] = self.pieces[..]
            && !scalar.is_vector_value()
        {
            return scalar;
        }
        let mut start = 0;
        for piece in &self.pieces {
            let lanes = emit.lanes(*piece);
            if (start, lanes) == (from, count) {
                return *piece;
            }
            start += lanes;
        }
        let whole = emit.concatenate(&self.pieces);
        emit.shuffle(whole, whole, &(from..from + count).collect::<Vec<_>>())
    }
}

/// The lanes of a span: those below `count` are new, the others old.
fn blend<'c>(
    emit: &Emitter<'c>,
    new: &Row<'c>,
    count: u64,
    old: &Row<'c>,
    (from, lanes): Span,
) -> Value<'c> {
    match count.saturating_sub(from) {
        0 => old.lanes(emit, (from, lanes)),
        replaced if replaced >= lanes => new.lanes(emit, (from, lanes)),
        replaced => {
            let (new, old) = (new.lanes(emit, (from, replaced)), old.lanes(emit, (from, lanes)));
            let wide = emit.widen(new, lanes);
            let pick = |i| if i < replaced { i } else { lanes + i };
            emit.shuffle(wide, old, &(0..lanes).map(pick).collect::<Vec<_>>())
        }
    }
}
