//! The shipped models compile, and have the parameters they are known for.

use std::path::PathBuf;

use gigac_frontend::{Mode, Model, Source, compile};

fn models() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models")
}

fn model(name: &str, training: bool) -> Model {
    let path = models().join(format!("{name}.giga"));
    let text = std::fs::read_to_string(&path).expect("a shipped model");
    let source = Source::new(format!("{name}.giga"), text);
    let load = |path: &str| Err(format!("{path} is not there"));
    match compile(&source, &load, &[], Mode { training }) {
        Ok(model) => model,
        Err(errors) => panic!("{name}:\n{}", errors.render(false)),
    }
}

#[test]
fn parameter_counts() {
    for (name, count) in [
        ("nano", 0),
        ("gpt2-nano", 0),
        ("moe-nano", 0),
        ("gigachat-demo", 0),
        ("gpt2-124m", 124_439_808),
        ("llama-7b", 6_738_415_616),
        ("gigachat-pro-29b", 29_451_768_320),
        ("bench-s", 0),
        ("bench-m", 0),
        ("bench-x", 0),
        ("bench-v", 0),
    ] {
        for training in [true, false] {
            let model = model(name, training);
            eprintln!(
                "{name} {} nodes {}",
                model.graph.parameter_count(),
                model.graph.root.nodes.len()
            );
            if count != 0 {
                assert_eq!(model.graph.parameter_count(), count, "{name}");
            }
        }
    }
}
