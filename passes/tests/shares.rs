//! Kernels that touch much memory have grid points to share out among threads.

use gigac_ir::graph::Graph;
use gigac_passes::{form, split_sums};

#[test]
fn work_behind_a_full_sum_is_shared_out() {
    let text = "graph normalise {
  axes A = 64, B = 512
  param w[A, B] = 1
  %0 = param[w]
  %1 = mul %0, %0
  %2 = reduce[sum: A, B] %1
  %3 = sqrt %2
  %4 = div %0, %3
  result output y = %4
}";
    let graph = Graph::parse(text).unwrap_or_else(|e| panic!("{e:?}"));
    let formed = form::form(split_sums::split_sums(graph), "k");
    for kernel in &formed.kernels {
        let largest = kernel.buffers.iter().map(|b| b.elements).max().unwrap_or(0);
        assert!(
            largest < 64 * 512 || kernel.grid_points() >= 8,
            "one thread does it all:\n{kernel}"
        );
    }
}
