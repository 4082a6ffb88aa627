//! Accesses of device memory that are narrower than 16 bytes, and why they may be.
//!
//! The text of a kernel says how wide each access is, and by which parameter its address is made;
//! the tile program says what is accessed there. A kernel passes when every narrow access has one of
//! the reasons of [`Reason`].

use std::collections::{BTreeMap, BTreeSet};

use gigac_codegen::nvptx::PtxKernel;
use gigac_ir::kernel::{
    Access, BufferId, Expr, Factor, Kernel, Offset, Stmt, Storage, TileId, VarId,
};

use crate::{gpu, kernels, sampled};

/// Bytes of the widest access.
const WIDEST: u64 = 16;

/// Why an access is narrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// All threads read, or one thread writes, one element: an index, a learning rate, a sum.
    OneElement,
    /// One element for each row, or for each column, of a tile.
    OneOfARow,
    /// Rows do not begin at multiples of 16 bytes, or end there.
    Ragged,
    /// In the epilogue of a product, four elements in bf16 beside 16 bytes of f32.
    BesideF32,
}

/// An access to a buffer in the tile program.
struct Place<'k> {
    offset: &'k Offset,
    vars: BTreeSet<VarId>,
}

/// What one kernel's text does narrowly: parameter, whether it stores, bytes.
fn narrow(code: &PtxKernel) -> BTreeSet<(usize, bool, u64)> {
    let lines: Vec<&str> = code.ptx.lines().map(str::trim).collect();
    let made = addresses(&code.name, &lines);
    let mut found = BTreeSet::new();
    for line in lines {
        let line = line.split_once(' ').filter(|_| line.starts_with('@')).map_or(line, |l| l.1);
        let Some((name, operands)) = line.split_once(['\t', ' ']) else { continue };
        let copies = name.starts_with("cp.async.") && name.contains("global");
        if !copies && !name.starts_with("ld.global") && !name.starts_with("st.global") {
            continue;
        }
        let bytes = if copies { copied(operands) } else { width(name) };
        let address = if copies { operands.split(']').nth(1) } else { Some(operands) };
        let inside = address.and_then(|a| a.split(['[', ']']).nth(1)).unwrap_or_default();
        let register = inside.split('+').next().unwrap_or_default();
        let from =
            made.get(register).unwrap_or_else(|| panic!("where is {register} from?\n{line}"));
        if bytes < WIDEST {
            found.extend(from.iter().map(|p| (*p, name.starts_with("st."), bytes)));
        }
    }
    found
}

/// Bytes of an access by its name, such as `ld.global.nc.v4.b32`.
fn width(name: &str) -> u64 {
    let parts = || name.split('.');
    let mut bits =
        parts().filter_map(|p| p.trim_start_matches(['b', 'u', 's', 'f']).parse::<u64>().ok());
    let mut many = parts().filter_map(|p| p.strip_prefix('v')?.parse::<u64>().ok());
    bits.next_back().expect("an access has a width") / 8 * many.next_back().unwrap_or(1)
}

/// Bytes of an asynchronous copy: its third operand.
fn copied(operands: &str) -> u64 {
    let number = |part: &str| part.trim_matches([' ', ';']).parse().ok();
    operands.split(',').find_map(number).expect("a copy has a size")
}

/// The parameters that each register is made of, through any arithmetic, by its name.
fn addresses(name: &str, lines: &[&str]) -> BTreeMap<String, BTreeSet<usize>> {
    let mut made: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    let known = |made: &BTreeMap<String, BTreeSet<usize>>| -> usize {
        made.values().map(BTreeSet::len).sum()
    };
    let mut before = None;
    while before != Some(known(&made)) {
        before = Some(known(&made));
        for line in lines {
            let words: Vec<&str> = line
                .split([' ', '\t', ',', ';', '[', ']', '{', '}'])
                .filter(|w| !w.is_empty())
                .collect();
            let Some(to) = words.iter().position(|w| w.starts_with("%rd")) else { continue };
            if line.starts_with("st.") || line.starts_with("cp.") {
                continue;
            }
            let parameter = |w: &&str| w.strip_prefix(&format!("{name}_param_"))?.parse().ok();
            let mut from: BTreeSet<usize> = words.iter().filter_map(parameter).collect();
            from.extend(words[to + 1..].iter().filter_map(|w| made.get(*w)).flatten());
            if !from.is_empty() {
                made.entry(words[to].to_owned()).or_default().extend(from);
            }
        }
    }
    made
}

/// The accesses of a program, by buffer and whether they store.
fn places(kernel: &Kernel) -> BTreeMap<(BufferId, bool), Vec<Place<'_>>> {
    fn collect<'k>(
        kernel: &'k Kernel,
        body: &'k [Stmt],
        found: &mut BTreeMap<(BufferId, bool), Vec<Place<'k>>>,
    ) {
        let place = |offset: &'k Offset, also: Option<TileId>| {
            let tiles = offset.tiles().into_iter().chain(also);
            let vars = tiles.flat_map(|t| kernel.ty(t).vars.clone());
            Place { offset, vars: vars.chain(offset.vars()).collect() }
        };
        for stmt in body {
            match stmt {
                Stmt::Let(_, Expr::Load { buffer, offset, mask }) => {
                    found.entry((*buffer, false)).or_default().push(place(offset, *mask));
                }
                Stmt::Store { buffer, offset, mask, accumulate, .. } => {
                    let stores = [true, false].into_iter().take(1 + usize::from(*accumulate));
                    stores.for_each(|store| {
                        found.entry((*buffer, store)).or_default().push(place(offset, *mask));
                    });
                }
                Stmt::Loop { body, .. } => collect(kernel, body, found),
                Stmt::Let(..) | Stmt::When(_) => {}
            }
        }
    }
    let mut found = BTreeMap::new();
    collect(kernel, &kernel.body, &mut found);
    found
}

