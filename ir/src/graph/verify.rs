//! What a well-formed graph is. The verifier reports everything that is wrong.
//!
//! - **References:** axes, parameters, inputs and values exist; repeats have a body, attention has
//!   a score function, nothing else has a region.
//! - **SSA:** every value is defined once, before its uses, in their region or one around it.
//! - **Types:** no axis twice, no absurd size; every result has the type that the op table infers.
//!   A repeat's turn is an int in its axis, carried values keep their type, slices lack the axis.
//!   A score function is closed and pointwise, and has the axes of the raw product.
//! - **Parameters:** each axis once, one start per stored dimension, each spread axis among them.
//!   A state that is read or updated is one that its parameter has.
//! - **Results:** one role each, no role twice; losses and metrics are scalars, gradients and
//!   updates have their parameter's axes, a denominator belongs to a term and depends on no
//!   parameter.

use std::collections::HashSet;

use thiserror::Error;

use super::{AxisId, DType, Graph, NamePart, Node, Op, Param, Region, Role, Slot, Type, ValueId};
use crate::ops::{self, OpError};

/// Most elements of a value: 2⁵², so that prices stay exact in f64 and sums do not overflow.
const MOST_ELEMENTS: u64 = 1 << 52;

/// Something that a well-formed graph does not have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{kind}", .value.map_or_else(String::new, |v| format!("{v}: ")))]
pub struct GraphError {
    /// The value where it shows.
    pub value: Option<ValueId>,
    /// What it is.
    pub kind: GraphErrorKind,
}

