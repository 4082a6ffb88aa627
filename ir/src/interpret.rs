//! The reference interpreter: what a graph means, in f64, one operation after the other.
//!
//! Slow and exact. Passes and kernels are judged by it. Only casts to bf16 round.

use std::collections::HashMap;
use std::rc::Rc;

use thiserror::Error;

pub use crate::bindings::Bindings;
use crate::graph::{Graph, InputId, Node, Op, ParamId, Region, Slot, Type, ValueId};
use crate::ops::{self, Eval, EvalError};
use crate::tensor::Tensor;

/// Why a graph has no value for some bindings.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum InterpretError {
    /// Nothing is bound to a parameter or input.
    #[error("nothing is bound to `{0}`")]
    Unbound(String),
    /// The wrong number of elements is bound.
    #[error("`{name}` has {expected} elements, not {got}")]
    Count {
        /// Parameter or input.
        name: String,
        /// Number it has.
        expected: u64,
        /// Number bound.
        got: usize,
    },
    /// An element of an int input lies outside the declared range.
    #[error("`{name}` holds {value}, which is not in [{lo}, {hi})")]
    Range {
        /// Input.
        name: String,
        /// The element.
        value: f64,
        /// Smallest legal value.
        lo: i64,
        /// One past the largest legal value.
        hi: i64,
    },
    /// An operation has no value.
    #[error(transparent)]
    Eval(#[from] EvalError),
}

/// The results of a graph, in the order of its roles.
///
/// # Errors
/// When something is not bound, or bound to what its declaration does not allow.
pub fn interpret(graph: &Graph, bindings: &Bindings) -> Result<Vec<Tensor>, InterpretError> {
    let mut machine = Machine { graph, bindings, scopes: vec![HashMap::new()] };
    machine.run(&graph.root)?;
    Ok(graph.root.results.iter().map(|v| machine.read(*v).as_ref().clone()).collect())
}

struct Machine<'a> {
    graph: &'a Graph,
    bindings: &'a Bindings,
    /// Values of the regions being run, the root first.
    scopes: Vec<HashMap<ValueId, Rc<Tensor>>>,
}

impl Machine<'_> {
    fn run(&mut self, region: &Region) -> Result<(), InterpretError> {
        for node in &region.nodes {
            let results = match (&node.op, &node.region) {
                (Op::Param(param, slot), _) => vec![self.param(*param, *slot)?],
                (Op::Input(input), _) => vec![self.input(*input)?],
                (Op::Repeat { .. }, Some(region)) => self.repeat(node, region)?,
                (_, Some(score)) => self.attention(node, score)?,
                _ => self.node(node)?,
            };
            for (value, tensor) in node.results.iter().zip(results) {
                self.bind(*value, Rc::new(tensor));
            }
        }
        Ok(())
    }

    fn node(&self, node: &Node) -> Result<Vec<Tensor>, InterpretError> {
        let operands: Vec<Rc<Tensor>> = node.operands.iter().map(|v| self.read(*v)).collect();
        let operands: Vec<&Tensor> = operands.iter().map(Rc::as_ref).collect();
        let results: Vec<&Type> = node.results.iter().map(|v| self.graph.ty(*v)).collect();
        let eval = Eval { op: &node.op, graph: self.graph, results: &results };
        Ok((ops::def(&node.op).eval)(&eval, &operands)?)
    }

    fn attention(&mut self, node: &Node, score: &Region) -> Result<Vec<Tensor>, InterpretError> {
        let operands: Vec<Rc<Tensor>> = node.operands.iter().map(|v| self.read(*v)).collect();
        let operands: Vec<&Tensor> = operands.iter().map(Rc::as_ref).collect();
        let graph = self.graph;
        let types: Vec<&Type> = node.operands.iter().map(|v| graph.ty(*v)).collect();
        ops::attend::value(graph, &node.op, &types, &operands, &mut |arguments| {
            self.scopes.push(HashMap::new());
            for (arg, x) in score.args.iter().zip(arguments) {
                self.bind(*arg, Rc::new(x));
            }
            self.run(score)?;
            let results = score.results.iter().map(|v| self.read(*v).as_ref().clone()).collect();
            self.scopes.pop();
            Ok(results)
        })
    }

    fn repeat(&mut self, node: &Node, region: &Region) -> Result<Vec<Tensor>, InterpretError> {
        let Op::Repeat { axis, reversed, carried } = node.op else {
            unreachable!("only a repeat has a region")
        };
        let carried = carried as usize;
        let operands: Vec<Rc<Tensor>> = node.operands.iter().map(|v| self.read(*v)).collect();
        let mut state = operands[..carried].to_vec();
        let mut stacks: Vec<Tensor> =
            node.results[carried..].iter().map(|v| self.zeros(self.graph.ty(*v))).collect();
        let count = self.graph.size(axis) as usize;
        for turn in 0..count {
            let turn = if reversed { count - 1 - turn } else { turn };
            self.scopes.push(HashMap::new());
            self.bind(region.args[0], Rc::new(Tensor::scalar(turn as f64)));
            for (arg, x) in region.args[1..].iter().zip(&state) {
                self.bind(*arg, x.clone());
            }
            for (arg, x) in region.args[1 + carried..].iter().zip(&operands[carried..]) {
                self.bind(*arg, Rc::new(x.slice(axis, turn)));
            }
            self.run(region)?;
            state = region.results[..carried].iter().map(|v| self.read(*v)).collect();
            for (stack, v) in stacks.iter_mut().zip(&region.results[carried..]) {
                let slice = self.read(*v);
                let rest = stack.slice(axis, 0);
                let slice = slice.arranged(&rest.axes, &rest.sizes);
                let stride = stack.data.len() / count;
                stack.data[turn * stride..][..stride].copy_from_slice(&slice.data);
            }
            self.scopes.pop();
        }
        let arrange = |(v, x): (&ValueId, Rc<Tensor>)| {
            let axes = &self.graph.ty(*v).axes;
            x.arranged(axes, &self.sizes(axes))
        };
        let finals = node.results.iter().zip(state).map(arrange).collect::<Vec<_>>();
        Ok(finals.into_iter().chain(stacks).collect())
    }

    fn param(&self, param: ParamId, slot: Slot) -> Result<Tensor, InterpretError> {
        let axes = self.graph.params[param.index()].axes();
        let data = self.bindings.state(self.graph, param, slot)?;
        Ok(Tensor { sizes: self.sizes(&axes), axes, data })
    }

    fn input(&self, input: InputId) -> Result<Tensor, InterpretError> {
        let axes = self.graph.inputs[input.index()].ty.axes.clone();
        let data = self.bindings.input(self.graph, input)?;
        Ok(Tensor { sizes: self.sizes(&axes), axes, data })
    }

    fn zeros(&self, ty: &Type) -> Tensor {
        Tensor::full(&ty.axes, &self.sizes(&ty.axes), 0.0)
    }

    fn sizes(&self, axes: &[crate::graph::AxisId]) -> Vec<usize> {
        axes.iter().map(|a| self.graph.size(*a) as usize).collect()
    }

    fn bind(&mut self, value: ValueId, tensor: Rc<Tensor>) {
        let scope = self.scopes.last_mut().expect("the root's scope is open");
        scope.insert(value, tensor);
    }

    fn read(&self, value: ValueId) -> Rc<Tensor> {
        let found = self.scopes.iter().rev().find_map(|s| s.get(&value));
        found.unwrap_or_else(|| panic!("{value} is used before it is defined")).clone()
    }
}
