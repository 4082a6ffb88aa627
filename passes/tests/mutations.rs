//! Passes take every well-formed graph to a well-formed graph: the inputs of the filetests with a
//! few words exchanged, as far as they still verify.

use std::path::Path;

use gigac_ir::graph::{Graph, Role};
use gigac_ir::philox::philox;
use gigac_passes::{decompose, differentiate, simplify};

/// Mutations of each file.
const ROUNDS: u32 = 2000;

#[test]
fn passes_keep_graphs_well_formed() {
    let (mut tried, mut formed) = (0, 0);
    for text in texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests")) {
        let words: Vec<&str> = text.split_inclusive(' ').collect();
        for round in 0..ROUNDS {
            tried += 1;
            formed += u32::from(exercise(&mutated(&words, round)));
        }
    }
    assert!(formed * 40 > tried, "only {formed} of {tried} mutations are graphs");
}

/// The graphs of all filetests, without comments.
fn texts(folder: &Path) -> Vec<String> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    paths.sort();
    let text = |path: &Path| {
        let text = std::fs::read_to_string(path).expect("a readable file");
        let lines = text.lines().map(|l| l.split_once(';').map_or(l, |(code, _)| code));
        lines.collect::<Vec<_>>().join("\n")
    };
    paths.iter().flat_map(|p| if p.is_dir() { texts(p) } else { vec![text(p)] }).collect()
}

/// One or two words replaced by words from elsewhere in the text.
fn mutated(words: &[&str], round: u32) -> String {
    let mut words = words.to_vec();
    let [a, b, c, d] = philox([1, 2], [round, 0, 0, 0]).map(|x| x as usize % words.len());
    words[a] = words[b];
    if round.is_multiple_of(2) {
        words[c] = words[d];
    }
    words.concat()
}

/// Runs the passes when the text is a well-formed graph; says whether it is.
fn exercise(text: &str) -> bool {
    let Ok(graph) = Graph::parse(text) else { return false };
    let forward = |role: &Role| {
        matches!(role, Role::LossTerm(_) | Role::LossPer(_) | Role::Metric(_) | Role::Output(_))
    };
    if graph.verify().is_err() {
        return false;
    }
    let well_formed = |graph: &Graph, pass: &str| {
        if let Err(errors) = graph.verify() {
            panic!("{pass} of\n{text}\ngave {errors:?} in\n{graph}");
        }
    };
    let simple = simplify::simplify(graph.clone());
    well_formed(&simple, "simplify");
    well_formed(&decompose::attention(graph.clone()), "decompose attention");
    if graph.roles.iter().all(forward) {
        for micro in [1, 3] {
            let joint = differentiate::differentiate(&graph, micro);
            well_formed(&joint, "differentiate");
            well_formed(&simplify::simplify(joint), "simplify after differentiate");
        }
    }
    true
}
