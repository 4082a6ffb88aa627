//! Models in the language, formed, and what their layers launch.

use gigac_frontend::{Mode, Source};
use gigac_ir::graph::{Graph, ValueId};
use gigac_ir::kernel::Access;
use gigac_ir::train::Settings;
use gigac_passes::driver::Alone;
use gigac_passes::form::{Formed, Launch, Unit};
use gigac_passes::options::Options;
use gigac_passes::pass::{Purpose, Stage};
use gigac_passes::pipeline::{self, position};
use gigac_passes::precision;

/// A loss that takes little.
pub(crate) const LOSS: &str = "loss mean(cross_entropy(logits, targets; V))";

/// A `train` block with bf16 between kernels.
pub(crate) const BF16: &str = "train { precision bf16 { master f32, reduce f32 } }";

/// Elements of `x`, and of what is between the products of an MLP.
pub(crate) const X: u64 = 2 * 1024 * 64;
pub(crate) const HIDDEN: u64 = 4 * X;

/// The formed training step of a model: `layer` makes the next `x`.
pub(crate) fn step(layer: &str, loss: &str) -> Formed {
    with("", layer, loss)
}

/// The same with declarations beside those of every model.
pub(crate) fn with(declarations: &str, layer: &str, loss: &str) -> Formed {
    match compiled(&model(declarations, layer, loss), position("form") + 1) {
        Stage::Formed(formed) => formed,
        _ => unreachable!("`form` forms"),
    }
}

/// The text of a small decoder.
pub(crate) fn model(declarations: &str, layer: &str, loss: &str) -> String {
    format!(
        "model parts
axes B = 2, T = 1024, S = T, V = 1024, D = 64, F = 256, H = 4, K = D / H, L = 3
{declarations}
param embed[V, D], head[V, D] ~ normal(0.02)
layer block(x[B, T, D]) repeat L {{
  {layer}
}}
input tokens[B, T] : token(V), targets[B, T] : token(V)
let x = block(embed[V = tokens])
let logits = dot(x, head; D)
{loss}
"
    )
}

/// The training step of a model text, by the passes before a position of the list. Without a `train` block
/// gradients are clipped.
pub(crate) fn compiled(text: &str, end: usize) -> Stage {
    let source = Source::new("parts.giga", text.to_owned());
    let none = |name: &str| Err(format!("there is no `{name}`"));
    let mode = |training| {
        gigac_frontend::compile(&source, &none, &[], Mode { training })
            .unwrap_or_else(|e| panic!("{}\n{text}", e.render(false)))
    };
    let (mut training, mut evaluating) = (mode(true), mode(false));
    let clipped = Settings { clip: Some(1.0), ..Settings::default() };
    let settings = training.train.take().map_or(clipped, |train| train.settings);
    let copies = precision::copies(source_of(&training.graph, &evaluating.graph, &settings));
    let graphs = [&mut training.graph, &mut evaluating.graph];
    graphs.into_iter().for_each(|graph| precision::note_copies(graph, &copies));
    let source = source_of(&training.graph, &evaluating.graph, &settings);
    pipeline::compile(source, Purpose::Step, &Options::default(), end, &mut Alone)
}

fn source_of<'m>(
    training: &'m Graph,
    evaluating: &'m Graph,
    settings: &'m Settings,
) -> pipeline::Source<'m> {
    pipeline::Source { training, evaluating, settings, micro: 1, prefix: "" }
}

/// The launches of a part of the program, loops inside included.
pub(crate) fn launches(units: &[Unit]) -> Vec<&Launch> {
    let mut found = Vec::new();
    for unit in units {
        match unit {
            Unit::Launch(_) | Unit::Together(_) => found.extend(unit.launches()),
            Unit::Repeat(l) => found.extend(l.segments.iter().flat_map(|s| launches(&s.body))),
        }
    }
    found
}

/// What the layers launch on the way forward, and on the way back.
pub(crate) fn layers(formed: &Formed) -> [Vec<&Launch>; 2] {
    [false, true].map(|reversed| {
        let loops = formed.units.iter().filter_map(|unit| match unit {
            Unit::Repeat(l) if l.reversed == reversed => Some(l),
            _ => None,
        });
        let named = loops.filter(|l| formed.graph.axes[l.axis.index()].name == "L");
        named.flat_map(|l| l.segments.iter().flat_map(|s| launches(&s.body))).collect()
    })
}

/// The kernels of launches, as text.
pub(crate) fn show(formed: &Formed, launches: &[&Launch]) -> String {
    let text = |l: &&Launch| formed.kernels[l.kernel].to_string();
    launches.iter().map(text).collect::<Vec<_>>().join("\n")
}

/// How many products a launch computes.
pub(crate) fn products(formed: &Formed, launch: &Launch) -> usize {
    formed.kernels[launch.kernel].to_string().matches("= dot ").count()
}

/// Launches that multiply no matrices.
pub(crate) fn plain<'f>(formed: &Formed, layer: &[&'f Launch]) -> Vec<&'f Launch> {
    layer.iter().filter(|l| products(formed, l) == 0).copied().collect()
}

/// Launches of a layer that multiply no matrices and write something of a size.
pub(crate) fn writers<'f>(formed: &Formed, layer: &[&'f Launch], elements: u64) -> Vec<&'f Launch> {
    let large = |launch: &&Launch| writes(formed, launch).iter().any(|(_, size)| *size == elements);
    plain(formed, layer).into_iter().filter(large).collect()
}

/// What a launch reads, with the elements of each buffer.
pub(crate) fn reads(formed: &Formed, launch: &Launch) -> Vec<(ValueId, u64)> {
    buffers(formed, launch, |access| access != Access::Write)
}

/// What a launch writes, with the elements of each buffer.
pub(crate) fn writes(formed: &Formed, launch: &Launch) -> Vec<(ValueId, u64)> {
    buffers(formed, launch, |access| access != Access::Read)
}

fn buffers(
    formed: &Formed,
    launch: &Launch,
    wanted: impl Fn(Access) -> bool,
) -> Vec<(ValueId, u64)> {
    let buffers = launch.arguments.iter().zip(&formed.kernels[launch.kernel].buffers);
    buffers.filter(|(_, b)| wanted(b.access)).map(|(v, b)| (*v, b.elements)).collect()
}
