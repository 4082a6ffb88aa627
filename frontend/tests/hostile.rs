//! No text makes the compiler panic: random bytes, token soup, and mutated shipped models.

use gigac_frontend::{Mode, Source, compile};
use proptest::prelude::*;

const MODELS: [&str; 3] = [
    include_str!("../../models/nano.giga"),
    include_str!("../../models/gpt2-nano.giga"),
    include_str!("../../models/moe-nano.giga"),
];

const SOUP: [&str; 84] = [
    "model",
    "use",
    "axes",
    "const",
    "param",
    "fn",
    "layer",
    "input",
    "let",
    "loss",
    "metric",
    "output",
    "train",
    "phase",
    "repeat",
    "as",
    "from",
    "per",
    "if",
    "else",
    "training",
    "frozen",
    "lr",
    "decay",
    "token",
    "int",
    "real",
    "bool",
    "tokens",
    "optimizer",
    "adamw",
    "x",
    "y",
    "w",
    "pos",
    "sum",
    "max",
    "dot",
    "cat",
    "top",
    "scatter",
    "where",
    "floor",
    "noise",
    "rope",
    "softmax",
    "attend",
    "B",
    "T",
    "S",
    "D",
    "L",
    "K",
    "0",
    "1",
    "2",
    "1e-5",
    "64K",
    "29B",
    "1e999",
    "\"a.{L}\"",
    "\"{q,k}\"",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ";",
    ":",
    "=",
    "==",
    "->",
    "...",
    "+",
    "-",
    "*",
    "/",
    "^",
    "|",
    "!",
    "\n",
    "\n",
];

fn survives(text: &str) {
    let load = |path: &str| match path {
        "self.giga" => Ok(Source::new(path, text)),
        _ => Err("no such file".to_string()),
    };
    for training in [true, false] {
        if let Err(errors) = compile(&Source::new("f.giga", text), &load, &[], Mode { training }) {
            assert!(errors.iter().count() > 0);
            assert!(!errors.render(false).is_empty());
        }
    }
}

/// Cuts, doubles, swaps and replaces pieces of a text.
fn mutated(model: usize, edits: Vec<(u8, usize, usize, usize)>) -> String {
    let mut chars: Vec<char> = MODELS[model % MODELS.len()].chars().collect();
    for (kind, at, length, word) in edits {
        if chars.is_empty() {
            break;
        }
        let at = at % chars.len();
        let end = (at + length).min(chars.len());
        let piece: Vec<char> = chars[at..end].to_vec();
        let word: Vec<char> = SOUP[word % SOUP.len()].chars().collect();
        match kind % 5 {
            0 => drop(chars.drain(at..end)),
            1 => drop(chars.splice(at..at, piece)),
            2 => drop(chars.splice(at..end, word)),
            3 => drop(chars.splice(at..at, word)),
            _ => chars.truncate(at),
        }
    }
    chars.into_iter().collect()
}

/// 400 texts for each test, or as many as `PROPTEST_CASES` asks for.
fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let cases = asked.unwrap_or(400);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_text(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn token_soup(words in prop::collection::vec(0..SOUP.len(), 0..120)) {
        let text: Vec<&str> = words.into_iter().map(|word| SOUP[word]).collect();
        survives(&text.join(" "));
    }

    #[test]
    fn mutations(
        model in 0..MODELS.len(),
        edits in prop::collection::vec((any::<u8>(), any::<usize>(), 0usize..40, any::<usize>()), 1..6),
    ) {
        survives(&mutated(model, edits));
    }

    #[test]
    fn mutated_values(text in "[-+*/^%(.)0-9KMBTi eE]{0,24}", name in "(T|D|V|L|train.clip|train.optimizer.eps|x)") {
        let sets = [(name, text)];
        let load = |_: &str| Err(String::new());
        let source = Source::new("f.giga", MODELS[0]);
        if let Err(errors) = compile(&source, &load, &sets, Mode { training: true }) {
            assert!(!errors.render(false).is_empty());
        }
    }
}

#[test]
fn deep_and_long() {
    let start = "axes D = 4\nparam w[D] = 1\n";
    let many = |piece: &str, count: usize| piece.repeat(count);
    for text in [
        format!("{start}let x = {}w", many("-", 100_000)),
        format!("{start}let x = {}w", many("(", 100_000)),
        format!("{start}let x = w{}", many("[D -> D]", 100_000)),
        format!("{start}let x = w{}", many(" + w", 100_000)),
        format!("{start}let x = w{}", many(" ^ 2", 100_000)),
        format!("{start}let x = {}", many("if training { ", 100_000)),
        format!("{start}let x = {}", many("exp(", 100_000)),
        format!("{start}let x = {}", many("mean(w) + (", 50_000)),
        format!(
            "{start}{}loss sum(x9999)",
            (0..10_000).map(|i| format!("let x{i} = w\n")).collect::<String>()
        ),
        format!(
            "{start}{}loss f999(w)",
            (1..1000).map(|i| format!("fn f{i}(x) {{ f{}(x) }}\n", i - 1)).collect::<String>()
        ),
        format!("{start}let x = sum(w; {})", many("D, ", 10_000)),
        format!(
            "axes {} = 1",
            (0..20_000).map(|i| format!("A{i} = A{}", i + 1)).collect::<Vec<_>>().join(", ")
        ),
        many("{", 100_000),
        many("train { phase 1 tokens ", 50_000),
        many("layer f(x[]) {\n", 20_000),
        format!(
            "param w[{}] = 1",
            (0..2000).map(|i| format!("A{i}")).collect::<Vec<_>>().join("*")
        ),
        many("\"{L}", 100_000),
        "axes L = 1M, E = 1M\nparam w[L, E] = 1 as \"a.{L}.{E}\"\nloss sum(w)".to_string(),
        many("x", 5 << 20),
    ] {
        survives(&text);
    }
}
