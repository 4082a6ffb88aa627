//! Kernels that apply a batch of opcodes to rows of operands.

use gigac_emulator::{Launch, Module};

use crate::Op;

/// Opcodes that one kernel tries.
const BATCH: usize = 24;

/// Two results of an opcode: the register, and the second predicate or the carry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) first: u64,
    pub(crate) second: u64,
}

/// The kinds of destinations.
#[derive(Debug, Clone, PartialEq)]
enum Result {
    Register(String),
    Predicate,
    Predicates,
    /// `d|p` of `lop3`.
    Both(String),
}

/// One opcode with the types of its operands.
pub(crate) struct Case<'a> {
    pub(crate) op: Op<'a>,
    opcode: &'a str,
    result: Result,
    /// Types of the source operands.
    pub(crate) inputs: Vec<String>,
    lut: bool,
    /// The carry flag is set before and read after; the last input is its value.
    carry: bool,
    /// The destination of a narrow conversion is a 32-bit register.
    wide: bool,
}

const BYTES: &[&str] = &["", "b0", "b1", "b2", "b3", "h0", "h1"];

impl<'a> Case<'a> {
    /// `operands` as in the table; `index` varies what the opcode leaves open.
    pub(crate) fn new(opcode: &'a str, operands: &[String], index: usize) -> Self {
        let mut op =
            Op { words: opcode.split('.').collect(), selectors: Default::default(), lut: 0 };
        let types: Vec<&str> = op.types();
        let resolve = |token: &str| -> String {
            match token {
                "T" => types.last().map_or("b32", |t| t).to_string(),
                "D" => types[0].to_string(),
                "W" => {
                    let last = types.last().expect("a type");
                    format!("{}{}", &last[..1], 2 * crate::integer::width(last))
                }
                other => other.trim_end_matches("<byte>").to_string(),
            }
        };
        let result = match operands[0].as_str() {
            "pred" => Result::Predicate,
            "pred|pred" => Result::Predicates,
            "T|pred" => Result::Both(resolve("T")),
            token if resolve(token) == "pred" => Result::Predicate,
            token => Result::Register(resolve(token)),
        };
        let combines = op.has("and") || op.has("or") || op.has("xor");
        let mut inputs: Vec<String> = Vec::new();
        let mut lut = false;
        for token in &operands[1..] {
            match token.as_str() {
                "bool" if combines => inputs.push("pred".into()),
                "bool" => {}
                "lut" => lut = true,
                token => inputs.push(resolve(token)),
            }
        }
        if lut {
            op.lut = (index as u32 * 37 + 0x2d) & 0xff;
        }
        select(&mut op, operands, index);
        let carry = op.has("cc") || matches!(op.base(), "addc" | "subc" | "madc");
        if carry {
            inputs.push("pred".into());
        }
        let wide = op.base() == "cvt" && index % 2 == 1;
        Case { op, opcode, result, inputs, lut, carry, wide }
    }

    /// Whether there are two results.
    pub(crate) fn has_second(&self) -> bool {
        matches!(self.result, Result::Predicates) || matches!(self.result, Result::Both(_))
    }

    /// Bits of the destination register.
    pub(crate) fn result_bits(&self) -> u32 {
        match &self.result {
            Result::Register(ty) | Result::Both(ty) => match class(ty, self.wide) {
                "%h" => 16,
                "%l" | "%d" => 64,
                _ => 32,
            },
            _ => 32,
        }
    }

    /// As in the kernel.
    pub(crate) fn text(&self) -> String {
        let lut = if self.lut { format!(" {:#x}", self.op.lut) } else { String::new() };
        format!("{}{lut} {:?}", self.opcode, self.op.selectors)
    }

    /// The statement, with its sources in registers 1 and up and its destination in register 0.
    fn statement(&self) -> String {
        let part = |i: usize| {
            let selector = self.op.selectors.get(i).map_or("", String::as_str);
            if selector.is_empty() { String::new() } else { format!(".{selector}") }
        };
        let mut operands = vec![match &self.result {
            Result::Register(ty) => format!("{}0{}", class(ty, self.wide), part(0)),
            Result::Predicate => "%p0".into(),
            Result::Predicates => "%p0|%p10".into(),
            Result::Both(ty) => format!("{}0|%p10", class(ty, false)),
        }];
        let sources = self.inputs.len() - usize::from(self.carry);
        for (i, ty) in self.inputs[..sources].iter().enumerate() {
            operands.push(format!("{}{}{}", class(ty, false), i + 1, part(i + 1)));
        }
        if self.lut {
            // The predicate of `lop3` stands behind the table.
            let at = operands
                .iter()
                .skip(1)
                .position(|o| o.starts_with("%p"))
                .map_or(operands.len(), |i| i + 1);
            operands.insert(at, self.op.lut.to_string());
        }
        format!("{} {};", self.opcode, operands.join(", "))
    }

    /// The statement between what sets up the carry and what stores the results at `at`.
    fn code(&self, at: usize) -> String {
        let mut code = String::new();
        if self.carry {
            code += &format!(
                "selp.u32 %r60, 1, 0, %p{}; add.cc.u32 %r60, %r60, -1;\n",
                self.inputs.len()
            );
        }
        code += &self.statement();
        if self.carry {
            code += "\naddc.u32 %r61, 0, 0;";
        }
        let predicate = |p: &str, at: usize| {
            format!("selp.u32 %r62, 1, 0, {p}; st.global.u32 [%l41+{at}], %r62;\n")
        };
        code += "\n";
        match &self.result {
            Result::Register(ty) => {
                code += &store(ty, self.wide, at);
            }
            Result::Predicate => code += &predicate("%p0", at),
            Result::Predicates => code += &(predicate("%p0", at) + &predicate("%p10", at + 8)),
            Result::Both(ty) => code += &(store(ty, false, at) + &predicate("%p10", at + 8)),
        }
        if self.carry {
            code += &format!("st.global.u32 [%l41+{}], %r61;\n", at + 8);
        }
        code
    }
}

