//! The examples of the language guide compile, or fail as they say.

use gigac_frontend::{Mode, Source, compile};

const GUIDE: &str = include_str!("../../docs/language.md");

/// What stands around the lines of an example that is not a whole model.
const BEFORE: &str = "axes B = 2, T = 16, S = T, V = 32, D = 32, H = 4, K = D / H, F = 24, L = 4\n\
    param embed[V, D] ~ normal(0.02)\n\
    input tokens[B, T] : token(V), targets[B, T] : token(V)\n\
    let x = embed[V = tokens]\n";
const AFTER: &str = "loss mean(cross_entropy(dot(x, embed; D), targets; V))\n";

/// The fenced examples: line number, what stands after the fence, text.
fn examples() -> Vec<(usize, String, String)> {
    let mut list = Vec::new();
    let mut open: Option<(usize, String, String)> = None;
    for (at, line) in GUIDE.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(kind)) => open = Some((at + 1, kind.to_string(), String::new())),
            (Some(_), Some(_)) => list.extend(open.take()),
            (Some((_, _, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    list
}

/// The codes of all errors, and how they are shown.
fn errors(text: &str, training: bool) -> (Vec<String>, String) {
    let load = |_: &str| Err("there are no other files".to_string());
    match compile(&Source::new("guide.giga", text), &load, &[], Mode { training }) {
        Ok(_) => (Vec::new(), String::new()),
        Err(errors) => (errors.iter().map(|error| error.code()).collect(), errors.render(false)),
    }
}

#[test]
fn examples_do_what_they_say() {
    let mut count = 0;
    for (line, kind, text) in examples() {
        let around = format!("{BEFORE}{text}{AFTER}");
        let (text, expected) = match kind.split_once('=') {
            _ if kind == "giga" => (text, Vec::new()),
            _ if kind == "giga,lines" => (around, Vec::new()),
            Some(("giga,error", code)) => (around, vec![code.to_string()]),
            _ => continue,
        };
        let (mut codes, shown) = errors(&text, true);
        codes.dedup();
        assert_eq!(codes, expected, "line {line} of the guide:\n{shown}");
        if expected.is_empty() {
            let (codes, shown) = errors(&text, false);
            assert!(codes.is_empty(), "line {line} of the guide, not training:\n{shown}");
        }
        count += 1;
    }
    assert!(count > 20, "only {count} examples were found");
}
