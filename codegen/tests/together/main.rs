//! Several kernels in one launch: the same bits as one after the other.

#[path = "../support/mod.rs"]
mod support;

use gigac_codegen::nvptx::{GpuTarget, PtxKernel, compile_launch};
use gigac_ir::kernel::Kernel;
use support::gpu::{self, Part};
use support::{content, kernel};

/// `y = x · turn + y` over rows of threads that go along the elements.
fn axpy(elements: u64, tile: u64) -> Kernel {
    kernel(&format!(
        r#"kernel axpy_{elements} "" {{
  read x: f32[{elements}]
  update y: f32[{elements}]
  scalar t
  var i: {elements} / {tile}
  grid i
  %0: f32[i] = load x[i]
  %1: f32[i] = load y[i]
  %2: i32 = index t
  %3: f32 = real %2
  %4: f32[i] = mul %0, %3
  %5: f32[i] = add %4, %1
  store y[i] = %5
}}"#
    ))
}

/// The sum of each row, which all threads of a block add up.
fn sums(rows: u64, columns: u64, tile: u64) -> Kernel {
    kernel(&format!(
        r#"kernel sums_{columns} "" {{
  read x: f32[{}]
  write y: f32[{rows}]
  var r: {rows} / 1
  var d: {columns} / {tile}
  grid r
  %0: f32[d] = 0.0
  loop d carry (%1: f32[d] = %0 -> %2) {{
    %3: f32[r, d] = load x[{columns}*r + d]
    %4: f32[d] = reduce sum %3 along r
    %5: f32[d] = add %1, %4
    next %5
  }}
  %6: f32 = reduce sum %2 along d
  store y[r] = %6
}}"#,
        rows * columns
    ))
}

/// Made-up arguments of parts: none has those of another one.
fn parts<'k>(kernels: &[&'k Kernel]) -> Vec<Part<'k>> {
    let part = |(i, kernel): (usize, &&'k Kernel)| {
        let mut arguments = content(kernel);
        arguments.iter_mut().flatten().for_each(|x| *x += i as f64);
        let scalars = kernel.scalars.iter().map(|_| i as i64 + 2).collect();
        Part { kernel, arguments, scalars }
    };
    kernels.iter().enumerate().map(part).collect()
}

/// One launch of all is many launches of one, under every schedule.
fn check(kernels: &[&Kernel]) -> PtxKernel {
    let code = compile_launch("all", kernels, GpuTarget::Sm80).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(code.blocks, kernels.iter().map(|k| k.grid_points()).sum::<u64>());
    let parts = parts(kernels);
    let alone = parts
        .iter()
        .flat_map(|part| gpu::run(part.kernel, &part.arguments, &part.scalars).swap_remove(0).1);
    let alone: Vec<Vec<f64>> = alone.collect();
    for (schedule, together) in gpu::run_launch(&code, &parts) {
        assert!(together == alone, "{schedule:?}\n{}", code.ptx);
    }
    code
}

#[test]
fn parts_have_their_own_arguments() {
    let (small, large) = (axpy(100, 16), axpy(4000, 1024));
    check(&[&small, &large]);
    let code = check(&[&large, &small, &large, &small, &large]);
    assert_eq!(code.threads, 256);
}

/// The code of a kernel is there once, however many parts run it; nothing is called, nothing is spilt.
#[test]
fn parts_of_one_kernel_share_its_code() {
    let kernel = axpy(4096, 1024);
    let [alone, three] = [1, 3].map(|n| check(&vec![&kernel; n]).ptx);
    for access in ["ld.global", "st.global", "fma.rn", "mul.rn"] {
        assert_eq!(alone.matches(access).count(), three.matches(access).count(), "{three}");
    }
    assert!(alone.contains("st.global.v4") && three.contains("st.global.v4"), "{three}");
    assert_eq!(three.matches(".entry").count(), 1);
    for word in [".func", "call", ".local"] {
        assert!(!three.contains(word), "{three}");
    }
}

/// Threads that a part has no work for are not waited for.
#[test]
fn barriers_are_those_of_a_part() {
    let (narrow, wide) = (sums(7, 300, 256), sums(5, 3000, 1024));
    let code = check(&[&narrow, &wide, &axpy(50, 16), &narrow]);
    let threads = |kernel: &Kernel| gpu::compiled(kernel).threads;
    assert!(threads(&narrow) < threads(&wide) && code.threads == threads(&wide));
    assert!(threads(&narrow) > 32, "several warps meet");
    let barriers = code.ptx.lines().filter(|line| line.contains("bar"));
    let some = format!("0, {};", threads(&narrow));
    assert!(barriers.clone().any(|line| line.ends_with(&some)), "{}", code.ptx);
}

#[test]
fn products_are_not_taken() {
    let product = kernel(
        r#"kernel dot "" {
  read x: f32[256]
  read w: f32[256]
  write y: f32[256]
  var t: 16 / 16
  var f: 16 / 16
  var d: 16 / 16
  grid t, f
  %0: f32[t, f] = 0.0
  loop d carry (%1: f32[t, f] = %0 -> %2) {
    %3: f32[t, d] = load x[16*t + d]
    %4: f32[f, d] = load w[16*f + d]
    %5: f32[t, f] = dot %3, %4 along d
    %6: f32[t, f] = add %1, %5
    next %6
  }
  store y[16*t + f] = %2
}"#,
    );
    let refused = compile_launch("all", &[&product, &axpy(100, 16)], GpuTarget::Sm80);
    let error = refused.expect_err("it has another shape of blocks").to_string();
    assert!(error.contains("`dot`") && error.contains("multiplies matrices"), "{error}");
}
