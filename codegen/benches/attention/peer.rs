//! PyTorch's times for the same shapes, when a Python that has it is given.

use std::process::Command;

use super::Shape;

const SCRIPT: &str = "
import sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
attend = torch.nn.functional.scaled_dot_product_attention
def best(turns, run):
    def once():
        start = time.perf_counter()
        for _ in range(turns): run()
        return (time.perf_counter() - start) / turns
    return min(once() for _ in range(5))
for shape in sys.argv[2:]:
    b, h, t, c, causal = map(int, shape.split(','))
    q, k, v, g = [torch.randn(b, t, h, c).transpose(1, 2) for _ in range(4)]
    for x in (q, k, v): x.requires_grad_()
    run = lambda: attend(q, k, v, is_causal=bool(causal))
    turns = int(max(1, 2e9 / (4 * b * h * t * t * c)))
    with torch.no_grad(): forward = best(turns, run)
    out = run()
    backward = best(turns, lambda: torch.autograd.grad(out, [q, k, v], g, retain_graph=True))
    print(forward, backward)
";

/// Seconds forward and backward, one pair per shape; empty without the environment variable
/// `GIGAC_BENCH_PYTHON`.
pub(crate) fn times(shapes: &[Shape], threads: u64) -> Vec<[f64; 2]> {
    let Ok(python) = std::env::var("GIGAC_BENCH_PYTHON") else { return Vec::new() };
    let argument =
        |s: &Shape| format!("{},{},{},{},{}", s.b, s.h, s.t, s.c, if s.causal { 1 } else { 0 });
    let output = Command::new(&python)
        .args(["-c", SCRIPT, &threads.to_string()])
        .args(shapes.iter().map(argument))
        .output()
        .unwrap_or_else(|e| panic!("{python}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{python}: {errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |x: &str| x.parse().expect("the script prints numbers");
    let pair = |line: &str| {
        let mut numbers = line.split_whitespace().map(number);
        [numbers.next(), numbers.next()].map(|x| x.expect("two numbers in a line"))
    };
    text.lines().map(pair).collect()
}
