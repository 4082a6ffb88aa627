//! The shipped models compile, and have the parameters they are known for.

use std::path::PathBuf;

use gigac_frontend::{Mode, Model, Source, compile};
use gigac_ir::graph::{DType, Graph, NamePart, Param};
use gigac_ir::train::{OnNan, Optimizer, Schedule};

fn models() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models")
}

fn model(name: &str, training: bool) -> Model {
    model_with(name, &[], training)
}

fn model_with(name: &str, sets: &[(&str, &str)], training: bool) -> Model {
    let sets: Vec<(String, String)> =
        sets.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let path = models().join(format!("{name}.giga"));
    let text = std::fs::read_to_string(&path).expect("a shipped model");
    let source = Source::new(format!("{name}.giga"), text);
    let load = |path: &str| Err(format!("{path} is not there"));
    match compile(&source, &load, &sets, Mode { training }) {
        Ok(model) => model,
        Err(errors) => panic!("{name}:\n{}", errors.render(false)),
    }
}

#[test]
fn parameter_counts() {
    for (name, count) in [
        ("nano", 133_440),
        ("gpt2-nano", 120_576),
        ("moe-nano", 361_792),
        ("gigachat-demo", 1_345_152),
        ("gpt2-124m", 124_439_808),
        ("llama-7b", 6_738_415_616),
        ("gigachat-pro-29b", 29_451_768_320),
        ("bench-s", 5_261_568),
        ("bench-m", 33_694_208),
        ("bench-x", 5_261_568),
        ("bench-v", 23_086_336),
    ] {
        for training in [true, false] {
            assert_eq!(model(name, training).graph.parameter_count(), count, "{name}");
        }
    }
}

/// Elements of the stored tensors of a model, by name; all of them f32.
fn stored(name: &str) -> Vec<(String, Vec<u64>)> {
    let graph = model(name, true).graph;
    let mut list = Vec::new();
    for param in &graph.params {
        let [turns] = param.stored.spread[..] else {
            list.push((text(&param.stored.name, 0), sizes(&graph, param)));
            continue;
        };
        for turn in 0..graph.size(turns) {
            list.push((text(&param.stored.name, turn), sizes(&graph, param)));
        }
    }
    list.sort();
    list
}

fn text(parts: &[NamePart], turn: u64) -> String {
    let part = |part: &NamePart| match part {
        NamePart::Text(text) => text.clone(),
        NamePart::Number { constant, .. } => (constant + turn as i64).to_string(),
        NamePart::Choice { names, .. } => names[turn as usize].clone(),
    };
    parts.iter().map(part).collect()
}

fn sizes(graph: &Graph, param: &Param) -> Vec<u64> {
    let kept = param.dims.iter().filter(|dim| !param.stored.spread.contains(&dim[0]));
    kept.map(|dim| graph.elements(dim)).collect()
}

#[test]
fn nano_has_the_tensors_of_a_checkpoint() {
    let list = stored("nano");
    assert_eq!(list.len(), 21);
    let has = |name: &str, shape: &[u64]| list.contains(&(name.to_string(), shape.to_vec()));
    assert!(has("model.embed_tokens.weight", &[256, 64]));
    assert!(has("model.layers.1.self_attn.q_proj.weight", &[64, 64]));
    assert!(has("model.layers.0.mlp.down_proj.weight", &[64, 176]));
    assert!(has("lm_head.weight", &[256, 64]));
}

#[test]
fn gpt2_nano_has_the_tensors_of_a_checkpoint() {
    let list = stored("gpt2-nano");
    assert_eq!(list.len(), 28);
    let has = |name: &str, shape: &[u64]| list.contains(&(name.to_string(), shape.to_vec()));
    assert!(has("transformer.wpe.weight", &[64, 64]));
    assert!(has("transformer.h.1.attn.c_attn.weight", &[64, 192]));
    assert!(has("transformer.h.0.attn.c_attn.bias", &[192]));
    assert!(has("transformer.h.0.mlp.c_proj.weight", &[256, 64]));
}

#[test]
fn graphs_are_well_formed_and_read_back() {
    for name in ["nano", "gpt2-nano", "moe-nano", "gigachat-pro-29b", "bench-v"] {
        for training in [true, false] {
            let graph = model(name, training).graph;
            graph.verify().unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
            let text = graph.to_string();
            let again = Graph::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(again.to_string(), text, "{name}");
        }
    }
}

#[test]
fn values_from_the_command_line() {
    let sets = [
        ("D", "H * 32"),
        ("T", "64"),
        ("train.clip", "0.5"),
        ("train.optimizer.eps", "1e-6"),
        ("train.schedule", "wsd(1e-3, 10, 20)"),
        ("train.precision", "bf16"),
        ("train.batch", "1K"),
        ("train.on_nan", "skip"),
    ];
    let model = model_with("nano", &sets, true);
    let size = |name: &str| model.graph.axes.iter().find(|axis| axis.name == name).map(|a| a.size);
    assert_eq!((size("D"), size("K"), size("S")), (Some(128), Some(32), Some(64)));
    let settings = model.train.expect("a train block").settings;
    assert_eq!((settings.clip, settings.batch_tokens), (Some(0.5), Some(1000)));
    assert_eq!(settings.precision.compute, DType::Bf16);
    assert_eq!(settings.on_nan, OnNan::Skip);
    let Optimizer::AdamW { eps, beta2, .. } = settings.optimizer;
    assert_eq!((eps, beta2), (1e-6, 0.95));
    let wsd = Schedule::Wsd { peak: 1e-3, warmup: 10, decay: 20, floor: 0.0 };
    assert_eq!(settings.schedule, wsd);
}