/// Kinds of errors in graphs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GraphErrorKind {
    /// An id points outside its table.
    #[error("there is no {0} with this number")]
    Unknown(&'static str),
    /// A value has two definitions.
    #[error("defined twice")]
    Redefined,
    /// A value is used where it is not defined.
    #[error("uses {0}, which is not defined here")]
    Undefined(ValueId),
    /// The operation does not fit its operands.
    #[error(transparent)]
    Op(#[from] OpError),
    /// A state that the parameter does not have.
    #[error("`{name}` has no {slot:?}")]
    State {
        /// The parameter.
        name: String,
        /// The state.
        slot: Slot,
    },
    /// The declared type is not the inferred one.
    #[error("has type `{declared}`, but the operation gives `{inferred}`")]
    Type {
        /// As written.
        declared: String,
        /// As it should be.
        inferred: String,
    },
    /// The wrong number of results.
    #[error("the operation has {expected} results, not {got}")]
    Results {
        /// Number it has.
        expected: usize,
        /// Number of values.
        got: usize,
    },
    /// An axis stands twice where it may stand once.
    #[error("axis `{0}` appears twice")]
    AxisTwice(String),
    /// More elements than any machine holds.
    #[error("has more than 2^52 elements")]
    TooLarge,
    /// A region where none belongs, or none where one does.
    #[error("repeats and attention have a region, other operations have none")]
    Body,
    /// The arguments or results of a region do not match its node.
    #[error("the region has {got} {what}, its node asks for {expected}")]
    Interface {
        /// Arguments or results.
        what: &'static str,
        /// Number asked for.
        expected: usize,
        /// Number there are.
        got: usize,
    },
    /// A parameter's declaration contradicts itself.
    #[error("parameter `{name}`: {what}")]
    Param {
        /// Its name.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Two axes, parameters or inputs of one name.
    #[error("two {what} are called `{name}`")]
    SameName {
        /// What they are.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Not as many roles as results.
    #[error("{results} results have {roles} roles")]
    Roles {
        /// Results of the root.
        results: usize,
        /// Roles.
        roles: usize,
    },
    /// Two results have the same role.
    #[error("a second result has the role {0:?}")]
    RoleTwice(Role),
    /// A result does not fit its role.
    #[error("does not fit its role {role:?}: {what}")]
    Role {
        /// The role.
        role: Role,
        /// What is wrong.
        what: &'static str,
    },
}

impl Graph {
    /// Checks that the graph is well formed.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn verify(&self) -> Result<(), Vec<GraphError>> {
        let mut verifier = Verifier {
            graph: self,
            errors: Vec::new(),
            defined: HashSet::new(),
            visible: HashSet::new(),
            on_params: HashSet::new(),
        };
        verifier.declarations();
        verifier.types();
        // Rules of operations index the tables, so these must hold first.
        if verifier.errors.is_empty() {
            verifier.region(&self.root);
            verifier.results();
        }
        if verifier.errors.is_empty() { Ok(()) } else { Err(verifier.errors) }
    }
}

struct Verifier<'a> {
    graph: &'a Graph,
    errors: Vec<GraphError>,
    defined: HashSet<ValueId>,
    /// Defined in the regions that are open.
    visible: HashSet<ValueId>,
    /// Values that depend on a parameter.
    on_params: HashSet<ValueId>,
}

impl Verifier<'_> {
    fn error(&mut self, value: Option<ValueId>, kind: impl Into<GraphErrorKind>) {
        self.errors.push(GraphError { value, kind: kind.into() });
    }

    fn declarations(&mut self) {
        let graph = self.graph;
        self.unique("axes", graph.axes.iter().map(|a| &a.name));
        self.unique("parameters", graph.params.iter().map(|p| &p.name));
        self.unique("inputs", graph.inputs.iter().map(|i| &i.name));
        for param in &graph.params {
            if let Some(what) = self.param_fault(param) {
                self.error(None, GraphErrorKind::Param { name: param.name.clone(), what });
            }
        }
        for input in &graph.inputs {
            self.type_of(None, &input.ty);
        }
    }

    fn unique<'n>(&mut self, what: &'static str, names: impl Iterator<Item = &'n String>) {
        let mut seen = HashSet::new();
        for name in names {
            if !seen.insert(name) {
                self.error(None, GraphErrorKind::SameName { what, name: name.clone() });
            }
        }
    }

    fn param_fault(&self, param: &Param) -> Option<&'static str> {
        let axes = param.axes();
        let known = |a: &AxisId| a.index() < self.graph.axes.len();
        let stored = &param.stored;
        let in_name = stored.name.iter().flat_map(|part| match part {
            NamePart::Text(_) => Vec::new(),
            NamePart::Number { terms, .. } => terms.iter().map(|(a, _)| *a).collect(),
            NamePart::Choice { axis, .. } => vec![*axis],
        });
        let in_name: Vec<AxisId> = in_name.collect();
        let all = || axes.iter().chain(&stored.spread).chain(&in_name);
        if !all().all(known) {
            return Some("an axis does not exist");
        }
        let distinct: HashSet<&AxisId> = axes.iter().collect();
        if distinct.len() != axes.len() {
            return Some("an axis appears twice");
        }
        if elements(self.graph, &axes).is_none() {
            return Some("more than 2^52 elements");
        }
        if !stored.spread.iter().chain(&in_name).all(|a| axes.contains(a)) {
            return Some("its stored name uses an axis that it lacks");
        }
        let fits = stored.name.iter().all(|part| match part {
            NamePart::Choice { axis, names } => names.len() as u64 == self.graph.size(*axis),
            _ => true,
        });
        if !fits {
            return Some("its stored name needs one choice for each position");
        }
        let spread = |dim: &&Vec<AxisId>| dim.len() == 1 && stored.spread.contains(&dim[0]);
        let dims = param.dims.len();
        let left = dims - param.dims.iter().filter(spread).count();
        let count = stored.from.len();
        (count != left && count != dims).then_some("`from` needs one start per stored dimension")
    }

    fn types(&mut self) {
        for (i, info) in self.graph.values.iter().enumerate() {
            self.type_of(Some(ValueId(i as u32)), &info.ty);
        }
    }

    fn type_of(&mut self, value: Option<ValueId>, ty: &Type) {
        if !ty.axes.iter().all(|a| a.index() < self.graph.axes.len()) {
            return self.error(value, GraphErrorKind::Unknown("axis"));
        }
        self.once(value, &ty.axes);
        if elements(self.graph, &ty.axes).is_none() {
            self.error(value, GraphErrorKind::TooLarge);
        }
    }

    fn once(&mut self, value: Option<ValueId>, axes: &[AxisId]) {
        for (i, axis) in axes.iter().enumerate() {
            if axes[..i].contains(axis) {
                let name = self.graph.axes[axis.index()].name.clone();
                self.error(value, GraphErrorKind::AxisTwice(name));
            }
        }
    }

    fn region(&mut self, region: &Region) {
        let mut own = Vec::new();
        for value in &region.args {
            self.define(*value, &mut own);
        }
        for node in &region.nodes {
            self.node(node);
            for value in &node.results {
                self.define(*value, &mut own);
            }
            if self.depends(node) {
                self.on_params.extend(&node.results);
            }
        }
        // The root's results are checked with their roles, while its values are visible.
        if !std::ptr::eq(region, &self.graph.root) {
            region.results.iter().for_each(|v| self.used(None, *v));
            own.iter().for_each(|v| _ = self.visible.remove(v));
        }
    }

    fn define(&mut self, value: ValueId, own: &mut Vec<ValueId>) {
        if value.index() >= self.graph.values.len() {
            return self.error(None, GraphErrorKind::Unknown("value"));
        }
        if !self.defined.insert(value) {
            self.error(Some(value), GraphErrorKind::Redefined);
        }
        self.visible.insert(value);
        own.push(value);
    }

    fn used(&mut self, at: Option<ValueId>, value: ValueId) {
        if !self.visible.contains(&value) {
            self.error(at, GraphErrorKind::Undefined(value));
        }
    }

    fn node(&mut self, node: &Node) {
        let at = node.results.first().copied();
        let before = self.errors.len();
        node.operands.iter().for_each(|v| self.used(at, *v));
        self.references(at, &node.op);
        match (&node.op, &node.region) {
            _ if self.errors.len() > before => {}
            (Op::Repeat { axis, carried, .. }, Some(body)) => {
                self.repeat(node, body, (*axis, *carried as usize));
            }
            (Op::Attend { .. } | Op::AttendGrad { .. }, Some(score)) => {
                self.attention(node, score);
            }
            (Op::Repeat { .. } | Op::Attend { .. } | Op::AttendGrad { .. }, None)
            | (_, Some(_)) => self.error(at, GraphErrorKind::Body),
            _ => {
                let types: Vec<&Type> = node.operands.iter().map(|v| self.graph.ty(*v)).collect();
                match ops::infer(&node.op, self.graph, &types) {
                    Ok(types) => self.results_of(node, &types),
                    Err(error) => self.error(at, error),
                }
            }
        }
    }

    /// Whether the tables have what the operation names, and lists name no axis twice.
    fn references(&mut self, at: Option<ValueId>, op: &Op) {
        let (mut axes, list) = attribute_axes(op);
        axes.extend(list);
        if !axes.iter().all(|a| a.index() < self.graph.axes.len()) {
            return self.error(at, GraphErrorKind::Unknown("axis"));
        }
        self.once(at, list);
        if let Op::Param(p, slot) = op {
            match self.graph.params.get(p.index()) {
                None => self.error(at, GraphErrorKind::Unknown("parameter")),
                Some(param) if !param.has(*slot) => {
                    let (name, slot) = (param.name.clone(), *slot);
                    self.error(at, GraphErrorKind::State { name, slot });
                }
                Some(_) => {}
            }
        }
        if matches!(op, Op::Input(i) if i.index() >= self.graph.inputs.len()) {
            self.error(at, GraphErrorKind::Unknown("input"));
        }
    }

    fn results_of(&mut self, node: &Node, types: &[Type]) {
        let at = node.results.first().copied();
        if types.len() != node.results.len() {
            let (expected, got) = (types.len(), node.results.len());
            return self.error(at, GraphErrorKind::Results { expected, got });
        }
        for (value, inferred) in node.results.iter().zip(types) {
            self.declared(*value, inferred);
        }
    }

    fn declared(&mut self, value: ValueId, inferred: &Type) {
        let Some(info) = self.graph.values.get(value.index()) else { return };
        if info.ty != *inferred {
            let print = |ty| super::print::print_type(self.graph, ty);
            let (declared, inferred) = (print(&info.ty), print(inferred));
            self.error(Some(value), GraphErrorKind::Type { declared, inferred });
        }
    }

    fn repeat(&mut self, node: &Node, body: &Region, (axis, carried): (AxisId, usize)) {
        let at = node.results.first().copied();
        let operands = node.operands.len();
        let mut count = |what, expected: usize, got: usize, fits: bool| {
            if !fits {
                self.error(at, GraphErrorKind::Interface { what, expected, got });
            }
            fits
        };
        let arguments = body.args.len();
        if !count("carried operands", carried, operands, operands >= carried)
            | !count("arguments", 1 + operands, arguments, arguments == 1 + operands)
            | !count("results", carried, body.results.len(), body.results.len() >= carried)
        {
            return;
        }
        if body.args.iter().chain(&body.results).any(|v| v.index() >= self.graph.values.len()) {
            return self.error(at, GraphErrorKind::Unknown("value"));
        }
        let hi = (self.graph.size(axis) as i64).max(1);
        self.declared(body.args[0], &Type { dtype: DType::Int { lo: 0, hi }, axes: Vec::new() });
        for (i, (arg, operand)) in body.args[1..].iter().zip(&node.operands).enumerate() {
            let mut ty = self.graph.ty(*operand).clone();
            if i >= carried {
                ty.axes.retain(|a| *a != axis);
            }
            self.declared(*arg, &ty);
            if self.on_params.contains(operand) {
                self.on_params.insert(*arg);
            }
        }
        self.region(body);
        match ops::repeat::results(&node.op, self.graph, &node.operands, body) {
            Ok(types) => self.results_of(node, &types),
            Err(error) => self.error(at, error),
        }
    }

    fn attention(&mut self, node: &Node, score: &Region) {
        let at = node.results.first().copied();
        let types: Vec<&Type> = node.operands.iter().map(|v| self.graph.ty(*v)).collect();
        let arguments = match ops::attend::arguments(&node.op, self.graph, &types) {
            Ok(arguments) => arguments,
            Err(error) => return self.error(at, error),
        };
        let (expected, got) = (arguments.len(), score.args.len());
        if expected != got {
            return self.error(at, GraphErrorKind::Interface { what: "arguments", expected, got });
        }
        let made = score.nodes.iter().flat_map(|n| &n.results);
        let mut named = score.args.iter().chain(&score.results).chain(made);
        if named.any(|v| v.index() >= self.graph.values.len()) {
            return self.error(at, GraphErrorKind::Unknown("value"));
        }
        for (arg, ty) in score.args.iter().zip(&arguments) {
            self.declared(*arg, ty);
        }
        let outside = std::mem::take(&mut self.visible);
        self.region(score);
        self.visible = outside;
        match ops::attend::results(&node.op, self.graph, &types, score) {
            Ok(types) => self.results_of(node, &types),
            Err(error) => self.error(at, error),
        }
    }

    fn depends(&self, node: &Node) -> bool {
        let through = |values: &[ValueId]| values.iter().any(|v| self.on_params.contains(v));
        matches!(node.op, Op::Param(..))
            || through(&node.operands)
            || node.region.as_ref().is_some_and(|body| through(&body.results))
    }

    fn results(&mut self) {
        let (results, roles) = (self.graph.root.results.len(), self.graph.roles.len());
        if results != roles {
            return self.error(None, GraphErrorKind::Roles { results, roles });
        }
        let mut seen = HashSet::new();
        for (role, value) in self.graph.results() {
            if !seen.insert(role) {
                self.error(Some(value), GraphErrorKind::RoleTwice(role.clone()));
            }
            if !self.visible.contains(&value) {
                self.error(None, GraphErrorKind::Undefined(value));
            } else if let Some(what) = self.role_fault(role, value) {
                self.error(Some(value), GraphErrorKind::Role { role: role.clone(), what });
            }
        }
    }

    fn role_fault(&self, role: &Role, value: ValueId) -> Option<&'static str> {
        let ty = self.graph.ty(value);
        let scalar = ty.axes.is_empty();
        match role {
            Role::Output(_) => None,
            Role::LossTerm(_) | Role::Loss if !ty.dtype.is_real() => Some("it is not a real"),
            Role::Gradient(param) | Role::Update(param, _) => {
                let Some(param) = self.graph.params.get(param.index()) else {
                    return Some("there is no such parameter");
                };
                if let Role::Update(_, slot) = role {
                    if !param.has(*slot) {
                        return Some("the parameter has no such state");
                    }
                    if ty.dtype != slot.dtype() {
                        return Some("its elements are not those of the state");
                    }
                }
                let axes: HashSet<AxisId> = param.axes().into_iter().collect();
                let own: HashSet<AxisId> = ty.axes.iter().copied().collect();
                (axes != own).then_some("its axes are not the parameter's")
            }
            _ if !scalar => Some("it is not a scalar"),
            Role::LossPer(i) if self.graph.result(&Role::LossTerm(*i)).is_none() => {
                Some("there is no term of this number")
            }
            Role::LossPer(_) if self.on_params.contains(&value) => {
                Some("it depends on a parameter")
            }
            _ => None,
        }
    }
}

