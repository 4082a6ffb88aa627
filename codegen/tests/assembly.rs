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

/// The form that the compiler makes of a cross-entropy: a variable for each loop over the row.
const CROSS_ENTROPY: &str = r#"kernel cross_entropy "" {
  update x: f32[16384]
  write s: f32[64]
  var r: 64 / 1
  var i: 256 / 64
  var j: 256 / 64
  var k: 256 / 64
  grid r
  %0: f32 = -inf
  loop i carry (%1: f32[r, i] = %0 -> %2) {
    %3: f32[r, i] = load x[256*r + i]
    %4: f32[r, i] = max %1, %3
    next %4
  }
  %5: f32[r] = reduce max %2 along i
  %6: f32 = 0.0
  loop j carry (%7: f32[r, j] = %6 -> %8) {
    %9: f32[r, j] = load x[256*r + j]
    %10: f32[r, j] = sub %9, %5
    %11: f32[r, j] = exp %10
    store x[256*r + j] = %11
    %12: f32[r, j] = add %7, %11
    next %12
  }
  %13: f32[r] = reduce sum %8 along j
  store s[r] = %13
  loop k {
    %14: f32[r, k] = load x[256*r + k]
    %15: f32[r, k] = div %14, %13
    store x[256*r + k] = %15
  }
}"#;

#[test]
fn every_loop_has_its_vector_variable() {
    for (target, register) in [(CpuTarget::x86_64_v4(), "zmm"), (CpuTarget::x86_64_v3(), "ymm")] {
        let asm = instructions(&emit_asm(&[kernel(CROSS_ENTROPY)], &target).expect("compiles"));
        let count = |part: &str| asm.lines().filter(|l| l.contains(part)).count();
        for operation in ["vmaxps", "vfmadd213ps", "vdivps"] {
            let wide = asm.lines().filter(|l| l.contains(operation) && l.contains(register));
            assert!(wide.count() >= 4, "`{operation}` works on vectors: {target:?}");
        }
        assert_eq!(count("vfmadd213ss") + count("vdivss"), 0, "no lane is computed for itself");
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
