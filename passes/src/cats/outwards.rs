//! Functions move into concatenations, through the views between them.

use std::collections::HashMap;

use gigac_ir::graph::{AxisId, Builder, Node, Op, Type, ValueId};
use gigac_ir::ops::{self, OpError};
use gigac_ir::pointwise::Pointwise;

use super::Uses;

/// A concatenation in the new graph.
#[derive(Clone, PartialEq)]
struct Cat {
    pieces: Vec<Option<AxisId>>,
    to: AxisId,
    operands: Vec<ValueId>,
}

/// The values of the new graph that may move: those with one reader.
pub(super) struct Outwards<'u, 'g> {
    uses: &'u Uses<'g>,
    cats: HashMap<ValueId, Cat>,
    /// Views of concatenations, and views of those.
    views: HashMap<ValueId, (Op, ValueId)>,
    /// Other functions.
    functions: HashMap<ValueId, (Pointwise, Vec<ValueId>)>,
    /// Functions that were moved.
    pub(super) moved: usize,
}

impl<'u, 'g> Outwards<'u, 'g> {
    pub(super) fn new(uses: &'u Uses<'g>) -> Self {
        let (cats, views, functions) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { uses, cats, views, functions, moved: 0 }
    }

    /// What stands for a node in the new graph, when it is not a plain copy.
    pub(super) fn node(
        &mut self,
        b: &mut Builder,
        node: &Node,
        operands: &[ValueId],
    ) -> Result<Option<ValueId>, OpError> {
        let value = match &node.op {
            Op::Cat { pieces, to } => {
                let cat = Cat { pieces: pieces.clone(), to: *to, operands: operands.to_vec() };
                self.cat(b, cat)?
            }
            Op::Rename { .. } | Op::Split { .. } | Op::Merge { .. }
                if self.movable(operands[0]) =>
            {
                let value = b.op(node.op.clone(), operands)?;
                self.views.insert(value, (node.op.clone(), operands[0]));
                Some(value)
            }
            Op::Pointwise(function)
                if !node.operands.iter().any(|v| self.uses.ends_product(*v)) =>
            {
                let value = self.function(b, *function, operands)?;
                self.moved += usize::from(value.is_some());
                value
            }
            _ => None,
        };
        let value = match (value, &node.op) {
            (Some(value), _) => value,
            (None, Op::Pointwise(function)) => {
                let value = b.op(node.op.clone(), operands)?;
                self.functions.insert(value, (*function, operands.to_vec()));
                value
            }
            (None, _) => return Ok(None),
        };
        if !self.uses.once(node.results[0]) {
            self.cats.remove(&value);
            self.views.remove(&value);
            self.functions.remove(&value);
        }
        let known = &self.uses.graph.values[node.results[0].index()];
        let name = &mut b.graph.values[value.index()].name;
        *name = name.take().or_else(|| known.name.clone());
        Ok(Some(value))
    }

    fn movable(&self, value: ValueId) -> bool {
        self.cats.contains_key(&value) || self.views.contains_key(&value)
    }

    /// A concatenation, flat where that is well typed.
    fn cat(&mut self, b: &mut Builder, cat: Cat) -> Result<Option<ValueId>, OpError> {
        let flat = self.flat(&cat);
        let types = |cat: &Cat| cat.operands.iter().map(|v| b.ty(*v)).collect::<Vec<&Type>>();
        let fits = |cat: &Cat| ops::infer(&operation(cat), &b.graph, &types(cat)).is_ok();
        let Some(cat) = [flat, cat].into_iter().find(fits) else { return Ok(None) };
        let value = b.op(operation(&cat), &cat.operands)?;
        self.cats.insert(value, cat);
        Ok(Some(value))
    }

    /// A concatenation whose pieces are none.
    fn flat(&self, cat: &Cat) -> Cat {
        let mut flat = Cat { pieces: Vec::new(), to: cat.to, operands: Vec::new() };
        for (piece, operand) in cat.pieces.iter().zip(&cat.operands) {
            match self.cats.get(operand).filter(|inner| *piece == Some(inner.to)) {
                Some(inner) => {
                    flat.pieces.extend(&inner.pieces);
                    flat.operands.extend(&inner.operands);
                }
                None => {
                    flat.pieces.push(*piece);
                    flat.operands.push(*operand);
                }
            }
        }
        flat
    }

