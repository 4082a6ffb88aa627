//! Which stored tensors hold which elements of which parameters.
//!
//! A parameter is declared with its storage shape. Axes spread over tensors leave that shape: one
//! tensor for each combination of their positions. `from` moves a parameter's part to the middle
//! of a tensor that others share. So every stored tensor is made of pieces, and every piece is a
//! strided box in both the parameter and the tensor.

use std::collections::BTreeMap;

use gigac_ir::graph::NamePart;
use gigac_ir::plan::PlanParam;

use crate::error::{Error, Result};

/// A tensor in a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its shape, row-major.
    pub shape: Vec<u64>,
    /// What it is made of.
    pub pieces: Vec<Piece>,
}

impl Stored {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// The elements of one parameter that one tensor holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// Index of the parameter.
    pub param: usize,
    /// Elements before it in the parameter and in the tensor.
    start: Place,
    /// The axes of the box, slow ones first: size and strides.
    axes: Vec<(u64, Place)>,
}

/// Offsets, or strides, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Within the parameter.
    pub param: u64,
    /// Within the stored tensor.
    pub tensor: u64,
}

impl Piece {
    fn elements(&self) -> u64 {
        self.axes.iter().map(|(size, _)| size).product()
    }

    /// Visits the piece as runs that are contiguous on both sides: where each begins, its length.
    pub fn runs(&self, mut visit: impl FnMut(Place, usize)) {
        let (mut outer, mut run) = (self.axes.as_slice(), 1);
        while let Some(((size, stride), rest)) = outer.split_last() {
            if stride.param != run || stride.tensor != run {
                break;
            }
            (outer, run) = (rest, run * size);
        }
        let turns: u64 = outer.iter().map(|(size, _)| size).product();
        for turn in 0..turns {
            let mut rest = turn;
            let at = outer.iter().rev().fold(self.start, |at, (size, stride)| {
                let position = rest % size;
                rest /= size;
                Place {
                    param: at.param + position * stride.param,
                    tensor: at.tensor + position * stride.tensor,
                }
            });
            visit(at, run as usize);
        }
    }
}

/// All stored tensors of a model, by name.
///
/// # Errors
/// [`Error::Machine`] when pieces do not fill their tensor: the compiler checks this, so the
/// executable is damaged.
pub fn stored(params: &[PlanParam]) -> Result<BTreeMap<String, Stored>> {
    let mut parts: BTreeMap<String, Vec<Part>> = BTreeMap::new();
    for (index, param) in params.iter().enumerate() {
        for positions in combinations(param) {
            let name = name(&param.name_template, &positions);
            parts.entry(name).or_default().push(Part::new(index, param, &positions));
        }
    }
    parts.into_iter().map(|(name, parts)| Ok((name.clone(), join(&name, parts)?))).collect()
}

/// All positions along the spread axes, as a table by axis; unspread axes have `None`.
fn combinations(param: &PlanParam) -> Vec<Vec<Option<u64>>> {
    param.spread.iter().fold(vec![vec![None; param.axes.len()]], |rows, axis| {
        let axis = *axis as usize;
        let with = |row: &Vec<Option<u64>>, position| {
            let mut row = row.clone();
            row[axis] = Some(position);
            row
        };
        rows.iter().flat_map(|row| (0..param.axes[axis].1).map(|p| with(row, p))).collect()
    })
}

fn name(template: &[NamePart], positions: &[Option<u64>]) -> String {
    let at = |axis: u32| positions[axis as usize].unwrap_or(0);
    let part = |part: &NamePart| match part {
        NamePart::Text(text) => text.clone(),
        NamePart::Number { constant, terms } => {
            let sum = terms.iter().map(|(axis, factor)| factor * at(axis.0) as i64).sum::<i64>();
            (constant + sum).to_string()
        }
        NamePart::Choice { axis, names } => names[at(axis.0) as usize].clone(),
    };
    template.iter().map(part).collect()
}

/// A parameter's part of a tensor whose shape is not known yet.
struct Part {
    param: usize,
    /// First element in the parameter.
    start: u64,
    /// Stored dimensions: first index, and the axes in it as size and stride in the parameter.
    dims: Vec<(u64, Vec<(u64, u64)>)>,
}

impl Part {
    fn new(index: usize, param: &PlanParam, positions: &[Option<u64>]) -> Self {
        let mut part = Self { param: index, start: 0, dims: Vec::new() };
        let mut stride = param.elements();
        let mut axes = param.axes.iter().zip(positions);
        for group in &param.dims {
            let mut kept = Vec::new();
            for ((_, size), position) in axes.by_ref().take(*group as usize) {
                stride /= (*size).max(1);
                match position {
                    Some(position) => part.start += position * stride,
                    None => kept.push((*size, stride)),
                }
            }
            if !kept.is_empty() {
                let from = param.from.get(part.dims.len()).copied().unwrap_or(0);
                part.dims.push((from, kept));
            }
        }
        part
    }

    /// One past the last index in each dimension.
    fn ends(&self) -> Vec<u64> {
        let end = |(from, axes): &(u64, Vec<(u64, u64)>)| {
            from + axes.iter().map(|(size, _)| size).product::<u64>()
        };
        self.dims.iter().map(end).collect()
    }

