//! What people call the buffers of a plan, and where in the model their bytes come from.

use std::collections::{HashMap, HashSet};

use gigac_ir::graph::{Graph, Op, ParamId, Role, Slot, Span, ValueId};

/// The values of a program that have names of their own.
pub(super) struct Names<'g> {
    graph: &'g Graph,
    states: HashMap<ValueId, (ParamId, Slot)>,
    gradients: HashMap<ValueId, ParamId>,
}

impl<'g> Names<'g> {
    pub(super) fn of(graph: &'g Graph) -> Self {
        let read = graph.root.nodes.iter().filter_map(|node| match node.op {
            Op::Param(param, slot) => Some((*node.results.first()?, (param, slot))),
            _ => None,
        });
        let mut states: HashMap<ValueId, (ParamId, Slot)> = read.collect();
        let known: HashSet<(ParamId, Slot)> = states.values().copied().collect();
        states.extend(graph.results().filter_map(|(role, value)| match role {
            Role::Update(param, slot) => {
                Some((value, (*param, *slot))).filter(|(_, state)| !known.contains(state))
            }
            _ => None,
        }));
        let gradients = graph.results().filter_map(|(role, value)| match role {
            Role::Gradient(param) => Some((value, *param)),
            _ => None,
        });
        Self { graph, states, gradients: gradients.collect() }
    }

    /// The name of a buffer by the values that lie in it, in the order of their numbers: what the
    /// state of a parameter is called, or its gradient, or a name of the model's text, or else a number.
    pub(super) fn name(&self, values: &[ValueId]) -> String {
        let graph = self.graph;
        if let Some((param, slot)) = self.state(values) {
            let name = &graph.params[param.index()].name;
            return match slot {
                Slot::Weight => name.clone(),
                Slot::Moment1 => format!("{name}, first moment"),
                Slot::Moment2 => format!("{name}, second moment"),
                Slot::Rounded => format!("{name}, in bf16"),
            };
        }
        if let Some(param) = self.gradient(values) {
            return format!("d {}", graph.params[param.index()].name);
        }
        let named = values.iter().find_map(|v| graph.values[v.index()].name.clone());
        named.unwrap_or_else(|| values.first().map_or_else(String::new, ValueId::to_string))
    }

    /// Where the model declares the parameter of a state or gradient, or else the expression that
    /// the bytes of a buffer are first the value of.
    pub(super) fn source(&self, values: &[ValueId]) -> Option<Span> {
        let param = self.state(values).map(|(param, _)| param).or_else(|| self.gradient(values));
        match param {
            Some(param) => self.graph.params[param.index()].span,
            None => values.iter().find_map(|v| self.graph.values[v.index()].span),
        }
    }

    fn state(&self, values: &[ValueId]) -> Option<(ParamId, Slot)> {
        values.iter().find_map(|v| self.states.get(v).copied())
    }

    fn gradient(&self, values: &[ValueId]) -> Option<ParamId> {
        values.iter().find_map(|v| self.gradients.get(v).copied())
    }
}
