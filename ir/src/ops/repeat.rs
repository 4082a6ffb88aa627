//! Repeated regions.

use super::attributes::{axis, close, print_axis};
use super::{OpDef, OpError, need};
use crate::graph::{Graph, Op, Region, Type, ValueId};
use crate::text;

/// A region run once per position of an axis.
pub const REPEAT: OpDef = OpDef {
    name: "repeat",
    print: |op, graph| {
        let Op::Repeat { axis, reversed, .. } = op else { unreachable!("row of another op") };
        let axis = print_axis(graph, *axis);
        if *reversed { format!("{axis}, reversed") } else { axis }
    },
    parse: |graph, text| {
        let (text, axis) = axis(graph, text)?;
        let (text, reversed) = text::accept(text, ",");
        let text = if reversed { text::symbol(text, "reversed")?.0 } else { text };
        // The number of carried values follows from the lists that stand behind.
        close(text, Op::Repeat { axis, reversed, carried: 0 })
    },
    infer: |_, _, _| panic!("a repeat is typed with its region, by `repeat::results`"),
    flops: super::free,
    vjp: |_, _| panic!("a repeat is differentiated with its region"),
    eval: |_, _| panic!("a repeat is evaluated with its region"),
};

/// Types of the results of a repeat: its carried values, then its stacked results with the axis
/// in front.
///
/// # Errors
/// When a carried value is not a real or changes its type, or a stacked operand lacks the axis.
pub fn results(
    op: &Op,
    graph: &Graph,
    operands: &[ValueId],
    region: &Region,
) -> Result<Vec<Type>, OpError> {
    let Op::Repeat { axis, carried, .. } = op else { unreachable!("row of another op") };
    let carried = *carried as usize;
    for stacked in &operands[carried..] {
        need("repeat", graph, graph.ty(*stacked), *axis)?;
    }
    let mut types = Vec::new();
    for (i, result) in region.results.iter().enumerate() {
        let ty = graph.ty(*result).clone();
        if i < carried {
            let init = graph.ty(operands[i]);
            if !init.dtype.is_real() || ty.dtype != init.dtype || !same_axes(init, &ty) {
                return Err(OpError::Carried);
            }
            types.push(init.clone());
        } else {
            let axes = [*axis].into_iter().chain(ty.axes).collect();
            types.push(Type { dtype: ty.dtype, axes });
        }
    }
    Ok(types)
}

fn same_axes(a: &Type, b: &Type) -> bool {
    a.axes.len() == b.axes.len() && a.axes.iter().all(|x| b.has(*x))
}