    /// A function of values of which one is a concatenation, or a view of one.
    fn function(
        &mut self,
        b: &mut Builder,
        function: Pointwise,
        operands: &[ValueId],
    ) -> Result<Option<ValueId>, OpError> {
        if let Some(cat) = operands.iter().find_map(|v| self.cats.get(v).cloned()) {
            return self.inside(b, function, operands, &cat);
        }
        let view = operands.iter().find_map(|v| Some((*v, self.views.get(v)?.clone())));
        match view {
            Some((viewed, (op, inner))) => self.under(b, function, operands, (viewed, &op, inner)),
            None => Ok(None),
        }
    }

    /// The function, moved inwards or not.
    fn mapped(
        &mut self,
        b: &mut Builder,
        function: Pointwise,
        operands: &[ValueId],
    ) -> Result<ValueId, OpError> {
        match self.function(b, function, operands)? {
            Some(value) => Ok(value),
            None => b.map(function, operands),
        }
    }

    /// The concatenation of the function of pieces.
    fn inside(
        &mut self,
        b: &mut Builder,
        function: Pointwise,
        operands: &[ValueId],
        cat: &Cat,
    ) -> Result<Option<ValueId>, OpError> {
        let clash = |v: &ValueId| {
            let whole = !self.alike(*v, cat) && b.ty(*v).has(cat.to);
            whole && cat.pieces.iter().flatten().any(|a| b.ty(*v).has(*a))
        };
        if operands.iter().any(clash) {
            return Ok(None);
        }
        let (mut start, mut made) = (0, Vec::new());
        for (i, piece) in cat.pieces.iter().enumerate() {
            let slice = Op::Slice { axis: cat.to, to: *piece, start, stride: 1 };
            let mut parts = Vec::new();
            for operand in operands {
                parts.push(match self.alike(*operand, cat) {
                    true => self.cats[operand].operands[i],
                    false => self.part(b, *operand, cat.to, &slice)?,
                });
            }
            made.push(self.mapped(b, function, &parts)?);
            start += piece.map_or(1, |axis| b.graph.size(axis)) as i64;
        }
        let cat = Cat { pieces: cat.pieces.clone(), to: cat.to, operands: made };
        self.cat(b, cat)
    }

    /// Whether a value is a concatenation of such pieces.
    fn alike(&self, value: ValueId, cat: &Cat) -> bool {
        self.cats.get(&value).is_some_and(|c| c.pieces == cat.pieces && c.to == cat.to)
    }

    /// A slice of a value along an axis, computed of slices where nobody needs the whole.
    fn part(
        &self,
        b: &mut Builder,
        value: ValueId,
        axis: AxisId,
        slice: &Op,
    ) -> Result<ValueId, OpError> {
        if !b.ty(value).has(axis) {
            return Ok(value);
        }
        let Some((function, operands)) = self.functions.get(&value) else {
            return b.op(slice.clone(), &[value]);
        };
        let mut parts = Vec::new();
        for operand in operands {
            parts.push(self.part(b, *operand, axis, slice)?);
        }
        b.map(*function, &parts)
    }

    /// The view of the function of what is viewed, when the other operands can be viewed the other way.
    fn under(
        &mut self,
        b: &mut Builder,
        function: Pointwise,
        operands: &[ValueId],
        (viewed, op, inner): (ValueId, &Op, ValueId),
    ) -> Result<Option<ValueId>, OpError> {
        let (from, to, back) = match op {
            Op::Rename { from, to } => {
                (vec![*from], vec![*to], Op::Rename { from: *to, to: *from })
            }
            Op::Split { from, to } => {
                (vec![*from], to.clone(), Op::Merge { from: to.clone(), to: *from })
            }
            Op::Merge { from, to } => {
                (from.clone(), vec![*to], Op::Split { from: *to, to: from.clone() })
            }
            _ => unreachable!("no such view is kept"),
        };
        let has = |b: &Builder, v: ValueId, axes: &[AxisId]| {
            axes.iter().filter(|a| b.ty(v).has(**a)).count()
        };
        let mut under = Vec::new();
        for operand in operands {
            let (lost, gained) = (has(b, *operand, &from), has(b, *operand, &to));
            under.push(match gained {
                _ if *operand == viewed => inner,
                _ if lost > 0 => return Ok(None),
                0 => *operand,
                n if n == to.len() => b.op(back.clone(), &[*operand])?,
                _ => return Ok(None),
            });
        }
        let made = self.mapped(b, function, &under)?;
        let value = b.op(op.clone(), &[made])?;
        self.views.insert(value, (op.clone(), made));
        Ok(Some(value))
    }
}

fn operation(cat: &Cat) -> Op {
    Op::Cat { pieces: cat.pieces.clone(), to: cat.to }
}
