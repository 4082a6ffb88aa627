//! The parser and decoder survive any text: they answer or reject, and never panic.

use gigac_emulator::Module;
use proptest::prelude::*;

const SAMPLES: [&str; 4] = [
    include_str!("samples/vec_add.sm_80/kernel.ptx"),
    include_str!("samples/softmax_row.sm_80/kernel.ptx"),
    include_str!("samples/reduce_sum.sm_80/kernel.ptx"),
    include_str!("samples/matmul_bf16.sm_80/kernel.ptx"),
];

/// Words that lead deep into the parser when they stand in odd places.
const WORDS: [&str; 16] = [
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ";",
    ".reg",
    ".b32",
    "%r1",
    "@!%p1",
    "0x",
    "-9223372036854775808",
    "mma.sync",
    ".align 3",
    "<4294967295>",
];

/// 300 of each kind, or as many as `PROPTEST_CASES` says.
fn cases() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    ProptestConfig::with_cases(asked.unwrap_or(300))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn random_text(text in "\\PC{0,400}") {
        let _ = Module::parse(&text);
        let _ = Module::parse(&format!(".version 8.0\n.target sm_80\n{text}"));
    }

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Module::parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn mutated_samples(which in 0..4usize, edits in proptest::collection::vec((any::<u32>(), any::<u32>(), 0..16usize, 0..4u8), 1..6)) {
        let mut text: Vec<char> = SAMPLES[which].chars().collect();
        for (at, other, word, kind) in edits {
            let at = at as usize % text.len();
            let other = (at + other as usize % 40).min(text.len());
            match kind {
                0 => { text.drain(at..other); }
                1 => { text.splice(at..at, WORDS[word].chars()); }
                2 => { let copy = text[at..other].to_vec(); text.splice(at..at, copy); }
                _ => { text.splice(at..other, WORDS[word].chars()); }
            }
            if text.is_empty() {
                break;
            }
        }
        let _ = Module::parse(&text.into_iter().collect::<String>());
    }
}

#[test]
fn deep_nesting_is_rejected() {
    for open in ["{", "mov.u32 %r, (", "mov.u32 %r, -", "mov.u32 %r, !", "[", "1?"] {
        let text = format!(".version 8.0\n.target sm_80\n.entry k() {{ {}", open.repeat(50_000));
        assert!(Module::parse(&text).is_err());
    }
}
