//! PyTorch's rates for the same shapes, when a Python that has it is given.

use std::process::Command;

use super::{COLD_BYTES, Shape};

const SCRIPT: &str = "
import sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
def operands(b, m, n, k, ta, tb):
    x = torch.randn(b, k, m).transpose(1, 2) if ta else torch.randn(b, m, k)
    y = torch.randn(b, n, k).transpose(1, 2) if tb else torch.randn(b, k, n)
    if b == 1: x, y = x[0], y[0]
    return x, y, torch.matmul(x, y)
for shape in sys.argv[3:]:
    b, m, n, k, ta, tb = map(int, shape.split(','))
    count = max(1, int(sys.argv[2]) // (4 * b * (m * k + k * n + m * n)))
    sets = [operands(b, m, n, k, ta, tb) for _ in range(count)]
    turns = int(max(1, min(1000, 3e9 / (2 * b * m * n * k))))
    best, at = float('inf'), 0
    for _ in range(25):
        start = time.perf_counter()
        for _ in range(turns):
            x, y, out = sets[at % count]
            torch.matmul(x, y, out=out)
            at += 1
        best = min(best, (time.perf_counter() - start) / turns)
    print(2e-9 * b * m * n * k / best)
";

/// GFLOP/s, one per shape; empty without the environment variable `GIGAC_BENCH_PYTHON`.
pub(crate) fn rates(shapes: &[Shape], threads: u64, cold: bool) -> Vec<f64> {
    let bytes = if cold { COLD_BYTES } else { 0 };
    let Ok(python) = std::env::var("GIGAC_BENCH_PYTHON") else { return Vec::new() };
    let flag = |set| if set { 1 } else { 0 };
    let argument =
        |s: &Shape| format!("{},{},{},{},{},{}", s.batch, s.m, s.n, s.k, flag(s.ta), flag(s.tb));
    let output = Command::new(&python)
        .args(["-c", SCRIPT, &threads.to_string(), &bytes.to_string()])
        .args(shapes.iter().map(argument))
        .output()
        .unwrap_or_else(|e| panic!("{python}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{python}: {errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| line.trim().parse().expect("the script prints numbers")).collect()
}
