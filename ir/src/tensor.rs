//! Dense f64 arrays over named axes: the values of the reference interpreter.

use crate::graph::AxisId;

/// A row-major array. Ints and bools are held as whole numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Axes, slowest first.
    pub axes: Vec<AxisId>,
    /// As many sizes as axes.
    pub sizes: Vec<usize>,
    /// Elements.
    pub data: Vec<f64>,
}

impl Tensor {
    /// The same number everywhere.
    pub fn full(axes: &[AxisId], sizes: &[usize], x: f64) -> Self {
        let count = sizes.iter().product();
        Self { axes: axes.to_vec(), sizes: sizes.to_vec(), data: vec![x; count] }
    }

    /// A scalar.
    pub fn scalar(x: f64) -> Self {
        Self { axes: Vec::new(), sizes: Vec::new(), data: vec![x] }
    }

    /// Elements between neighbours along an axis; 0 for an axis that the array lacks, so that it
    /// reads as broadcast.
    pub fn stride(&self, axis: AxisId) -> isize {
        match self.axes.iter().position(|a| *a == axis) {
            Some(i) => self.sizes[i + 1..].iter().product::<usize>() as isize,
            None => 0,
        }
    }

    /// Strides for a list of axes.
    pub fn strides(&self, axes: &[AxisId]) -> Vec<isize> {
        axes.iter().map(|a| self.stride(*a)).collect()
    }

    /// The array over the given axes in the given order; new axes are broadcast. Every axis of
    /// the array must be among them.
    pub fn arranged(&self, axes: &[AxisId], sizes: &[usize]) -> Self {
        let mut out = Self::full(axes, sizes, 0.0);
        if self.axes == axes {
            out.data.copy_from_slice(&self.data);
            return out;
        }
        walk(sizes, &[self.strides(axes)], |i, at| out.data[i] = self.data[at[0] as usize]);
        out
    }

    /// The slice at a position of an axis, without the axis.
    pub fn slice(&self, axis: AxisId, position: usize) -> Self {
        let keep = |i: &usize| self.axes[*i] != axis;
        let axes: Vec<AxisId> = (0..self.axes.len()).filter(keep).map(|i| self.axes[i]).collect();
        let sizes: Vec<usize> = (0..self.axes.len()).filter(keep).map(|i| self.sizes[i]).collect();
        let start = position * self.stride(axis) as usize;
        let mut out = Self::full(&axes, &sizes, 0.0);
        walk(&sizes, &[self.strides(&axes)], |i, at| {
            out.data[i] = self.data[start + at[0] as usize]
        });
        out
    }
}

/// Visits all positions of a shape in row-major order: calls `visit` with the number of the
/// position and the offsets that follow from the strides.
pub fn walk(sizes: &[usize], strides: &[Vec<isize>], mut visit: impl FnMut(usize, &[isize])) {
    let count: usize = sizes.iter().product();
    let mut position = vec![0; sizes.len()];
    let mut offsets = vec![0isize; strides.len()];
    for i in 0..count {
        visit(i, &offsets);
        for d in (0..sizes.len()).rev() {
            position[d] += 1;
            offsets.iter_mut().zip(strides).for_each(|(o, s)| *o += s[d]);
            if position[d] < sizes[d] {
                break;
            }
            offsets.iter_mut().zip(strides).for_each(|(o, s)| *o -= s[d] * sizes[d] as isize);
            position[d] = 0;
        }
    }
}
