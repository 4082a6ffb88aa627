//! The passes `cats`, `stacks`, `scales` and `fold` on the graphs of their filetests: every output is what it was.

use std::path::Path;

use gigac_ir::graph::Graph;
use gigac_ir::interpret::{Bindings, interpret};
use gigac_ir::train::Settings;
use gigac_passes::driver::{Alone, drive};
use gigac_passes::options::{Options, named};
use gigac_passes::pass::{Context, Purpose, Stage};

/// A graph after a pass.
fn after(pass: &str, graph: Graph) -> Graph {
    let (settings, options) = (Settings::default(), Options::default());
    let context = Context {
        purpose: Purpose::Step,
        settings: &settings,
        micro: 1,
        prefix: "",
        options: &options,
    };
    let pass = named(pass).expect("it is in the list");
    let stage = drive(std::slice::from_ref(pass), 0, Stage::Graph(graph), &context, &mut Alone);
    match stage {
        Stage::Graph(graph) => graph,
        _ => unreachable!("a pass over graphs"),
    }
}

/// Compares all outputs; up to rounding, or to the bit.
fn check(pass: &str, rounding: f64) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests").join(pass);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut tried = 0;
    for file in files {
        let path = file.expect("a readable folder").path();
        let text = std::fs::read_to_string(&path).expect("a filetest");
        let graph = Graph::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let bindings = Bindings::example(&graph);
        let rewritten = after(pass, graph.clone());
        let run =
            |graph: &Graph| interpret(graph, &bindings).unwrap_or_else(|e| panic!("{e}\n{graph}"));
        let (expected, got) = (run(&graph), run(&rewritten));
        for (role, (want, got)) in graph.roles.iter().zip(expected.iter().zip(&got)) {
            let got = got.arranged(&want.axes, &want.sizes);
            for (x, y) in want.data.iter().zip(&got.data) {
                let same = x.to_bits() == y.to_bits() || (x - y).abs() <= rounding * x.abs();
                assert!(same, "{}: {role:?} is {y} instead of {x}\n{rewritten}", path.display());
            }
        }
        tried += 1;
    }
    assert!(tried > 0, "{} is empty", folder.display());
}

#[test]
fn exact_rewrites_keep_every_bit() {
    ["cats", "stacks", "fold"].into_iter().for_each(|pass| check(pass, 0.0));
}

#[test]
fn scales_keep_values_up_to_rounding() {
    check("scales", 1e-12);
}
