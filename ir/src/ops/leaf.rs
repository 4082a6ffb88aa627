//! Leaves: constants, positions, parameters, inputs, noise.

use super::attributes::{axes, axis, close, print_axes, print_axis};
use super::vjp::none;
use super::{Eval, EvalError, OpDef, OpError, free};
use crate::graph::{DType, Graph, InputId, Op, ParamId, Slot, Type};
use crate::philox::{philox, uniform};
use crate::tensor::Tensor;
use crate::text::{self, Parsed};

/// Real constant.
pub const REAL: OpDef = OpDef {
    name: "real",
    print: |op, _| {
        let Op::Real(bits) = op else { unreachable!("row of another op") };
        format!("{:?}", bits.get())
    },
    parse: |_, text| {
        let (text, x) = text::real(text)?;
        close(text, Op::Real(x.into()))
    },
    infer,
    flops: free,
    vjp: none,
    eval,
};
/// Int constant.
pub const INT: OpDef = OpDef {
    name: "int",
    print: |op, _| {
        let Op::Int(i) = op else { unreachable!("row of another op") };
        i.to_string()
    },
    parse: |_, text| {
        let (text, i) = text::integer(text)?;
        close(text, Op::Int(i))
    },
    infer,
    flops: free,
    vjp: none,
    eval,
};
/// Bool constant.
pub const BOOL: OpDef = OpDef {
    name: "bool",
    print: |op, _| {
        let Op::Bool(b) = op else { unreachable!("row of another op") };
        b.to_string()
    },
    parse: |_, text| {
        let (rest, word) = text::word(text)?;
        match word.parse() {
            Ok(b) => close(rest, Op::Bool(b)),
            Err(_) => text::fault(text, "expected `true` or `false`"),
        }
    },
    infer,
    flops: free,
    vjp: none,
    eval,
};
/// Positions along an axis.
pub const POS: OpDef = OpDef {
    name: "pos",
    print: |op, graph| {
        let Op::Pos(axis) = op else { unreachable!("row of another op") };
        print_axis(graph, *axis)
    },
    parse: |graph, text| {
        let (text, axis) = axis(graph, text)?;
        close(text, Op::Pos(axis))
    },
    infer,
    flops: free,
    vjp: none,
    eval,
};
/// A parameter's state.
pub const PARAM: OpDef = OpDef {
    name: "param",
    print: |op, graph| {
        let Op::Param(param, slot) = op else { unreachable!("row of another op") };
        print_param(graph, *param, *slot)
    },
    parse: |graph, text| {
        let (text, (param, slot)) = parse_param(graph, text)?;
        close(text, Op::Param(param, slot))
    },
    infer,
    flops: free,
    vjp: none,
    eval,
};
/// An input.
pub const INPUT: OpDef = OpDef {
    name: "input",
    print: |op, graph| {
        let Op::Input(input) = op else { unreachable!("row of another op") };
        text::print_name(&graph.inputs[input.index()].name)
    },
    parse: |graph, text| {
        let (rest, name) = text::name(text)?;
        match graph.inputs.iter().position(|i| i.name == name) {
            Some(i) => close(rest, Op::Input(InputId(i as u32))),
            None => text::fault(text, format!("there is no input `{name}`")),
        }
    },
    infer,
    flops: free,
    vjp: none,
    eval,
};
/// Counter-based random numbers; ten rounds of two multiplications give four of them.
pub const NOISE: OpDef = OpDef {
    name: "noise",
    print: |op, graph| {
        let Op::Noise { axes, key } = op else { unreachable!("row of another op") };
        format!("{key}: {}", print_axes(graph, ", ", axes))
    },
    parse: |graph, text| {
        let (text, key) = text::integer(text)?;
        let (text, ()) = text::symbol(text, ":")?;
        let (text, axes) = axes(graph, text, ",", "]")?;
        Ok((text, Op::Noise { axes, key }))
    },
    infer,
    flops: |_, graph, _, results| 20 * graph.elements(&results[0].axes),
    vjp: none,
    eval: |e, operands| {
        let Op::Noise { key, .. } = e.op else { unreachable!("row of another op") };
        let word = |i: usize| operands.get(i).map_or(0, |t| t.data[0] as i64 as u32);
        let mut out = e.full(0, 0.0);
        for (i, x) in out.data.iter_mut().enumerate() {
            let counter = [i as u32, word(1), word(2), word(3)];
            *x = uniform(philox([word(0), *key], counter)[0]);
        }
        Ok(vec![out])
    },
};

