//! Golden traces hold with every optional pass off in turn, with all of them off, and with exact
//! rewrites alone: compiled and trained in this process.

use gigac::commands::build::TargetName;
use gigac::compile::{self, Request};
use gigac_passes::options::Options;
use gigac_runtime::cli;

use crate::support::{Place, Run, model, read, root};

#[test]
fn llama_nano() {
    without_each_pass("nano", "llama-nano");
}

#[test]
fn gpt2_nano() {
    without_each_pass("gpt2-nano", "gpt2-nano");
}

fn without_each_pass(name: &str, case: &str) {
    let all = Options::default();
    let (bare, passes) = all.bare();
    let mut exact = all.clone();
    exact.exact = true;
    let mut variants = vec![("bare".to_owned(), bare), ("exact".to_owned(), exact)];
    let mut known = std::collections::BTreeSet::new();
    for pass in passes.iter().filter(|p| known.insert(p.name)) {
        let mut without = all.clone();
        without.disable(pass.name).expect("an optional pass");
        variants.push((format!("without {}", pass.name), without));
    }
    assert!(variants.len() > 5);
    for (variant, options) in variants {
        println!("{case}: {variant}");
        trained(name, case, options);
    }
}

/// Products that become one kernel are added up as they were.
#[test]
fn joined_products_keep_every_bit() {
    for (name, case) in [("nano", "llama-nano"), ("gpt2-nano", "gpt2-nano")] {
        for exact in [false, true] {
            let mut all = Options::default();
            all.exact = exact;
            let mut apart = all.clone();
            apart.disable("merge").expect("an optional pass");
            let [joined, apart] = [all, apart].map(|options| trained(name, case, options));
            assert!(joined == apart, "{case}, exact: {exact}");
        }
    }
}

/// Trains as a golden trace was made and compares with it; gives the files of the first gradients
/// and of the last weights.
fn trained(name: &str, case: &str, options: Options) -> [Vec<u8>; 2] {
    let golden = root().join("tests/golden").join(case);
    let place = Place::new();
    let request = Request::read(model(name).as_ref(), &[], options).expect("a shipped model");
    let target = TargetName::Cpu.cpu().expect("a CPU that is supported");
    let program = compile::program(&request, &target).expect("it compiles");
    let run = Run::under(place.path("run"));
    let words = std::iter::once(name.to_owned()).chain(run.flags(&golden));
    assert_eq!(cli::run(&program, words.map(Into::into)), 0);
    run.judge(&golden);
    [read(&run.grads), read(&run.export)]
}
