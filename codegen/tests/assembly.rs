//! The code of two kernels under snapshot, and what must hold of it.

use gigac_codegen::x86::{CpuTarget, emit_asm, emit_llvm};
use gigac_ir::kernel::Kernel;

const AXPY: &str = r#"kernel axpy "" {
  read x: f32[1000]
  update y: bf16[1000]
  var i: 1000 / 32
  grid i
  %0: f32[i] = load x[i]
  %1: f32[i] = load y[i]
  %2: f32 = 0.5
  %3: f32[i] = mul %0, %2
  %4: f32[i] = add %3, %1
  store y[i] = %4
}"#;

const SOFTMAX: &str = include_str!("../benches/regions/softmax.kernel");

fn kernel(text: &str) -> Kernel {
    let kernel = Kernel::parse(text).unwrap_or_else(|e| panic!("{e}"));
    kernel.verify().unwrap_or_else(|e| panic!("{e:?}"));
    kernel
}

/// Instructions without directives, constants and comments.
fn instructions(asm: &str) -> String {
    let code = asm.lines().filter(|l| l.starts_with('\t') && !l.starts_with("\t."));
    code.map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn elementwise_kernel() {
    let llvm = emit_llvm(&[kernel(AXPY)], &CpuTarget::x86_64_v4()).expect("compiles");
    let body = llvm.find("define").map_or("", |at| &llvm[at..]);
    insta::assert_snapshot!("axpy.x86_64_v4.ll", body.split("\n}").next().unwrap_or(body));
    assert!(!body.contains("phi <"), "nothing is carried from tile to tile");
    assert!(!body.contains("alloca"), "all values are registers");
}

#[test]
fn softmax_of_a_row() {
    for (target, register) in [(CpuTarget::x86_64_v4(), "zmm"), (CpuTarget::x86_64_v3(), "ymm")] {
        let text = SOFTMAX.replace("d: 1024 / 64", "d: 1024 / 32");
        let asm = instructions(&emit_asm(&[kernel(&text)], &target).expect("compiles"));
        let count = |part: &str| asm.matches(part).count();
        assert_eq!(count("call"), 0, "kernels call nothing");
        assert_eq!(count("div"), 1, "only the reciprocal of the sum is divided for");
        assert!(count(register) > 80, "vectors are as wide as {target:?} has them");
        // AVX2 has too few registers for the constants of exp, which then lie on the stack.
        if register == "zmm" {
            assert_eq!(count("%rsp"), 0, "nothing is spilled");
            insta::assert_snapshot!("softmax.x86_64_v4.s", asm);
        }
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let kernels = [kernel(AXPY), kernel(SOFTMAX)];
    let target = CpuTarget::x86_64_v4();
    let image = || gigac_codegen::x86::compile_cpu(&kernels, &target).expect("compiles");
    assert_eq!(image(), image());
}

#[test]
fn unsupported_tiles_are_refused_by_name() {
    let text = AXPY.replace("1000 / 32", "1000 / 1000");
    let error = emit_asm(&[kernel(&text)], &CpuTarget::x86_64_v4()).expect_err("too wide");
    let message = "kernel `axpy`: %0 has 1000 × 1 lanes, more than 256 × 64";
    assert_eq!(error.to_string(), message);
}
