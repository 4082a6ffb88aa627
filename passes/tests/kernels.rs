//! What the formed kernels of small graphs look like.

use gigac_ir::graph::Graph;
use gigac_ir::kernel::{Access, Kernel};
use gigac_passes::{form, split_sums};

fn kernels(text: &str) -> Vec<Kernel> {
    let graph = Graph::parse(text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    graph.verify().unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    form::form(split_sums::split_sums(graph), "k").kernels
}

#[test]
fn work_behind_a_full_sum_is_shared_out() {
    let formed = kernels(
        "graph normalise {
  axes A = 64, B = 512
  param w[A, B] = 1
  %0 = param[w]
  %1 = mul %0, %0
  %2 = reduce[sum: A, B] %1
  %3 = sqrt %2
  %4 = div %0, %3
  result output y = %4
}",
    );
    for kernel in formed {
        let largest = kernel.buffers.iter().map(|b| b.elements).max().unwrap_or(0);
        let shared = largest < 64 * 512 || kernel.grid_points() >= 8;
        assert!(shared, "one thread does it all:\n{kernel}");
    }
}

/// A product `%3` of `%0` and `%1`, with a bias `%2`, residual values `%4`, and an epilogue.
fn product(epilogue: &str) -> Vec<Kernel> {
    kernels(&format!(
        "graph linear {{
  axes T = 32, D = 48, F = 64
  param x[T, D] = 1
  param w[F, D] = 1
  param b[F] = 0
  param r[T, F] = 1
  %0 = param[x]
  %1 = param[w]
  %2 = param[b]
  %3 = dot[D] %0, %1
  %4 = param[r]
{epilogue}
}}"
    ))
}

fn written(kernel: &Kernel) -> usize {
    kernel.buffers.iter().filter(|b| b.access != Access::Read).count()
}

#[test]
fn bias_activation_and_residual_are_a_products_epilogue() {
    let formed =
        product("  %5 = add %3, %2\n  %6 = tanh %5\n  %7 = add %4, %6\n  result output y = %7");
    assert_eq!(formed.len(), 1, "{formed:#?}");
    assert_eq!(written(&formed[0]), 1, "the product itself stays in registers:\n{}", formed[0]);
}

#[test]
fn a_product_that_others_read_is_stored_beside_its_epilogue() {
    let formed = product("  %5 = add %3, %2\n  result output y = %5\n  result output raw = %3");
    assert_eq!(formed.len(), 1, "{formed:#?}");
    assert_eq!(written(&formed[0]), 2, "{}", formed[0]);
}

#[test]
fn an_epilogue_waits_for_nothing_that_needs_the_product() {
    // The second product reads the first one's sums over rows, which must be finished before.
    let formed = product(
        "  %5 = reduce[max: F] %3\n  %6 = sub %3, %5\n  %7 = exp %6\n  result output y = %7",
    );
    assert!(formed.len() > 1, "{formed:#?}");
}