/// Number of elements, when it is not absurd.
fn elements(graph: &Graph, axes: &[AxisId]) -> Option<u64> {
    let product = axes.iter().try_fold(1u64, |n, a| n.checked_mul(graph.size(*a)))?;
    (product <= MOST_ELEMENTS).then_some(product)
}

/// Axes that an operation names: single ones, and a list in which each may stand once.
fn attribute_axes(op: &Op) -> (Vec<AxisId>, &[AxisId]) {
    match op {
        Op::Pos(axis) | Op::Gather { axis } | Op::Repeat { axis, .. } => (vec![*axis], &[]),
        Op::Rename { from, to } | Op::Top { axis: from, to } => (vec![*from, *to], &[]),
        Op::Split { from, to } => (vec![*from], to),
        Op::Merge { from, to } => (vec![*to], from),
        Op::Slice { axis, to, .. } => ([Some(*axis), *to].into_iter().flatten().collect(), &[]),
        Op::Pad { axis, to, .. } => ([*axis, Some(*to)].into_iter().flatten().collect(), &[]),
        Op::Cat { pieces, to } => {
            (pieces.iter().copied().chain([Some(*to)]).flatten().collect(), &[])
        }
        Op::Scatter { axes, to } => (vec![*to], axes),
        Op::Attend { keys, inner } | Op::AttendGrad { keys, inner, .. } => (vec![*keys], inner),
        Op::Broadcast { axes }
        | Op::Reduce { axes, .. }
        | Op::Dot { axes }
        | Op::Noise { axes, .. } => (Vec::new(), axes),
        Op::Real(_)
        | Op::Int(_)
        | Op::Bool(_)
        | Op::Param(..)
        | Op::Input(_)
        | Op::Pointwise(_)
        | Op::Cast(_) => (Vec::new(), &[]),
    }
}
