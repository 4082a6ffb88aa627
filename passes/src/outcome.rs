//! What a program computed, in a form that does not depend on the form of the program: results by
//! role, over axes by name.

use gigac_ir::graph::{Graph, Role, Slot};
use gigac_ir::tensor::{Tensor, walk};

/// One result.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What it is.
    pub role: Role,
    /// Its name, for people.
    pub name: String,
    /// Axes with their sizes, slowest first.
    pub axes: Vec<(String, u64)>,
    /// Elements.
    pub data: Vec<f64>,
}

/// How far two results are apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Norm of the difference over the norm of the first; infinite when only one is finite.
    pub relative: f64,
    /// The element that differs most, and both its values.
    pub worst: (usize, f64, f64),
}

/// The results of a graph, named.
pub fn of_graph(graph: &Graph, results: Vec<Tensor>) -> Vec<Outcome> {
    let one = |(role, tensor): (&Role, Tensor)| {
        let name = |a: &gigac_ir::graph::AxisId| graph.axes[a.index()].name.clone();
        let axes = tensor.axes.iter().map(|a| (name(a), graph.size(*a))).collect();
        let param = |index: usize| graph.params[index].name.clone();
        Outcome { role: role.clone(), name: describe(role, param), axes, data: tensor.data }
    };
    graph.roles.iter().zip(results).map(one).collect()
}

/// A role in words.
pub(crate) fn describe(role: &Role, param: impl Fn(usize) -> String) -> String {
    match role {
        Role::LossTerm(line) => format!("loss line {line}"),
        Role::LossPer(line) => format!("denominator of loss line {line}"),
        Role::Metric(name) => format!("metric `{name}`"),
        Role::Output(name) => format!("output `{name}`"),
        Role::Loss => "loss".to_owned(),
        Role::Gradient(p) => format!("gradient of `{}`", param(p.index())),
        Role::GradNorm => "gradient norm".to_owned(),
        Role::LearningRate => "learning rate".to_owned(),
        Role::NanGradients => "number of bad gradients".to_owned(),
        Role::Update(p, Slot::Weight) => format!("new `{}`", param(p.index())),
        Role::Update(p, Slot::Rounded) => format!("new `{}` in bf16", param(p.index())),
        Role::Update(p, slot) => format!("new {slot:?} of `{}`", param(p.index())),
    }
}

impl Outcome {
    /// The elements in another order of axes.
    fn arranged(&self, axes: &[(String, u64)]) -> Vec<f64> {
        let stride = |axis: &(String, u64)| {
            let at = self.axes.iter().position(|a| a == axis);
            let at = at.unwrap_or_else(|| panic!("{}: axis `{}` is missing", self.name, axis.0));
            self.axes[at + 1..].iter().map(|(_, size)| *size as isize).product()
        };
        let sizes: Vec<usize> = axes.iter().map(|(_, size)| *size as usize).collect();
        let mut data = vec![0.0; self.data.len()];
        let strides = vec![axes.iter().map(stride).collect()];
        walk(&sizes, &strides, |i, at| data[i] = self.data[at[0] as usize]);
        data
    }

    /// The element of a number in words: `[T = 3, K = 0]`.
    pub fn place(&self, mut index: usize) -> String {
        let mut parts = Vec::new();
        for (axis, size) in self.axes.iter().rev() {
            parts.push(format!("{axis} = {}", index as u64 % size));
            index /= *size as usize;
        }
        parts.reverse();
        format!("[{}]", parts.join(", "))
    }

    /// Norm of what is finite.
    pub fn norm(&self) -> f64 {
        self.data.iter().filter(|x| x.is_finite()).map(|x| x * x).sum::<f64>().sqrt()
    }

    /// How far another computation of the same result is from this one, over its norm or `least`,
    /// whichever is larger.
    pub fn difference(&self, other: &Self, least: f64) -> Difference {
        let theirs = other.arranged(&self.axes);
        let mut far = 0.0;
        let mut worst = (0, 0.0, 0.0);
        let mut most = -1.0;
        for (i, (a, b)) in self.data.iter().zip(&theirs).enumerate() {
            let same = a == b || a.is_nan() && b.is_nan();
            let gap = if same { 0.0 } else { (a - b).abs() };
            let gap = if gap.is_nan() { f64::INFINITY } else { gap };
            far += gap * gap;
            if gap > most {
                (most, worst) = (gap, (i, *a, *b));
            }
        }
        let relative = if far == 0.0 { 0.0 } else { far.sqrt() / self.norm().max(least) };
        Difference { relative, worst }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(axes: &[(&str, u64)], data: &[f64]) -> Outcome {
        let axes = axes.iter().map(|(n, s)| ((*n).to_owned(), *s)).collect();
        Outcome { role: Role::Loss, name: "loss".into(), axes, data: data.to_vec() }
    }

    #[test]
    fn axes_are_matched_by_name() {
        let a = outcome(&[("X", 2), ("Y", 3)], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let b = outcome(&[("Y", 3), ("X", 2)], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(a.difference(&b, 0.0).relative, 0.0);
        let c = outcome(&[("Y", 3), ("X", 2)], &[1.0, 4.0, 2.0, 5.0, 3.5, 6.0]);
        let difference = a.difference(&c, 0.0);
        assert_eq!(difference.worst, (2, 3.0, 3.5));
        assert!((difference.relative - 0.5 / 91f64.sqrt()).abs() < 1e-15);
        assert!((a.difference(&c, 100.0).relative - 0.005).abs() < 1e-15);
    }

    #[test]
    fn what_is_not_finite_counts() {
        let a = outcome(&[("X", 2)], &[f64::INFINITY, 1.0]);
        assert_eq!(a.difference(&a, 0.0).relative, 0.0);
        let b = outcome(&[("X", 2)], &[f64::NAN, 1.0]);
        assert_eq!(a.difference(&b, 0.0).relative, f64::INFINITY);
        assert_eq!(b.difference(&b, 0.0).relative, 0.0);
    }
}
