//! Runs `passes/filetests`: graphs as text, passes, and what comes out.
//!
//! A file names its passes in a comment, `; test hoist, fold`, and ends with the expected text,
//! each line behind `; `, after `; expect:`. Besides passes the list may hold `micro N` (that many
//! micro-batches), `memory N` (the limit of the arena, in bytes), `bf16` (what the model's `precision` says), `exact`, and `small chunk` (the pass
//! `chunk` with limits for small sizes), `a100` (kernels and prices of that GPU);
//! `cat` does nothing. The graph is verified before and after each
//! pass. Errors stand at the end of the guilty line: `; error: …`; the message must contain
//! what is written there. `BLESS=1 cargo test` rewrites expectations.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use gigac_cost::target::Device;
use gigac_ir::graph::{DType, Graph};
use gigac_ir::train::Settings;
use gigac_passes::chunk::{Limits, chunk};
use gigac_passes::decompose::attention;
use gigac_passes::driver::{Alone, drive};
use gigac_passes::options::{Options, named};
use gigac_passes::pass::{Context, Purpose, Stage};

/// The line that what is expected stands behind.
const EXPECT: &str = "; expect:";

#[test]
fn filetests() {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests"), &mut files);
    assert!(!files.is_empty(), "there are no filetests");
    let bless = std::env::var_os("BLESS").is_some();
    let failures: Vec<String> = files.iter().filter_map(|f| run(f, bless).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    entries.sort();
    for path in entries {
        match path.extension() {
            _ if path.is_dir() => collect(&path, files),
            Some(extension) if extension == "ir" => files.push(path),
            _ => {}
        }
    }
}

fn run(path: &Path, bless: bool) -> Result<(), String> {
    let place = |message: String| format!("{}: {message}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| place(e.to_string()))?;
    let (input, expected) = text.split_once(EXPECT).unwrap_or((&text, ""));
    let command = input
        .lines()
        .find_map(|line| line.strip_prefix("; test "))
        .ok_or_else(|| place("the line `; test PASS, …` is missing".to_owned()))?;
    let wanted = annotations(input);
    let found = match outcome(command.trim(), input) {
        Ok(stage) if wanted.is_empty() => {
            let printed = commented(&stage);
            if printed == expected {
                return Ok(());
            }
            if bless {
                let blessed = format!("{}\n{EXPECT}{printed}", input.trim_end());
                return std::fs::write(path, blessed).map_err(|e| place(e.to_string()));
            }
            return Err(place(format!("expected{expected}\ngot{printed}")));
        }
        Ok(_) => Vec::new(),
        Err(errors) => errors,
    };
    let matched = found.len() == wanted.len()
        && found.iter().all(|(line, message)| {
            wanted.iter().any(|(at, text)| at == line && message.contains(text))
        });
    if matched {
        return Ok(());
    }
    Err(place(format!("wanted the errors {wanted:#?}\ngot {found:#?}")))
}

/// Errors by line.
type Errors = Vec<(usize, String)>;

/// The errors that a text announces.
fn annotations(input: &str) -> Errors {
    let lines = input.lines().enumerate();
    lines
        .filter_map(|(i, line)| Some((i + 1, line.split_once("; error: ")?.1.trim().to_owned())))
        .collect()
}

fn outcome(command: &str, input: &str) -> Result<Stage, Errors> {
    let graph = Graph::parse(input).map_err(|e| vec![(e.line, e.message)])?;
    graph.verify().map_err(|errors| {
        let line = |e: &gigac_ir::graph::GraphError| {
            let span = e.value.and_then(|v| graph.values[v.index()].span);
            span.map_or(0, |s| input[..s.start as usize].matches('\n').count() + 1)
        };
        errors.iter().map(|e| (line(e), e.kind.to_string())).collect::<Errors>()
    })?;
    let (mut settings, mut options) = (Settings::default(), Options::default());
    let (mut micro, mut stage) = (1, Stage::Graph(graph));
    for word in command.split(',').map(str::trim) {
        if let Some(n) = word.strip_prefix("micro ") {
            micro = n.parse().map_err(|_| vec![(0, format!("`{word}`: not a number"))])?;
        } else if let Some(n) = word.strip_prefix("memory ") {
            let bytes = n.parse().map_err(|_| vec![(0, format!("`{word}`: not a number"))])?;
            options.memory = Some(bytes);
        } else if word == "bf16" {
            settings.precision.compute = DType::Bf16;
        } else if word == "exact" {
            options.exact = true;
        } else if word == "a100" {
            options.aim(&Device::named("a100").expect("a device of the list"));
        } else if word == "small chunk" {
            let Stage::Graph(graph) = stage else { return Err(vec![(0, "no graph".into())]) };
            let limits = Limits { least_elements: 32, expansion: 4, least_rows: 2 };
            stage = Stage::Graph(chunk(graph, &limits));
        } else if word == "open attention" {
            let Stage::Graph(graph) = stage else { return Err(vec![(0, "no graph".into())]) };
            stage = Stage::Graph(attention(graph));
        } else if word != "cat" {
            let pass = named(word).map_err(|e| vec![(0, e.to_string())])?;
            let (purpose, prefix) = (Purpose::Step, "");
            let context =
                Context { purpose, settings: &settings, micro, prefix, options: &options };
            stage = drive(std::slice::from_ref(pass), 0, stage, &context, &mut Alone);
        }
    }
    Ok(stage)
}

/// A printed program as comments.
fn commented(stage: &Stage) -> String {
    let mut out = String::from("\n");
    for line in stage.to_string().lines() {
        writeln!(out, "; {line}").expect("writing to a string does not fail");
    }
    out
}
