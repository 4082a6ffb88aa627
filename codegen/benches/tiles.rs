//! Writes the PTX of products and of attention with stated tiles to a folder, for `benches/ptx/run.py`, which
//! counts their instructions: `cargo bench -p gigac-codegen --bench tiles -- FOLDER`.

#[path = "../tests/support/attention.rs"]
mod attention;

use std::path::PathBuf;

use attention::{Attention, Mask};
use gigac_codegen::nvptx::{GpuTarget, compile_ptx};
use gigac_ir::kernel::Kernel;

/// Rows, columns and depth.
const TILES: [[u64; 3]; 5] =
    [[128, 128, 32], [128, 256, 32], [128, 256, 64], [128, 128, 64], [64, 128, 32]];

/// The same for two products of one left operand.
const SIBLINGS: [[u64; 3]; 1] = [[128, 128, 32]];

/// Widths of heads.
const WIDTHS: [u64; 2] = [64, 128];

/// Rows, columns and depth of the whole product; queries and keys.
const SIZE: u64 = 4096;

fn main() {
    // Cargo passes `--bench` on.
    let folder = std::env::args().skip(1).find(|a| !a.starts_with("--"));
    let Some(folder) = folder.map(PathBuf::from) else {
        println!("tiles: name a folder for the PTX files");
        return;
    };
    let products = TILES.iter().map(product).chain(SIBLINGS.iter().map(siblings));
    let kernels: Vec<Kernel> = products.chain(WIDTHS.iter().flat_map(|c| heads(*c))).collect();
    let codes = compile_ptx(&kernels, GpuTarget::Sm80).expect("stated tiles compile");
    for code in codes {
        let path = folder.join(format!("{}.ptx", code.name));
        std::fs::write(&path, &code.ptx).expect("the folder can be written to");
        println!("{}: {} threads, {} bytes", code.name, code.threads, code.shared_bytes);
    }
}

/// `y = x·wᵀ` in bf16.
fn product([rows, cols, depth]: &[u64; 3]) -> Kernel {
    let text = format!(
        "kernel matmul_{rows}x{cols}x{depth} \"\" {{
  read x: bf16[{0}]
  read w: bf16[{0}]
  write y: bf16[{0}]
  var m: {SIZE} / {rows}
  var n: {SIZE} / {cols}
  var k: {SIZE} / {depth}
  grid m, n
  %0: f32[m, n] = 0.0
  loop k carry (%1: f32[m, n] = %0 -> %2) {{
    %3: f32[m, k] = load x[{SIZE}*m + k]
    %4: f32[n, k] = load w[{SIZE}*n + k]
    %5: f32[m, n] = dot %3, %4 along k
    %6: f32[m, n] = add %1, %5
    next %6
  }}
  store y[{SIZE}*m + n] = %2
}}",
        SIZE * SIZE
    );
    Kernel::parse(&text).expect("the text above is a kernel")
}

/// `y = x·wᵀ` and `z = x·vᵀ` in bf16, in one loop.
fn siblings([rows, cols, depth]: &[u64; 3]) -> Kernel {
    let text = format!(
        "kernel siblings_{rows}x{cols}x{depth} \"\" {{
  read x: bf16[{0}]
  read w: bf16[{0}]
  read v: bf16[{0}]
  write y: bf16[{0}]
  write z: bf16[{0}]
  var m: {SIZE} / {rows}
  var n: {SIZE} / {cols}
  var k: {SIZE} / {depth}
  grid m, n
  %0: f32[m, n] = 0.0
  loop k carry (%1: f32[m, n] = %0 -> %2, %3: f32[m, n] = %0 -> %4) {{
    %5: f32[m, k] = load x[{SIZE}*m + k]
    %6: f32[n, k] = load w[{SIZE}*n + k]
    %7: f32[m, n] = dot %5, %6 along k
    %8: f32[m, n] = add %1, %7
    %9: f32[n, k] = load v[{SIZE}*n + k]
    %10: f32[m, n] = dot %5, %9 along k
    %11: f32[m, n] = add %3, %10
    next %8, %11
  }}
  store y[{SIZE}*m + n] = %2
  store z[{SIZE}*m + n] = %4
}}",
        SIZE * SIZE
    );
    Kernel::parse(&text).expect("the text above is a kernel")
}

/// Causal attention over heads of a width, in tiles of 128 queries and 64 keys: forward, the gradient of queries, and
/// those of keys and values, in tiles of 128 keys.
fn heads(width: u64) -> [Kernel; 3] {
    let heads = Attention::heads(1, 4, SIZE, width, [128, 64], Mask::Causal(0));
    let heads = Attention { half: true, ..heads };
    let queries = if width > 64 { 32 } else { 64 };
    let keys = Attention { tiles: [queries, 128], ..heads };
    let of = |text: String, name: &str, named: String| {
        let text = text.replace(&format!("kernel {name} "), &format!("kernel {named} "));
        Kernel::parse(&text).expect("the text above is a kernel")
    };
    [
        of(heads.forward(), "forward", format!("attention_128x64x{width}")),
        of(heads.queries(), "queries", format!("queries_128x64x{width}")),
        of(keys.values([true; 2]), "values", format!("keys_128x{queries}x{width}")),
    ]
}
