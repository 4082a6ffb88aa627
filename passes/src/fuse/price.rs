//! The price of a term: picoseconds by the roofline of a device.
//!
//! Scalar functions stay in registers, so they cost operations alone; products, reductions and
//! what the data index pass through memory and start a kernel. A price holds for one term, so that
//! the price of a program is the sum over the terms that it shares out.

use egg::Id;
use gigac_cost::target::Device;
use gigac_ir::graph::{AxisId, Op};
use gigac_ir::pointwise::Pointwise;

use super::attend::Attention;
use super::facts::{Terms, known, listed};
use super::term::{Head, Term};

/// Bytes of an element in memory.
const BYTES: f64 = 4.0;
/// Operations of a random number.
const NOISE: f64 = 60.0;

/// What a device needs for one operation and one byte, in picoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Price {
    product: f64,
    /// Of one operation that is no product.
    pub(crate) vector: f64,
    byte: f64,
    launch: f64,
}

impl Price {
    /// The prices of a device.
    pub(crate) fn new(device: &Device) -> Self {
        let pico = 1e12;
        Self {
            product: pico / (device.product_f32.value * device.product_share.value),
            vector: pico / device.vector.value,
            byte: pico / (device.bandwidth.value * device.bandwidth_share.value),
            launch: pico * device.launch.value,
        }
    }

    /// The price of a term, or none when it has no form in the graph.
    pub(crate) fn term(&self, terms: &Terms, class: Id, term: &Term) -> Option<u64> {
        let size = |id: Id| elements(terms, &known(terms, id).axes);
        let result = || size(class);
        let bytes = |ids: &[Id]| ids.iter().map(|id| size(*id)).sum::<f64>() * BYTES * self.byte;
        Some(match &term.head {
            Head::Axes(_)
            | Head::Affine(..)
            | Head::Value(_)
            | Head::Result(_)
            | Head::Node(_)
            | Head::Real(_)
            | Head::Int(_)
            | Head::Bool(_)
            | Head::Pos => 0,
            Head::Softmax | Head::Loose | Head::Sunk => return None,
            // Kernels read through these.
            Head::Rename | Head::Split | Head::Merge | Head::Slice | Head::Broadcast => 1,
            Head::Map(function) => self.vector(result() * operations(*function)),
            Head::Gather => self.memory(2.0 * result()),
            Head::Sum | Head::Largest => {
                let read = size(term.children[1]);
                whole(self.launch + (read * self.vector).max(bytes(&[term.children[1], class])))
            }
            Head::Dot => self.dot(terms, class, term),
            Head::Attend(number) => {
                self.attention(terms, class, &terms.analysis.attentions[*number as usize])
            }
            Head::Append => whole(self.launch + bytes(term.operands()) + bytes(&[class])),
            Head::Other(number) => match terms.analysis.op(*number) {
                Op::Noise { .. } => self.vector(NOISE * result()),
                Op::Param(..) | Op::Input(_) => 0,
                Op::Cast(_) => self.vector(result()),
                _ => whole(self.launch + bytes(term.operands()) + bytes(&[class])),
            },
        })
    }

    fn vector(&self, operations: f64) -> u64 {
        whole(operations * self.vector)
    }

    fn memory(&self, elements: f64) -> u64 {
        whole(elements * BYTES * self.byte)
    }

    fn dot(&self, terms: &Terms, class: Id, term: &Term) -> u64 {
        let summed = elements(terms, listed(terms, term.children[0]));
        let result = elements(terms, &known(terms, class).axes);
        if listed(terms, term.children[0]).is_empty() {
            return self.vector(result);
        }
        let sizes = term.operands().iter().map(|x| elements(terms, &known(terms, *x).axes));
        let bytes = (sizes.sum::<f64>() + result) * BYTES * self.byte;
        whole(self.launch + (2.0 * summed * result * self.product).max(bytes))
    }

    fn attention(&self, terms: &Terms, class: Id, attention: &Attention) -> u64 {
        let size = |id: Id| elements(terms, &known(terms, id).axes);
        let pairs = size(attention.score);
        let depth = elements(terms, &attention.inner);
        let products = 2.0 * pairs * depth + 2.0 * size(class) * elements(terms, &[attention.keys]);
        // A sink scales the output.
        let scaled = if attention.sink.is_some() { size(class) } else { 0.0 };
        let row = pairs * SOFTMAX + scaled;
        let read = attention.operands().map(size).sum::<f64>();
        let compute = products * self.product + row * self.vector;
        // For a captured product the way back stores the score's cotangent, and two products read it: one
        // product of both would not. A bias that is trained has it stored too, but the way back of a
        // softmax in memory stores no less, so there it decides nothing.
        let product = |id: &Id| terms[*id].iter().any(|term| term.head == Head::Dot);
        let wanted = attention.captured.iter().any(|id| known(terms, *id).active && product(id));
        let back = 2.0 * (self.launch + pairs * BYTES * self.byte);
        let back = if wanted { back } else { 0.0 };
        let memory = (read + size(class)) * BYTES * self.byte;
        whole(self.launch + compute.max(memory) + back) + attention.price
    }
}

/// Operations of the softmax for each score.
const SOFTMAX: f64 = 20.0;

/// Operations of a scalar function; what is free still counts, so that fewer is better.
pub(crate) fn operations(function: Pointwise) -> f64 {
    f64::from(function.def().flops).max(0.01)
}

/// Product of the sizes of axes.
pub(crate) fn elements(terms: &Terms, axes: &[AxisId]) -> f64 {
    terms.analysis.graph.elements(axes) as f64
}

/// Picoseconds, at least one.
fn whole(picoseconds: f64) -> u64 {
    (picoseconds.ceil() as u64).max(1)
}
