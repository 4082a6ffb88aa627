//! Every form that computes a value, with every modifier, against an independent model: wide integers
//! and exact binary fractions, on edge values and random ones. Matrix products against sums in double.
//!
//! The tests walk the table of forms, so a form without a model fails.

mod compare;
mod control;
mod convert;
mod copies;
mod exact;
mod float;
mod integer;
mod kernel;
mod matrix;
mod memory;
mod operands;
mod video;
mod warp;

use gigac_emulator::forms::{SECTIONS, forms};

use kernel::{Case, Output};

/// One opcode and what its kernel gives it beside its operands.
pub(crate) struct Op<'a> {
    /// The opcode, split at its dots.
    words: Vec<&'a str>,
    /// Of d, a and b in video instructions, without their dot.
    selectors: [String; 3],
    /// The table of `lop3`.
    lut: u32,
}

impl<'a> Op<'a> {
    pub(crate) fn base(&self) -> &'a str {
        self.words[0]
    }

    pub(crate) fn words(&self) -> &[&'a str] {
        &self.words
    }

    pub(crate) fn has(&self, modifier: &str) -> bool {
        self.words[1..].contains(&modifier)
    }

    pub(crate) fn types(&self) -> Vec<&'a str> {
        self.words[1..].iter().copied().filter(|w| operands::is_type(w)).collect()
    }

    pub(crate) fn last_type(&self) -> &'a str {
        self.types().last().copied().unwrap_or("b32")
    }
}

/// Runs every opcode of a section and lets `judge` look at each result.
fn section(title: &str, judge: impl Fn(&Op, &Case, &[u64], Output) -> Result<(), String>) {
    let section = SECTIONS.iter().find(|s| s.title == title).expect("the section is in the table");
    assert!(section.values);
    let mut tried = 0;
    for form in forms(section) {
        let opcodes: Vec<String> = form.opcodes().collect();
        let cases: Vec<Case> =
            opcodes.iter().enumerate().map(|(i, o)| Case::new(o, &form.operands, i)).collect();
        for batch in kernel::batches(&cases) {
            let rows = operands::rows(&batch[0].inputs);
            let results = kernel::run(&batch, &rows);
            for (row, outputs) in rows.iter().zip(results) {
                for (case, output) in batch.iter().zip(outputs) {
                    if let Err(want) = judge(&case.op, case, row, output) {
                        panic!("{} of {row:x?}: got {output:x?}, expected {want}", case.text());
                    }
                }
            }
            tried += batch.len();
        }
    }
    assert!(tried > 0);
}

fn equal(got: u64, want: u64) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{want:#x}")) }
}

fn both(got: Output, want: (u64, u64)) -> Result<(), String> {
    if (got.first, got.second) == want { Ok(()) } else { Err(format!("{want:x?}")) }
}

#[test]
fn integer_arithmetic() {
    section("Integer arithmetic", |op, _, row, got| equal(got.first, integer::arithmetic(op, row)));
}

#[test]
fn extended_precision() {
    section("Extended-precision integers", |op, _, row, got| both(got, integer::extended(op, row)));
}

#[test]
fn floating_point() {
    section("Floating point", |op, _, row, got| float::judge(op, row, got.first));
}

#[test]
fn half_precision() {
    section("Half precision", |op, _, row, got| float::judge(op, row, got.first));
}

#[test]
fn comparison_and_selection() {
    section("Comparison and selection", |op, case, row, got| {
        let (first, second) = compare::compare(op, row);
        if case.has_second() { both(got, (first, second)) } else { equal(got.first, first) }
    });
}

#[test]
fn logic_and_shifts() {
    section("Logic and shifts", |op, case, row, got| {
        let (first, second) = integer::logic(op, row);
        if case.has_second() { both(got, (first, second)) } else { equal(got.first, first) }
    });
}

#[test]
fn conversions() {
    section("Conversions", |op, case, row, got| {
        let want = convert::convert(op, row, case.result_bits());
        let nan = |bits: u64| op.types()[0] == "f64" && f64::from_bits(bits).is_nan();
        if nan(want) && nan(got.first) { Ok(()) } else { equal(got.first, want) }
    });
}

#[test]
fn video_instructions() {
    section("Video instructions", |op, _, row, got| equal(got.first, video::video(op, row)));
}