fn infer(op: &Op, graph: &Graph, operands: &[&Type]) -> Result<Vec<Type>, OpError> {
    let scalar = |dtype| Type { dtype, axes: Vec::new() };
    if let Op::Noise { axes, .. } = op {
        if operands.len() > 4 {
            return Err(OpError::Arity { op: "noise", expected: 4, got: operands.len() });
        }
        for ty in operands {
            if !matches!(ty.dtype, DType::Int { .. }) || !ty.axes.is_empty() {
                let expected = "scalar ints as its key";
                return Err(OpError::DType { op: "noise", expected, got: ty.dtype });
            }
        }
        return Ok(vec![Type { dtype: DType::F32, axes: axes.clone() }]);
    }
    if !operands.is_empty() {
        return Err(OpError::Arity { op: super::def(op).name, expected: 0, got: operands.len() });
    }
    Ok(vec![match op {
        Op::Int(i) => scalar(DType::Int { lo: *i, hi: i.saturating_add(1) }),
        Op::Bool(_) => scalar(DType::Bool),
        Op::Pos(axis) => Type {
            dtype: DType::Int { lo: 0, hi: (graph.size(*axis) as i64).max(1) },
            axes: vec![*axis],
        },
        Op::Param(param, slot) => {
            Type { dtype: slot.dtype(), axes: graph.params[param.index()].axes() }
        }
        Op::Input(input) => graph.inputs[input.index()].ty.clone(),
        _ => scalar(DType::F32),
    }])
}

/// Constants and positions; states and inputs are the interpreter's business.
fn eval(e: &Eval, _: &[&Tensor]) -> Result<Vec<Tensor>, EvalError> {
    let mut out = e.full(0, 0.0);
    match e.op {
        Op::Real(bits) => out.data[0] = bits.get(),
        Op::Int(i) => out.data[0] = *i as f64,
        Op::Bool(b) => out.data[0] = f64::from(*b),
        Op::Pos(_) => out.data.iter_mut().enumerate().for_each(|(i, x)| *x = i as f64),
        other => unreachable!("`{}` is bound, not computed", super::def(other).name),
    }
    Ok(vec![out])
}

/// The text of a parameter's state: its name, and the slot unless that is the weight.
pub(crate) fn print_param(graph: &Graph, param: ParamId, slot: Slot) -> String {
    let name = text::print_name(&graph.params[param.index()].name);
    match slot {
        Slot::Weight => name,
        Slot::Moment1 => format!("{name} moment1"),
        Slot::Moment2 => format!("{name} moment2"),
        Slot::Rounded => format!("{name} rounded"),
    }
}

/// A parameter's state.
pub(crate) fn parse_param<'a>(graph: &Graph, text: &'a str) -> Parsed<'a, (ParamId, Slot)> {
    let (rest, name) = text::name(text)?;
    let Some(i) = graph.params.iter().position(|p| p.name == name) else {
        return text::fault(text, format!("there is no parameter `{name}`"));
    };
    let (rest, first) = text::accept_word(rest, "moment1");
    let (rest, second) = text::accept_word(rest, "moment2");
    let (rest, rounded) = text::accept_word(rest, "rounded");
    let slot = match (first, second, rounded) {
        (true, _, _) => Slot::Moment1,
        (_, true, _) => Slot::Moment2,
        (_, _, true) => Slot::Rounded,
        _ => Slot::Weight,
    };
    Ok((rest, (ParamId(i as u32), slot)))
}
