//! What attention means, in f64.

use super::super::{Eval, EvalError, reduce};
use super::{Parts, factor, fixed};
use crate::graph::{AxisId, DType, Graph, Op, Type};
use crate::pointwise::Pointwise;
use crate::tensor::Tensor;

/// Runs the score function: its arguments to its results.
pub(crate) type Score<'a, E> = dyn FnMut(Vec<Tensor>) -> Result<Vec<Tensor>, E> + 'a;

/// The results of attention.
pub(crate) fn value<E: From<EvalError>>(
    graph: &Graph,
    op: &Op,
    types: &[&Type],
    operands: &[&Tensor],
    score: &mut Score<'_, E>,
) -> Result<Vec<Tensor>, E> {
    let math = Math { graph, parts: Parts::new(op, types), types };
    let captured = operands[fixed(op)..].iter().map(|x| (*x).clone()).collect();
    match op {
        Op::Attend { .. } => math.forward(op, operands, captured, score),
        _ => math.backward(op, operands, captured, score),
    }
}

struct Math<'a> {
    graph: &'a Graph,
    parts: Parts,
    types: &'a [&'a Type],
}

impl Math<'_> {
    fn forward<E: From<EvalError>>(
        &self,
        op: &Op,
        operands: &[&Tensor],
        captured: Vec<Tensor>,
        score: &mut Score<'_, E>,
    ) -> Result<Vec<Tensor>, E> {
        let parts = &self.parts;
        let raw = self.dot(operands[0], operands[1], &parts.inner, &parts.score)?;
        let scores = score([raw].into_iter().chain(captured).collect())?;
        let (weights, sums, lse) = self.softmax(&scores[0]);
        let weights = self.rounded(weights, factor(op, 0));
        let mut out = self.dot(&weights, operands[2], &[parts.keys], &parts.out)?;
        let sums = sums.arranged(&parts.out, &self.sizes(&parts.out));
        out.data.iter_mut().zip(sums.data).for_each(|(x, sum)| *x /= sum);
        Ok(vec![out, lse])
    }

    /// Probabilities that are not yet divided, the largest 1, their sums, and the logarithms of denominators. A
    /// row without keys has zeros, and 1 as its sum.
    fn softmax(&self, score: &Tensor) -> (Tensor, Tensor, Tensor) {
        let (rows, keys) = (&self.parts.rows, self.parts.keys);
        let order: Vec<AxisId> = rows.iter().copied().chain([keys]).collect();
        let mut p = score.arranged(&order, &self.sizes(&order));
        let mut lse = Tensor::full(rows, &self.sizes(rows), 0.0);
        let mut sums = Tensor::full(rows, &self.sizes(rows), 1.0);
        let count = self.graph.size(keys) as usize;
        let results = sums.data.iter_mut().zip(&mut lse.data);
        for (row, (all, lse)) in p.data.chunks_mut(count).zip(results) {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let shift = if largest == f64::NEG_INFINITY { 0.0 } else { largest };
            row.iter_mut().for_each(|x| *x = (*x - shift).exp());
            let sum: f64 = row.iter().sum();
            if sum != 0.0 {
                *all = sum;
                *lse = shift + sum.ln();
            }
        }
        (p, sums, lse)
    }

    fn backward<E: From<EvalError>>(
        &self,
        op: &Op,
        operands: &[&Tensor],
        captured: Vec<Tensor>,
        score: &mut Score<'_, E>,
    ) -> Result<Vec<Tensor>, E> {
        let [q, k, v, dout, lse, delta] = operands[..6] else { unreachable!("verified") };
        let parts = &self.parts;
        let raw = self.dot(q, k, &parts.inner, &parts.score)?;
        let mut run = |cotangent: Tensor| {
            score([raw.clone(), cotangent].into_iter().chain(captured.clone()).collect())
        };
        // The score does not depend on its cotangent.
        let scores = run(Tensor::full(&parts.score, &self.sizes(&parts.score), 0.0))?;
        let p = self.zip([&scores[0], lse], |[s, lse]| (s - lse).exp());
        let dp = self.dot(dout, v, &parts.columns, &parts.score)?;
        let centred = self.zip([&dp, delta], |[dp, delta]| dp - delta);
        let dscore = self.zip([&p, &centred], |[p, x]| p * x);
        let draw = run(dscore.clone())?.swap_remove(1);
        let (p, draw) = (self.rounded(p, factor(op, 0)), self.rounded(draw, factor(op, 1)));
        let rest = |x: &Tensor, y: &Tensor| -> Vec<AxisId> {
            x.axes.iter().copied().filter(|a| !y.axes.contains(a)).collect()
        };
        let mut results = vec![
            self.dot(&draw, k, &rest(k, q), &q.axes)?,
            self.dot(&draw, q, &rest(q, k), &k.axes)?,
            self.dot(&p, dout, &rest(dout, v), &v.axes)?,
        ];
        if matches!(op, Op::AttendGrad { full: true, .. }) {
            results.push(dscore);
        }
        Ok(results)
    }

    /// A value as it is multiplied by an operand.
    fn rounded(&self, mut x: Tensor, operand: usize) -> Tensor {
        if self.types[operand].dtype == DType::Bf16 {
            let round = Pointwise::Bf16.def().eval;
            x.data.iter_mut().for_each(|x| *x = round(&[*x]));
        }
        x
    }

    /// A function of two values, over the axes of the score.
    fn zip(&self, operands: [&Tensor; 2], f: impl Fn([f64; 2]) -> f64) -> Tensor {
        let sizes = self.sizes(&self.parts.score);
        let [mut x, y] = operands.map(|x| x.arranged(&self.parts.score, &sizes));
        x.data.iter_mut().zip(y.data).for_each(|(x, y)| *x = f([*x, y]));
        x
    }

    fn dot(
        &self,
        a: &Tensor,
        b: &Tensor,
        axes: &[AxisId],
        result: &[AxisId],
    ) -> Result<Tensor, EvalError> {
        let ty = super::real(result);
        let op = Op::Dot { axes: axes.to_vec() };
        let eval = Eval { op: &op, graph: self.graph, results: &[&ty] };
        Ok((reduce::DOT.eval)(&eval, &[a, b])?.swap_remove(0))
    }

    fn sizes(&self, axes: &[AxisId]) -> Vec<usize> {
        axes.iter().map(|a| self.graph.size(*a) as usize).collect()
    }
}
