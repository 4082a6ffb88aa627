//! Places every buffer in one arena, and what is offloaded in that of the host, and writes the plan.
//!
//! States lie first, at addresses that depend on the parameters alone, so that all plans of a
//! program share them. Everything else gets an offset by lifetime: a buffer touched inside a loop
//! that began outside it lives as long as the loop; a buffer of one turn lives within it. Values that
//! lie over others (see `reuse`) share their buffer. Carried values have two slots in rotation,
//! or one when the next value lies over the last one.

mod arena;
mod interpret;
mod names;
mod offload;
mod walk;

use gigac_ir::graph::{Feed, Graph, NamePart, Param, Role, Slot, Span};
use gigac_ir::kernel::{Access, Kernel};
use gigac_ir::plan::{
    ALIGNMENT, Argument, COMPUTE, COPIES, Item, KernelInfo, Memory, Plan, PlanInput, PlanParam,
    PlanResult, State,
};

use crate::form::{Formed, Launch, Unit};
use crate::pass::{Need, Pass, Report, Run, Scope};

/// The pass.
pub const PLACE: Pass = Pass {
    name: "place",
    about: "every buffer gets an address in one arena",
    need: Need::Necessary("kernels need addresses"),
    scope: Scope::All,
    run: Run::Place(|formed, context| {
        let placed = place(formed, context.purpose.name());
        let Plan { arena_bytes, live_bytes, .. } = placed.plan;
        let report = Report::new()
            .count(placed.plan.buffers.len(), "buffers")
            .note(format!("{arena_bytes} bytes, of which {live_bytes} live at the peak"));
        (placed, report)
    }),
};

/// A plan with the kernels that it launches, in the order of [`Plan::kernels`].
pub struct Placed {
    /// The plan.
    pub plan: Plan,
    /// Its kernels.
    pub kernels: Vec<Kernel>,
    /// For each kernel: the expressions of the model that its launches come from.
    pub places: Vec<Vec<Span>>,
    /// For each buffer of the plan: the expression of the model that it holds the value of.
    pub sources: Vec<Option<Span>>,
}

/// Places the buffers of a formed graph.
pub fn place(formed: Formed, name: &str) -> Placed {
    let (states, fixed) = states(&formed.graph);
    let mut walk = walk::Walk::new(&formed, &states);
    let mut items = walk.program(&states);
    let (mut offsets, bytes, live) = arena::place(&walk.buffers, Memory::Device, fixed);
    let (hosts, host_bytes, _) = arena::place(&walk.buffers, Memory::Host, 0);
    for ((offset, host), buffer) in offsets.iter_mut().zip(hosts).zip(&walk.buffers) {
        if buffer.category.memory() == Memory::Host {
            *offset = host;
        }
    }
    walk::resolve(&mut items, &offsets);
    let results = results(&formed, &walk, &offsets);
    let inputs = inputs(&formed, &walk, &offsets);
    let (buffers, sources) = walk.describe(&offsets);
    let streams: &[&str] = if walk.events > 0 { &[COMPUTE, COPIES] } else { &[COMPUTE] };
    let plan = Plan {
        name: name.to_owned(),
        arena_bytes: bytes,
        live_bytes: live,
        host_bytes,
        params: formed.graph.params.iter().map(|p| param(&formed.graph, p)).collect(),
        states,
        inputs,
        results,
        buffers,
        kernels: infos(&formed),
        streams: streams.iter().map(|name| (*name).to_owned()).collect(),
        events: walk.events,
        items,
    };
    let places = places(&formed);
    Placed { plan, kernels: formed.kernels, places, sources }
}

/// Bytes of the arenas of device and host that [`place`] gives a program.
pub(crate) fn arenas(formed: &Formed) -> (u64, u64) {
    let (states, fixed) = states(&formed.graph);
    let mut walk = walk::Walk::new(formed, &states);
    walk.program(&states);
    let of = |memory, fixed| arena::place(&walk.buffers, memory, fixed).1;
    (of(Memory::Device, fixed), of(Memory::Host, 0))
}

/// The next multiple of the alignment.
fn aligned(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT)
}

/// All state tensors with their addresses, and where the last one ends: weights, first moments, second
/// moments, copies in bf16, of those parameters that have them.
fn states(graph: &Graph) -> (Vec<State>, u64) {
    let mut offset = 0;
    let mut states = Vec::new();
    for slot in Slot::ALL {
        for (i, param) in graph.params.iter().enumerate().filter(|(_, p)| p.has(slot)) {
            states.push(State { param: i as u32, slot, offset });
            let bytes = graph.elements(&param.axes()) * slot.dtype().storage().bytes();
            offset += aligned(bytes);
        }
    }
    (states, offset)
}