    fn place(self, shape: &[u64]) -> Piece {
        let mut piece = Piece {
            param: self.param,
            start: Place { param: self.start, tensor: 0 },
            axes: Vec::new(),
        };
        let mut tensor = shape.iter().product::<u64>();
        for ((from, axes), size) in self.dims.into_iter().zip(shape) {
            tensor /= (*size).max(1);
            piece.start.tensor += from * tensor;
            let mut within = axes.iter().map(|(size, _)| size).product::<u64>();
            for (size, stride) in axes {
                within /= size.max(1);
                piece.axes.push((size, Place { param: stride, tensor: within * tensor }));
            }
        }
        piece
    }
}

fn join(name: &str, parts: Vec<Part>) -> Result<Stored> {
    let bad = |what| Error::Machine(format!("stored tensor `{name}`: {what}"));
    let mut shape = parts[0].ends();
    for part in &parts[1..] {
        let ends = part.ends();
        if ends.len() != shape.len() {
            return Err(bad("its parts have different numbers of dimensions"));
        }
        shape = shape.iter().zip(ends).map(|(a, b)| b.max(*a)).collect();
    }
    let pieces: Vec<Piece> = parts.into_iter().map(|p| p.place(&shape)).collect();
    let stored = Stored { shape, pieces };
    let claimed: u64 = stored.pieces.iter().map(Piece::elements).sum();
    if claimed != stored.elements() {
        return Err(bad("its parts leave gaps or overlap"));
    }
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gigac_ir::graph::{AxisId, Init};

    /// A parameter of axes by size, grouped into dimensions.
    fn param(dims: &[&[u64]], template: Vec<NamePart>, spread: &[u32], from: &[u64]) -> PlanParam {
        let sizes = dims.iter().copied().flatten();
        PlanParam {
            name: "p".into(),
            axes: sizes.enumerate().map(|(i, size)| (format!("A{i}"), *size)).collect(),
            dims: dims.iter().map(|d| d.len() as u32).collect(),
            init: Init::Constant(0.0),
            frozen: false,
            name_template: template,
            spread: spread.to_vec(),
            from: from.to_vec(),
        }
    }

    fn text(text: &str) -> NamePart {
        NamePart::Text(text.into())
    }

    /// The parameter element behind each element of a stored tensor.
    fn contents(stored: &Stored) -> Vec<Option<(usize, u64)>> {
        let mut out = vec![None; stored.elements() as usize];
        for piece in &stored.pieces {
            piece.runs(|at, length| {
                for i in 0..length as u64 {
                    let slot = &mut out[(at.tensor + i) as usize];
                    assert!(slot.is_none(), "claimed twice");
                    *slot = Some((piece.param, at.param + i));
                }
            });
        }
        out
    }

    #[test]
    fn layers_are_numbered() {
        let number = NamePart::Number { constant: 3, terms: vec![(AxisId(0), 2)] };
        let p = param(&[&[2], &[4], &[5]], vec![text("h."), number, text(".w")], &[0], &[]);
        let all = stored(&[p]).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["h.3.w", "h.5.w"]);
        assert_eq!(all["h.5.w"].shape, [4, 5]);
        let elements: Vec<_> = (20..40).map(|i| Some((0, i))).collect();
        assert_eq!(contents(&all["h.5.w"]), elements);
    }

    /// `w[D, C*K] as "{C: q, k}"`: an inner axis of a merged dimension is spread.
    #[test]
    fn inner_axes_are_spread() {
        let choice = NamePart::Choice { axis: AxisId(1), names: vec!["q".into(), "k".into()] };
        let all = stored(&[param(&[&[2], &[2, 3]], vec![choice], &[1], &[])]).unwrap();
        assert_eq!(all["k"].shape, [2, 3]);
        let elements: Vec<_> = [3, 4, 5, 9, 10, 11].map(|i| Some((0, i))).to_vec();
        assert_eq!(contents(&all["k"]), elements);
    }

    #[test]
    fn parts_share_a_tensor() {
        let q = param(&[&[2], &[3]], vec![text("qk")], &[], &[]);
        let k = param(&[&[1], &[3]], vec![text("qk")], &[], &[2, 0]);
        let all = stored(&[q, k]).unwrap();
        assert_eq!(all["qk"].shape, [3, 3]);
        assert_eq!(contents(&all["qk"])[5..7], [Some((0, 5)), Some((1, 0))]);
    }

    #[test]
    fn columns_share_a_tensor() {
        let a = param(&[&[2], &[3]], vec![text("w")], &[], &[]);
        let b = param(&[&[2], &[1]], vec![text("w")], &[], &[0, 3]);
        let all = stored(&[a, b]).unwrap();
        let got: Vec<_> = contents(&all["w"]).into_iter().flatten().collect();
        assert_eq!(got, [(0, 0), (0, 1), (0, 2), (1, 0), (0, 3), (0, 4), (0, 5), (1, 1)]);
    }

    #[test]
    fn gaps_are_refused() {
        let k = param(&[&[1], &[3]], vec![text("k")], &[], &[2, 0]);
        assert!(stored(&[k]).unwrap_err().to_string().contains('k'));
    }

    #[test]
    fn scalars_have_no_dimensions() {
        let all = stored(&[param(&[], vec![text("s")], &[], &[])]).unwrap();
        assert_eq!(contents(&all["s"]), [Some((0, 0))]);
    }
}
