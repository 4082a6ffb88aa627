//! Forward graphs under construction, and the law that they must satisfy.

use std::collections::BTreeMap;

use gigac_ir::graph::{
    AxisId, Builder, DType, Feed, Graph, Init, Input, InputId, Op, Param, ParamId, Role, Slot,
    Stored, Type, ValueId,
};
use gigac_ir::interpret::{Bindings, interpret};
use gigac_ir::kernel::Reduction;
use gigac_ir::philox::{philox, uniform};
use gigac_ir::pointwise::Pointwise;
use gigac_ir::tensor::Tensor;
use gigac_passes::decompose::attention;
use gigac_passes::differentiate::differentiate;
use gigac_passes::simplify::simplify;

/// A forward graph under construction, with values for its parameters.
pub(crate) struct Case {
    pub(crate) b: Builder,
    pub(crate) bindings: Bindings,
}

impl Case {
    pub(crate) fn new() -> Self {
        Self { b: Builder::new(Graph::new("law")), bindings: Bindings::default() }
    }

    pub(crate) fn axis(&mut self, name: &str, size: u64) -> AxisId {
        self.b.graph.add_axis(name, size)
    }

    /// A parameter with values spread over `[lo, hi)`, no two of them close.
    pub(crate) fn param(&mut self, axes: &[AxisId], lo: f64, hi: f64) -> ValueId {
        let id = ParamId(self.b.graph.params.len() as u32);
        self.b.graph.params.push(Param {
            name: format!("p{}", id.0),
            dims: axes.iter().map(|a| vec![*a]).collect(),
            init: Init::Constant(0.0),
            lr: 1.0,
            decay: 1.0,
            frozen: false,
            rounded: false,
            stored: Stored::plain(&format!("p{}", id.0), axes.len()),
            span: None,
        });
        let count = self.b.graph.elements(axes) as u32;
        let spread = (0..count).map(|i| {
            let place = f64::from((i * 7 + 3) % count.max(1)) + 0.3 * random(id.0, i);
            lo + (hi - lo) * (place + 0.1) / (f64::from(count) + 0.2)
        });
        self.bindings.params.insert((id, Slot::Weight), spread.collect());
        self.b.op(Op::Param(id, Slot::Weight), &[]).unwrap()
    }

    pub(crate) fn input(&mut self, axes: &[AxisId], dtype: DType, data: Vec<f64>) -> ValueId {
        let id = InputId(self.b.graph.inputs.len() as u32);
        let ty = Type { dtype, axes: axes.to_vec() };
        let name = format!("i{}", id.0);
        self.b.graph.inputs.push(Input { name, ty, feed: Feed::Data, span: None });
        self.bindings.inputs.insert(id, data);
        self.b.op(Op::Input(id), &[]).unwrap()
    }

    pub(crate) fn op(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        self.b.op(op, operands).unwrap()
    }

    pub(crate) fn map(&mut self, function: Pointwise, operands: &[ValueId]) -> ValueId {
        self.b.map(function, operands).unwrap()
    }

    pub(crate) fn sum(&mut self, x: ValueId) -> ValueId {
        let axes = self.b.ty(x).axes.clone();
        self.op(Op::Reduce { op: Reduction::Sum, axes }, &[x])
    }

    /// The sum of a value with a random weight for each element.
    pub(crate) fn weighed(&mut self, x: ValueId) -> ValueId {
        let (axes, key) = (self.b.ty(x).axes.clone(), 77);
        let weights = self.op(Op::Noise { axes, key }, &[]);
        let product = self.map(Pointwise::Mul, &[x, weights]);
        self.sum(product)
    }

    /// Checks the law for the loss `Σ weight · x`.
    pub(crate) fn check(mut self, x: ValueId) {
        let loss = self.weighed(x);
        self.b.result(Role::LossTerm(0), loss);
        check(&self.b.finish(), &self.bindings, 1e-6, 1e-5);
    }
}

pub(crate) fn random(key: u32, i: u32) -> f64 {
    uniform(philox([key, 1], [i, 0, 0, 0])[0])
}