fn store(ty: &str, wide: bool, at: usize) -> String {
    let class = class(ty, wide);
    let bits = match class {
        "%h" => 16,
        "%l" | "%d" => 64,
        _ => 32,
    };
    format!("st.global.b{bits} [%l41+{at}], {class}0;\n")
}

/// Selectors of video instructions, different for each opcode.
fn select(op: &mut Op, operands: &[String], index: usize) {
    let scalar = |i: usize| BYTES[i % BYTES.len()].to_string();
    let simd = op.base().ends_with(['2', '4']) && op.base().starts_with('v');
    if simd && !index.is_multiple_of(3) {
        let (kind, n, most) = if op.base().ends_with('2') { ('h', 2, 4) } else { ('b', 4, 8) };
        let digits = |seed: usize| {
            let digit = |i: usize| char::from(b'0' + ((seed >> (3 * i)) % most) as u8);
            format!("{kind}{}", (0..n).map(digit).collect::<String>())
        };
        let masks = ["h0", "h1", "h10", "b0", "b20", "b31", "b3210", "b210"];
        let mask =
            masks.iter().filter(|m| m.starts_with(kind)).cycle().nth(index).expect("a cycle");
        op.selectors =
            [mask.to_string(), digits(index * 2_654_435_761), digits(index * 40_503 + 77)];
    }
    if operands[0].ends_with("<byte>") || operands.get(1).is_some_and(|o| o.ends_with("<byte>")) {
        let second = op.has("add") || op.has("min") || op.has("max") || op.base() == "vmad";
        let d = if second { String::new() } else { scalar(index / 3) };
        op.selectors = [d, scalar(index), scalar(index / 2 + 3)];
    }
}

/// The registers that hold a type.
fn class(ty: &str, wide: bool) -> &'static str {
    match ty {
        "pred" => "%p",
        "f32" => "%f",
        "f64" => "%d",
        "u8" | "s8" | "b8" | "u16" | "s16" if wide => "%r",
        "u8" | "s8" | "b8" | "u16" | "s16" | "b16" | "f16" | "bf16" | "e4m3x2" | "e5m2x2" => "%h",
        "u64" | "s64" | "b64" => "%l",
        _ => "%r",
    }
}

/// Cases with the same inputs, a kernel's worth at a time.
pub(crate) fn batches<'c, 'a>(cases: &'c [Case<'a>]) -> Vec<Vec<&'c Case<'a>>> {
    let mut groups: Vec<Vec<&Case>> = Vec::new();
    for case in cases {
        match groups.iter_mut().find(|g| g.len() < BATCH && g[0].inputs == case.inputs) {
            Some(group) => group.push(case),
            None => groups.push(vec![case]),
        }
    }
    groups
}

/// Runs a batch over all rows; results by row and case.
pub(crate) fn run(batch: &[&Case], rows: &[Vec<u64>]) -> Vec<Vec<Output>> {
    let inputs = &batch[0].inputs;
    let mut loads = String::new();
    for (i, ty) in inputs.iter().enumerate() {
        let (class, n, at) = (class(ty, false), i + 1, 8 * i);
        loads += &match class {
            "%p" => format!("ld.global.u32 %r63, [%l40+{at}]; setp.ne.u32 %p{n}, %r63, 0;\n"),
            "%h" => format!("ld.global.b16 %h{n}, [%l40+{at}];\n"),
            "%l" | "%d" => format!("ld.global.b64 {class}{n}, [%l40+{at}];\n"),
            _ => format!("ld.global.b32 {class}{n}, [%l40+{at}];\n"),
        };
    }
    let code: String = batch.iter().enumerate().map(|(i, case)| case.code(16 * i)).collect();
    let text = format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out, .param .u32 n) {{\n\
         .reg .pred %p<20>; .reg .b16 %h<20>; .reg .b32 %r<64>; .reg .f32 %f<20>; .reg .b64 %l<48>; .reg .f64 %d<20>;\n\
         ld.param.u64 %l40, [in]; ld.param.u64 %l41, [out]; ld.param.u32 %r40, [n];\n\
         mov.u32 %r41, %ctaid.x; mov.u32 %r42, %tid.x; mad.lo.u32 %r41, %r41, 256, %r42;\n\
         setp.ge.u32 %p19, %r41, %r40; @%p19 ret;\n\
         mad.wide.u32 %l40, %r41, {}, %l40; mad.wide.u32 %l41, %r41, {}, %l41;\n{loads}{code}ret;\n}}\n",
        8 * inputs.len(),
        16 * batch.len(),
    );
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let input: Vec<u8> = rows.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
    let report = Launch::new(&module, "k")
        .grid([(rows.len() as u32).div_ceil(256), 1, 1])
        .block([256, 1, 1])
        .buffer("in", input)
        .buffer("out", vec![0; rows.len() * batch.len() * 16])
        .u32(rows.len() as u32)
        .run()
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(report.findings.is_empty(), "{:?}\n{text}", report.findings);
    let out = report.buffer("out").expect("a buffer");
    let word = |at: usize| u64::from_le_bytes(out[at..at + 8].try_into().expect("eight bytes"));
    let output = |at: usize| Output { first: word(at), second: word(at + 8) };
    (0..rows.len())
        .map(|r| (0..batch.len()).map(|c| output(16 * (r * batch.len() + c))).collect())
        .collect()
}
