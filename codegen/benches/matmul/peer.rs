//! PyTorch's rates for the same shapes, when a Python that has it is given.

use std::process::Command;

use super::Shape;

const SCRIPT: &str = "
import sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
for shape in sys.argv[2:]:
    b, m, n, k, ta, tb = map(int, shape.split(','))
    x = torch.randn(b, k, m).transpose(1, 2) if ta else torch.randn(b, m, k)
    y = torch.randn(b, n, k).transpose(1, 2) if tb else torch.randn(b, k, n)
    if b == 1: x, y = x[0], y[0]
    out = torch.matmul(x, y)
    turns = int(max(1, min(1000, 1e10 / (2 * b * m * n * k))))
    best = float('inf')
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(turns): torch.matmul(x, y, out=out)
        best = min(best, (time.perf_counter() - start) / turns)
    print(2e-9 * b * m * n * k / best)
";

/// GFLOP/s, one per shape; empty without the environment variable `GIGAC_BENCH_PYTHON`.
pub(crate) fn rates(shapes: &[Shape], threads: u64) -> Vec<f64> {
    let Ok(python) = std::env::var("GIGAC_BENCH_PYTHON") else { return Vec::new() };
    let flag = |set| if set { 1 } else { 0 };
    let argument =
        |s: &Shape| format!("{},{},{},{},{},{}", s.batch, s.m, s.n, s.k, flag(s.ta), flag(s.tb));
    let output = Command::new(&python)
        .args(["-c", SCRIPT, &threads.to_string()])
        .args(shapes.iter().map(argument))
        .output()
        .unwrap_or_else(|e| panic!("{python}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{python}: {errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| line.trim().parse().expect("the script prints numbers")).collect()
}