pub(crate) fn by_role(graph: &Graph, bindings: &Bindings) -> BTreeMap<Role, Tensor> {
    let values = interpret(graph, bindings).unwrap();
    graph.roles.iter().cloned().zip(values).collect()
}

/// The loss of a forward graph: terms over their denominators.
fn loss(graph: &Graph, bindings: &Bindings) -> f64 {
    let results = by_role(graph, bindings);
    let term = |(role, x): (&Role, &Tensor)| match role {
        Role::LossTerm(i) => {
            x.data[0] / results.get(&Role::LossPer(*i)).map_or(1.0, |per| per.data[0])
        }
        _ => 0.0,
    };
    results.iter().map(term).sum()
}

/// Printing and reading is the identity up to the numbers of values, and verified graphs give
/// verified graphs.
pub(crate) fn round_trip(graph: &Graph) {
    if let Err(errors) = graph.verify() {
        panic!("{errors:?} in\n{graph}");
    }
    let text = graph.to_string();
    let read = Graph::parse(&text).unwrap_or_else(|e| panic!("{e} in\n{text}"));
    assert_eq!(read.to_string(), text);
    assert_eq!(Graph::parse(&read.to_string()).unwrap(), read);
    read.verify().unwrap();
}

pub(crate) fn check(forward: &Graph, bindings: &Bindings, step: f64, tolerance: f64) {
    let joint = differentiate(forward, 1);
    round_trip(forward);
    round_trip(&joint);
    round_trip(&simplify(joint.clone()));
    let results = by_role(&joint, bindings);
    for (role, value) in by_role(&simplify(joint.clone()), bindings) {
        assert_eq!(value.data, results[&role].data, "simplification changed {role:?}");
    }
    for (role, value) in by_role(&attention(joint.clone()), bindings) {
        let value = value.arranged(&results[&role].axes, &results[&role].sizes);
        for (a, b) in value.data.iter().zip(&results[&role].data) {
            assert!((a - b).abs() <= 1e-9 * a.abs().max(1.0), "decomposed {role:?}: {a} {b}");
        }
    }
    // Simplified first, contributions may be added in another order.
    let simple = simplify(differentiate(&simplify(forward.clone()), 1));
    for (role, value) in by_role(&simple, bindings) {
        for (a, b) in value.data.iter().zip(&results[&role].data) {
            assert!((a - b).abs() <= 1e-9 * a.abs().max(1.0), "{role:?}: {a} {b}");
        }
    }
    let whole = loss(forward, bindings);
    assert!((results[&Role::Loss].data[0] - whole).abs() <= 1e-12 * whole.abs().max(1.0));
    for (i, param) in forward.params.iter().enumerate() {
        let id = ParamId(i as u32);
        let gradient = &results[&Role::Gradient(id)];
        let sizes: Vec<usize> = param.axes().iter().map(|a| forward.size(*a) as usize).collect();
        let gradient = gradient.arranged(&param.axes(), &sizes);
        for (k, got) in gradient.data.iter().enumerate() {
            let mut moved = bindings.clone();
            let mut at = |by: f64| {
                let data = moved.params.get_mut(&(id, Slot::Weight)).unwrap();
                data[k] = bindings.params[&(id, Slot::Weight)][k] + by;
                loss(forward, &moved)
            };
            let expected = (at(step) - at(-step)) / (2.0 * step);
            assert!(
                (got - expected).abs() <= tolerance * expected.abs().max(1.0),
                "{}[{k}]: gradient {got}, difference quotient {expected}",
                param.name
            );
        }
    }
}

/// Checks the law with a cotangent that varies along all axes, or with a uniform one.
pub(crate) fn finish(mut case: Case, y: ValueId, uniform: bool) {
    if uniform {
        // Squared, so that the uniform cotangent is not the whole gradient.
        let loss = case.sum(y);
        let loss = case.map(Pointwise::Mul, &[loss, loss]);
        case.b.result(Role::LossTerm(0), loss);
        check(&case.b.finish(), &case.bindings, 1e-6, 1e-5);
    } else {
        case.check(y);
    }
}
