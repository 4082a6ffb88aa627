//! Tile values as registers.
//!
//! One variable of a kernel is its **vector variable**: a value that varies along it is an LLVM
//! vector of as many lanes as the tile in hand has. Along every other variable with a tile above
//! one, a value is unrolled: one element for each lane. A value that does not vary along the
//! vector variable is a scalar.

use gigac_ir::kernel::{TileType, VarId};

use super::emit::{Emitter, Value};

/// A lane of each unrolled variable.
pub(super) type Coordinates = Vec<(VarId, u64)>;

/// How a tile value is spread.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// Unrolled variables and their lanes, ascending.
    pub(super) unrolled: Vec<(VarId, u64)>,
    /// Lanes of the vector variable; 1 if the value does not vary along it.
    pub(super) lanes: u64,
}

/// A tile value in registers.
#[derive(Clone, Debug)]
pub(super) struct Tile<'c> {
    pub(super) shape: Shape,
    /// Row-major over the unrolled variables.
    pub(super) elements: Vec<Value<'c>>,
}

impl Shape {
    /// The shape of a type, given the lanes that each variable has at present.
    pub(super) fn of(ty: &TileType, vector: Option<VarId>, lanes: impl Fn(VarId) -> u64) -> Self {
        let mut shape = Self { unrolled: Vec::new(), lanes: 1 };
        for var in &ty.vars {
            match lanes(*var) {
                n if Some(*var) == vector => shape.lanes = n,
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

    /// Where an element of this shape stands; variables that it does not vary along are ignored.
    pub(super) fn index(&self, at: &Coordinates) -> usize {
        let lane = |var| at.iter().find(|(v, _)| *v == var).map_or(0, |(_, lane)| *lane);
        self.unrolled.iter().fold(0, |index, (var, lanes)| index * lanes + lane(*var)) as usize
    }
}

impl<'c> Tile<'c> {
    /// Makes each element from its coordinates.
    pub(super) fn build<E>(
        shape: Shape,
        element: impl FnMut(&Coordinates) -> Result<Value<'c>, E>,
    ) -> Result<Self, E> {
        let elements = shape.coordinates().iter().map(element).collect::<Result<_, E>>()?;
        Ok(Self { shape, elements })
    }

    /// The element at the coordinates with so many lanes: the first ones of a longer vector, or a
    /// scalar in each.
    pub(super) fn element(&self, emit: &Emitter<'c>, at: &Coordinates, lanes: u64) -> Value<'c> {
        emit.splat(self.element_or_scalar(emit, at, lanes), lanes)
    }

    /// The same, with scalars left as they are.
    pub(super) fn element_or_scalar(
        &self,
        emit: &Emitter<'c>,
        at: &Coordinates,
        lanes: u64,
    ) -> Value<'c> {
        let value = self.elements[self.shape.index(at)];
        match emit.lanes(value) {
            n if n == 1 || n == lanes => value,
            _ => emit.shuffle(value, value, &(0..lanes).collect::<Vec<_>>()),
        }
    }

    /// The first elements along one unrolled variable, at the coordinates of the others.
    pub(super) fn along(
        &self,
        emit: &Emitter<'c>,
        at: &Coordinates,
        (var, count): (VarId, u64),
        lanes: u64,
    ) -> Vec<Value<'c>> {
        let with = |lane| at.iter().copied().chain([(var, lane)]).collect();
        (0..count).map(|lane| self.element(emit, &with(lane), lanes)).collect()
    }

    /// This tile with the first lanes of each variable replaced by those of a smaller one.
    pub(super) fn overlay(&self, emit: &Emitter<'c>, first: &Self) -> Self {
        let element = |at: &Coordinates| -> Value<'c> {
            let old = self.elements[self.shape.index(at)];
            let inside = |(var, lane): &(VarId, u64)| {
                first.shape.unrolled.iter().all(|(v, lanes)| v != var || lane < lanes)
            };
            if !at.iter().all(inside) {
                return old;
            }
            let new = first.elements[first.shape.index(at)];
            blend(emit, new, first.shape.lanes, old, self.shape.lanes)
        };
        let elements = self.shape.coordinates().iter().map(element).collect();
        Self { shape: self.shape.clone(), elements }
    }
}

/// The first `count` lanes of `new`, then those of `old`, which has `lanes`.
fn blend<'c>(
    emit: &Emitter<'c>,
    new: Value<'c>,
    count: u64,
    old: Value<'c>,
    lanes: u64,
) -> Value<'c> {
    if count == lanes {
        return new;
    }
    let new = emit.splat(new, lanes);
    let wide = match emit.lanes(new) {
        n if n == lanes => new,
        n => emit.shuffle(new, new, &(0..lanes).map(|i| i.min(n - 1)).collect::<Vec<_>>()),
    };
    let pick = |i| if i < count { i } else { lanes + i };
    emit.shuffle(wide, old, &(0..lanes).map(pick).collect::<Vec<_>>())
}
