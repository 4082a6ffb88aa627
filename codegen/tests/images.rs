//! Images: kernels of several modules in one run of bytes.

use gigac_codegen::x86::{CpuTarget, compile_cpu};
use gigac_ir::kernel::Kernel;

fn scaled(name: &str, factor: u32) -> Kernel {
    let text = format!(
        "kernel {name} \"{name}\" {{
  read x: f32[64]
  write y: f32[64]
  var i: 64 / 16
  grid i
  %0: f32[i] = load x[i]
  %1: f32 = {factor}.0
  %2: f32[i] = mul %0, %1
  store y[i] = %2
}}"
    );
    Kernel::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

#[test]
fn kernels_that_differ_in_name_alone_share_their_code() {
    let kernels = [scaled("a", 2), scaled("b", 3), scaled("c", 2)];
    let image = compile_cpu(&kernels, &CpuTarget::x86_64_v3()).expect("they compile");
    let offset = |name: &str| image.entry(name).expect("every kernel has an entry").offset;
    assert_eq!(offset("a"), offset("c"));
    assert_ne!(offset("a"), offset("b"));
}

#[test]
fn the_same_kernels_give_the_same_bytes() {
    let kernels: Vec<Kernel> = (0..40).map(|i| scaled(&format!("k{i}"), i)).collect();
    let target = CpuTarget::x86_64_v3();
    let compile = || compile_cpu(&kernels, &target).expect("they compile");
    let (first, second) = (compile(), compile());
    assert_eq!(first, second);
    let offsets: Vec<u64> = first.entries.iter().map(|e| e.offset).collect();
    let mut sorted = offsets.clone();
    sorted.dedup();
    assert_eq!(sorted.len(), kernels.len(), "every kernel has code of its own: {offsets:?}");
}
