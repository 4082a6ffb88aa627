//! Worked examples of the language compile in both modes, and one of them keeps its shape.

use std::path::Path;

use gigac_frontend::{Mode, Source, compile};
use gigac_ir::graph::{NamePart, Role};

fn compiled(name: &str, training: bool) -> gigac_frontend::Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/worked").join(name);
    let text = std::fs::read_to_string(path).expect("a worked example");
    let load = |_: &str| Err("there are no other files".to_string());
    match compile(&Source::new(name, text), &load, &[], Mode { training }) {
        Ok(model) => model,
        Err(errors) => panic!("{}", errors.render(false)),
    }
}

#[test]
fn examples_compile() {
    for name in ["grouped.giga", "alternating.giga", "experts.giga", "tuning.giga"] {
        for training in [true, false] {
            assert!(compiled(name, training).graph.parameter_count() > 0, "{name}");
        }
    }
}

#[test]
fn layers_stay_one_region() {
    let graph = compiled("grouped.giga", true).graph;
    let regions = graph.root.nodes.iter().filter(|node| node.region.is_some()).count();
    assert_eq!(regions, 1);
    assert_eq!(graph.parameter_count(), 7_241_732_096);
}

#[test]
fn a_divided_loss_has_two_parts() {
    let graph = compiled("tuning.giga", true).graph;
    assert!(graph.result(&Role::LossTerm(0)).is_some());
    assert!(graph.result(&Role::LossPer(0)).is_some());
}

#[test]
fn names_in_layers_carry_the_turn() {
    let graph = compiled("experts.giga", true).graph;
    let router =
        graph.params.iter().find(|param| param.name == "block.router").expect("the router");
    let turn = graph.axes.iter().position(|axis| axis.name == "L").expect("the repeat axis");
    let text = |text: &str| NamePart::Text(text.to_string());
    assert_eq!(router.stored.spread.iter().map(|axis| axis.index()).collect::<Vec<_>>(), [turn]);
    assert_eq!(router.stored.name.len(), 3);
    assert_eq!(router.stored.name[0], text("layers."));
    assert_eq!(router.stored.name[2], text(".moe.router.weight"));
    assert_eq!((router.decay, graph.params[1].decay), (1.0, 0.0));
}