fn param(graph: &Graph, param: &Param) -> PlanParam {
    let axes = param.axes();
    let position = |axis| {
        let found = axes.iter().position(|a| *a == axis);
        gigac_ir::graph::AxisId(found.expect("a spread axis is an axis of its parameter") as u32)
    };
    let name_template = param
        .stored
        .name
        .iter()
        .map(|part| match part {
            NamePart::Text(text) => NamePart::Text(text.clone()),
            NamePart::Number { constant, terms } => NamePart::Number {
                constant: *constant,
                terms: terms.iter().map(|(a, c)| (position(*a), *c)).collect(),
            },
            NamePart::Choice { axis, names } => {
                NamePart::Choice { axis: position(*axis), names: names.clone() }
            }
        })
        .collect();
    PlanParam {
        name: param.name.clone(),
        axes: named(graph, &axes),
        dims: param.dims.iter().map(|d| d.len() as u32).collect(),
        init: param.init,
        frozen: param.frozen,
        name_template,
        spread: param.stored.spread.iter().map(|a| position(*a).0).collect(),
        from: param.stored.from.clone(),
    }
}

fn named(graph: &Graph, axes: &[gigac_ir::graph::AxisId]) -> Vec<(String, u64)> {
    axes.iter().map(|a| (graph.axes[a.index()].name.clone(), graph.size(*a))).collect()
}

fn inputs(formed: &Formed, walk: &walk::Walk<'_>, offsets: &[u64]) -> Vec<PlanInput> {
    let graph = &formed.graph;
    let used = |i: &usize| walk.inputs[*i].is_some();
    (0..graph.inputs.len())
        .filter(used)
        .map(|i| {
            let input = &graph.inputs[i];
            let range = match input.ty.dtype {
                gigac_ir::graph::DType::Int { lo, hi }
                    if matches!(input.feed, Feed::Data | Feed::Optional(_)) =>
                {
                    Some((lo, hi))
                }
                _ => None,
            };
            PlanInput {
                name: input.name.clone(),
                feed: input.feed,
                storage: input.ty.dtype.storage(),
                range,
                axes: named(graph, &input.ty.axes),
                offset: offsets[walk.inputs[i].expect("filtered")],
            }
        })
        .collect()
}

fn results(formed: &Formed, walk: &walk::Walk<'_>, offsets: &[u64]) -> Vec<PlanResult> {
    let graph = &formed.graph;
    let visible = |role: &Role| !matches!(role, Role::Update(..));
    graph
        .results()
        .filter(|(role, _)| visible(role))
        .map(|(role, value)| PlanResult {
            role: role.clone(),
            storage: graph.ty(value).dtype.storage(),
            axes: named(graph, &formed.layouts[value.index()]),
            offset: walk.fixed(value, offsets),
        })
        .collect()
}

fn infos(formed: &Formed) -> Vec<KernelInfo> {
    let mut all = vec![0; formed.kernels.len()];
    each_launch(&formed.units, &mut |launch| all[launch.kernel] = launch.flops);
    let info = |(kernel, flops): (&Kernel, u64)| KernelInfo {
        name: kernel.name.clone(),
        origin: kernel.origin.clone(),
        grid_points: kernel.grid_points(),
        arguments: kernel
            .buffers
            .iter()
            .filter(|b| b.access != Access::Local)
            .map(|b| Argument {
                name: b.name.clone(),
                access: b.access,
                bytes: b.elements * b.storage.bytes(),
            })
            .collect(),
        flops,
    };
    formed.kernels.iter().zip(all).map(info).collect()
}

/// Where the launches of each kernel come from, in the order of the text.
fn places(formed: &Formed) -> Vec<Vec<Span>> {
    let mut all = vec![Vec::new(); formed.kernels.len()];
    each_launch(&formed.units, &mut |launch| all[launch.kernel].extend(&launch.places));
    for places in &mut all {
        places.sort_unstable_by_key(|p: &Span| (p.source, p.start, p.end));
        places.dedup();
    }
    all
}

fn each_launch(units: &[Unit], visit: &mut dyn FnMut(&Launch)) {
    for unit in units {
        match unit {
            Unit::Launch(_) | Unit::Together(_) => unit.launches().iter().for_each(&mut *visit),
            Unit::Repeat(inner) => inner.segments.iter().for_each(|s| each_launch(&s.body, visit)),
        }
    }
}

/// Number of launches of a program, loops unrolled.
pub fn launches(items: &[Item]) -> u64 {
    items
        .iter()
        .map(|item| match item {
            Item::Launch { .. } => 1,
            Item::Copy { .. } => 0,
            Item::Loop { count, body, .. } => count.saturating_mul(launches(body)),
        })
        .fold(0, u64::saturating_add)
}
