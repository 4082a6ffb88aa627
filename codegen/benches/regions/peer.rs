//! PyTorch's times for the same work, when a Python that has it is given.

use std::process::Command;

/// By kernel: run eagerly and compiled.
const SCRIPT: &str = "
import sys, time, torch
import torch.nn.functional as F
torch.set_num_threads(int(sys.argv[1]))
N, D = 1 << 24, 1024
new = lambda *shape: torch.rand(*shape) + 0.1
def once(f, *given):
    best = float('inf')
    for _ in range(7):
        start = time.perf_counter()
        f(*given)
        best = min(best, time.perf_counter() - start)
    return best
def both(f, *given):
    with torch.no_grad(): return once(f, *given), once(torch.compile(f), *given)
def backward(f, *wanted):
    times = []
    for g in (f, torch.compile(f)):
        out = g(*wanted)
        cotangent = torch.ones_like(out)
        times.append(once(lambda: torch.autograd.grad(out, wanted, cotangent, retain_graph=True)))
    return times
def triad(): return both(lambda a, b: a + 3.0 * b, new(N), new(N))
def adamw():
    w = new(N).requires_grad_()
    w.grad = new(N)
    times = []
    for choice in ({'foreach': True}, {'fused': True}):
        step = torch.optim.AdamW([w], weight_decay=0.0, **choice).step
        times.append(once(step))
    return times
swish = lambda a, b: F.silu(a) * b
def swiglu(): return both(swish, new(N), new(N))
def swiglu_grad(): return backward(swish, new(N).requires_grad_(), new(N).requires_grad_())
def rope():
    def turn(x, c, s):
        a, b = x[..., :32], x[..., 32:]
        return torch.cat([a * c - b * s, b * c + a * s], -1)
    return both(turn, new(8, 2048, 16, 64), new(2048, 1, 32), new(2048, 1, 32))
norm = lambda x, w: F.rms_norm(x, (D,), w, 1e-5)
def rms_norm(): return both(norm, new(N // D, D), new(D))
def rms_norm_grad():
    w = new(D)
    return backward(lambda x: norm(x, w), new(N // D, D).requires_grad_())
def softmax(): return both(lambda x: torch.softmax(x, -1), new(N // D, D))
def cross_entropy():
    target = torch.randint(0, 42000, (512,))
    x = new(512, 42000).requires_grad_()
    def run(x): return F.cross_entropy(x, target)
    return [once(lambda: torch.autograd.grad(f(x), x)) for f in (run, torch.compile(run))]
def column_sums(): return both(lambda x: x.sum(0), new(N // D, D))
rows = torch.randint(0, N // D, (N // D,))
def gather(): return both(lambda x: F.embedding(rows, x), new(N // D, D))
def scatter(): return both(lambda x: torch.zeros(N // D, D).index_add_(0, rows, x), new(N // D, D))
for name in sys.argv[2:]: print(*globals()[name]())
";

/// Seconds, eagerly and compiled (the optimizer: `foreach` and `fused`), one pair for each kernel;
/// empty without the environment variable `GIGAC_BENCH_PYTHON`.
pub(crate) fn times(kernels: &[String], threads: usize) -> Vec<[f64; 2]> {
    let Ok(python) = std::env::var("GIGAC_BENCH_PYTHON") else { return Vec::new() };
    let output = Command::new(&python)
        .args(["-c", SCRIPT, &threads.to_string()])
        .args(kernels)
        .output()
        .unwrap_or_else(|e| panic!("{python}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{python}: {errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |n: &str| n.parse().expect("the script prints numbers");
    let pair = |line: &str| -> Vec<f64> { line.split_whitespace().map(number).collect() };
    text.lines().map(|line| pair(line).try_into().expect("two times a line")).collect()
}