impl Place<'_> {
    /// Elements of a tile.
    fn elements(&self, kernel: &Kernel) -> u64 {
        let of = |v: &VarId| kernel.var(*v).tile.min(kernel.var(*v).extent);
        self.vars.iter().map(of).product()
    }

    /// Why it may be narrow, beside accesses of tiles of `most` elements.
    fn reason(&self, kernel: &Kernel, buffer: BufferId, most: u64) -> Option<Reason> {
        match self.elements(kernel) {
            1 => return Some(Reason::OneElement),
            few if few * 4 <= most => return Some(Reason::OneOfARow),
            _ => {}
        }
        let buffer = &kernel.buffers[buffer.0 as usize];
        let unit = WIDEST / buffer.storage.bytes();
        let odd = |n: i64| !n.unsigned_abs().is_multiple_of(unit);
        let terms = self.offset.terms.iter();
        let ragged = terms.clone().any(|term| match (term.coefficient, term.factor) {
            (1, Factor::Digit { var, divisor: 1, modulus }) => {
                let extent = if modulus == 0 { kernel.var(var).extent } else { modulus };
                odd(extent as i64)
            }
            (coefficient, _) => odd(coefficient),
        });
        let ragged = ragged || odd(self.offset.constant) || odd(buffer.elements as i64);
        ragged.then_some(Reason::Ragged)
    }
}

/// A kernel's narrow accesses, in words, with their reasons.
fn reasons(kernel: &Kernel) -> Vec<(String, Option<Reason>)> {
    let code = gpu::compiled(kernel);
    let arguments = (0..kernel.buffers.len() as u32).map(BufferId);
    let arguments: Vec<BufferId> =
        arguments.filter(|b| kernel.buffers[b.0 as usize].access != Access::Local).collect();
    let places = places(kernel);
    let most = places.values().flatten().map(|p| p.elements(kernel)).max().unwrap_or(1);
    let why = |(parameter, store, bytes): &(usize, bool, u64)| {
        let buffer = arguments[*parameter];
        let of = places.get(&(buffer, *store)).into_iter().flatten();
        let half = |p: &&Place<'_>| {
            let storage = |b: BufferId| kernel.buffers[b.0 as usize].storage;
            let mut others = places.iter().filter(|((b, _), _)| storage(*b) == Storage::F32);
            let beside = others.any(|(_, of)| of.iter().any(|other| other.vars == p.vars));
            code.ptx.contains("mma.sync")
                && storage(buffer) == Storage::Bf16
                && *bytes == 8
                && beside
        };
        let reason = |p: &Place<'_>| {
            let half = half(&p).then_some(Reason::BesideF32);
            p.reason(kernel, buffer, most).or(half)
        };
        let found = of.filter_map(reason).min();
        let verb = if *store { "stores" } else { "loads" };
        let name = &kernel.buffers[buffer.0 as usize].name;
        (format!("{} {verb} {bytes} bytes of {name}", kernel.name), found)
    };
    narrow(&code).iter().map(why).collect()
}

/// The narrow accesses of kernels that have no reason.
fn without_reason(kernels: &[Kernel]) -> Vec<String> {
    let all = kernels.iter().flat_map(reasons);
    all.filter_map(|(what, reason)| reason.is_none().then_some(what)).collect()
}

#[test]
fn widths_and_addresses_are_read_from_the_text() {
    assert_eq!(
        [width("ld.global.nc.v4.b32"), width("st.global.v2.b16"), width("ld.global.b64")],
        [16, 4, 8]
    );
    assert_eq!(copied("[%r1], [%rd2], 16;"), 16);
    let lines = [
        "ld.param.b64 \t%rd1, [k_param_1];",
        "add.s64 \t%rd2, %rd3, 4;",
        "add.s64 \t%rd3, %rd1, %rd2;",
    ];
    assert_eq!(addresses("k", &lines)["%rd2"], BTreeSet::from([1]));
}

/// What is accessed across its lines, or through a mask that may differ between neighbours, has no reason.
#[test]
fn a_transposed_access_has_no_reason() {
    let text = r#"kernel turn "" {
  read x: f32[4096]
  write y: f32[4096]
  var a: 64 / 1
  var b: 64 / 64
  grid a, b
  %0: f32[a, b] = load x[64*b + a]
  store y[64*a + b] = %0
}"#;
    let kernel = Kernel::parse(text).expect("the text is a kernel");
    assert_eq!(without_reason(&[kernel]), ["turn loads 4 bytes of x"]);
}

#[test]
fn of_a_nano_step_every_narrow_access_has_a_reason() {
    let kernels = kernels("nano", &["train.precision=bf16"]);
    assert_eq!(without_reason(&kernels), Vec::<String>::new());
}

/// Here nothing is ragged but what there is one of for each of 54 layers.
#[test]
fn of_the_largest_model_every_narrow_access_has_a_reason() {
    let kernels = sampled::step();
    assert_eq!(without_reason(&kernels), Vec::<String>::new());
    for kernel in kernels.iter().filter(|k| k.buffers.iter().all(|b| b.elements != 54)) {
        let ragged = reasons(kernel).into_iter().find(|(_, why)| *why == Some(Reason::Ragged));
        assert_eq!(ragged, None, "{kernel}");
    }
}
