//! What the formed kernels of small graphs look like.

use gigac_ir::graph::Graph;
use gigac_ir::interpret::{Bindings, interpret};
use gigac_ir::kernel::{Access, Arithmetic, Kernel, Machine};
use gigac_passes::outcome::{Outcome, of_graph};
use gigac_passes::{form, split_sums};

fn graph(text: &str) -> Graph {
    let graph = Graph::parse(text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    graph.verify().unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    graph
}

fn kernels(text: &str) -> Vec<Kernel> {
    form::form(split_sums::split_sums(graph(text)), "k", false, Machine::Cpu).kernels
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
fn what_reads_only_what_an_epilogue_reads_joins_it() {
    let more = "  %7 = tanh %4\n  result output y = %6\n  result output z = %7";
    let alike = product(&format!("  %5 = add %3, %2\n  %6 = mul %5, %4\n{more}"));
    assert_eq!(alike.len(), 1, "{alike:#?}");
    assert_eq!(written(&alike[0]), 2, "{}", alike[0]);
    let other = product(&format!("  %5 = add %3, %2\n  %6 = exp %5\n{more}"));
    assert_eq!(other.len(), 2, "the epilogue does not read the residual: {other:#?}");
}

#[test]
fn an_epilogue_waits_for_nothing_that_needs_the_product() {
    // The second product reads the first one's sums over rows, which must be finished before.
    let formed = product(
        "  %5 = reduce[max: F] %3\n  %6 = sub %3, %5\n  %7 = exp %6\n  result output y = %7",
    );
    assert!(formed.len() > 1, "{formed:#?}");
}

/// What reaches hidden values from three products of different depths, one of them written the
/// other way round; then an epilogue.
fn sum_of_products(results: &str) -> Graph {
    graph(&format!(
        "graph sums {{
  axes H = 3, T = 8, D = 5, E = 6, F = 7
  param a[H, T, E] = 1
  param b[H, T, F] = 2
  param c[H, E, D] = 3
  param d[H, F, D] = 4
  %0 = param[a]
  %1 = param[b]
  %2 = param[c]
  %3 = param[d]
  %4 = dot[E] %0, %2
  %5 = dot[F] %3, %1
  %6 = dot[E] %0, %2
  %7 = tanh %0
  %8 = dot[E] %7, %2
  %9 = add %4, %5
  %10 = add %9, %8
  %11 = mul %10, %6
{results}
}}"
    ))
}

/// The results as the graph says them, and as its kernels compute them.
fn outcomes(graph: &Graph, exact: bool) -> (usize, Vec<Outcome>, Vec<Outcome>) {
    let bindings = Bindings::example(graph);
    let formed = form::form(graph.clone(), "k", exact, Machine::Cpu);
    let expected = of_graph(graph, interpret(graph, &bindings).expect("the graph runs"));
    let products = formed.kernels.iter().map(|k| k.to_string().matches("= dot ").count());
    (products.max().unwrap_or(0), expected, formed.interpret(&bindings, Arithmetic::F64))
}

#[test]
fn a_sum_of_products_is_one_kernel_unless_every_bit_counts() {
    let once = "  result output y = %11";
    for (results, exact, most) in [
        (once, false, 3),
        (once, true, 1),
        // What somebody else reads must be finished.
        ("  result output y = %11\n  result output first = %4", false, 1),
        ("  result output y = %11\n  result output two = %9", false, 2),
    ] {
        let (products, expected, got) = outcomes(&sum_of_products(results), exact);
        assert_eq!(products, most, "products of one kernel, for {results}, exact: {exact}");
        for (want, got) in expected.iter().zip(&got) {
            let found = want.difference(got, 0.0);
            assert!(found.relative <= 1e-12, "{results}: {found:?}");
        }
    }
}

/// A row's shares of a sum; the terms are dear, so they are kept from loop to loop.
#[test]
fn what_only_a_kernels_own_loops_read_is_no_argument() {
    let formed = kernels(
        "graph shares {
  axes T = 96, V = 80
  param x[T, V] = 1
  %0 = param[x]
  %1 = reduce[max: V] %0
  %2 = sub %0, %1
  %3 = exp %2
  %4 = tanh %3
  %5 = reduce[sum: V] %4
  %6 = div %4, %5
  result output y = %6
}",
    );
    let [kernel] = &formed[..] else { panic!("one kernel: {formed:?}") };
    let accesses = [Access::Read, Access::Write, Access::Local];
    assert!(kernel.buffers.iter().map(|b| b.access).eq(accesses), "{kernel}");
    assert_eq!(kernel.buffers[2].elements, 80, "one row of them: {kernel}");
}
