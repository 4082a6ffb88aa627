//! The text of attributes: what stands between `[` and `]` after an operation's name.

use crate::graph::{AxisId, DType, Graph, Op};
use crate::text::{Parsed, accept, blank, fault, joined, list, name, print_name, symbol, word};

/// Reads the attributes of an operation, up to and with `]`.
pub type Reader = for<'a> fn(&Graph, &'a str) -> Parsed<'a, Op>;

/// An axis by its name.
pub(crate) fn axis<'a>(graph: &Graph, text: &'a str) -> Parsed<'a, AxisId> {
    let (rest, found) = name(text)?;
    match graph.axes.iter().position(|a| a.name == found) {
        Some(i) => Ok((rest, AxisId(i as u32))),
        None => fault(blank(text), format!("there is no axis `{found}`")),
    }
}

/// Axes with a separator between them, up to a closing mark.
pub(crate) fn axes<'a>(
    graph: &Graph,
    text: &'a str,
    separator: &str,
    end: &str,
) -> Parsed<'a, Vec<AxisId>> {
    list(text, separator, end, |t| axis(graph, t))
}

/// An axis, or nothing where `_` stands.
pub(crate) fn maybe<'a>(graph: &Graph, text: &'a str) -> Parsed<'a, Option<AxisId>> {
    match accept(text, "_") {
        (rest, true) => Ok((rest, None)),
        (text, false) => axis(graph, text).map(|(rest, a)| (rest, Some(a))),
    }
}

/// The rest of the attributes, which is nothing.
pub(crate) fn close(text: &str, op: Op) -> Parsed<'_, Op> {
    symbol(text, "]").map(|(rest, ())| (rest, op))
}

/// An element type.
pub(crate) fn dtype(text: &str) -> Parsed<'_, DType> {
    let (rest, found) = word(text)?;
    match found {
        "f32" => Ok((rest, DType::F32)),
        "bf16" => Ok((rest, DType::Bf16)),
        "bool" => Ok((rest, DType::Bool)),
        "int" => {
            let (rest, ()) = symbol(rest, "(")?;
            let (rest, lo) = crate::text::integer(rest)?;
            let (rest, ()) = symbol(rest, ",")?;
            let (rest, hi) = crate::text::integer(rest)?;
            let (rest, ()) = symbol(rest, ")")?;
            Ok((rest, DType::Int { lo, hi }))
        }
        _ => fault(blank(text), "expected `f32`, `bf16`, `bool` or `int(…)`"),
    }
}

/// The text of an axis.
pub(crate) fn print_axis(graph: &Graph, axis: AxisId) -> String {
    print_name(&graph.axes[axis.index()].name)
}

/// The text of axes.
pub(crate) fn print_axes(graph: &Graph, separator: &str, axes: &[AxisId]) -> String {
    joined(separator, axes.iter().map(|a| print_axis(graph, *a)))
}

/// The text of an axis that may be absent.
pub(crate) fn print_maybe(graph: &Graph, axis: Option<AxisId>) -> String {
    axis.map_or_else(|| "_".to_owned(), |a| print_axis(graph, a))
}
