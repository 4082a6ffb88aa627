#!/usr/bin/env python3
"""gigac beside what a user would pick instead, in one run.

    python3 benches/peers/run.py GIGAC [s m x v gpt2] [--with torch-eager torch-compile torch-tuned jax llm.c]
                                 [--rounds N] [--steps N] [--isa avx2] [--llmc DIR] [--json FILE]

Every peer trains the same model in f32 with AdamW and clipping on the same number of threads, in a
process of its own. Rounds go in turns, a few steps of each, so that a busy machine hurts all alike;
the figures are medians over all rounds. `s m x v` are models/bench-*.giga, `gpt2` is GPT-2 124M with
B = 4, T = 64, which llm.c's CPU program trains.

Needs `torch` and `jax` for the peers asked for. `torch-tuned` is torch.compile with glibc's malloc told
to use huge pages and to keep its memory. `--isa avx2` holds all of them to AVX2, as on a CPU that has
no more; llm.c is what it was built for. llm.c: DIR holds a `train_gpt2` built from its sources
(`gcc -Ofast -march=native -fopenmp -DOMP train_gpt2.c -lm`)."""
import argparse, json, math, os, statistics, subprocess, sys

HERE = os.path.dirname(os.path.abspath(__file__))
TUNED = ("glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=8589934592:"
         "glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=67108864")

HELD = {  # What keeps PyTorch with its libraries, and XLA, to an instruction set.
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2",
             "TORCHINDUCTOR_CPP_SIMDLEN": "256", "XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
}


class Peer:
    """A trainer in a process of its own: told how many steps to run, it answers with their times."""

    def __init__(self, name, model, a):
        env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
        env |= {"OMP_NUM_THREADS": str(a.threads), "MKL_NUM_THREADS": str(a.threads),
                "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
        env |= HELD.get(a.isa, {})
        if name == "torch-tuned":
            env["GLIBC_TUNABLES"] = TUNED
        script = {"jax": "jax_trainer.py", "llm.c": "llmc.py"}.get(name, "torch_trainer.py")
        command = [sys.executable, os.path.join(HERE, script), model, name, str(a.threads)]
        if name == "llm.c":
            command.append(a.llmc)
        self.process = subprocess.Popen(command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.times, self.rss = [], 0
        self.ask(2)  # warm-up: compiles, touches memory
        self.times.clear()

    def ask(self, steps):
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        self.times += answer["seconds"]
        self.rss = answer["peak_rss_mb"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def gigac(a, model):
    """One run of `gigac bench`."""
    text = ["models/gpt2-124m.giga", "--set", "B=4", "--set", "T=64", "--set", "train.batch=256", "--set", "train.precision=f32"] if model == "gpt2" else [f"models/bench-{model}.giga"]
    command = [a.gigac, "bench", *text, "--steps", str(a.steps), "--threads", str(a.threads), "--json"]
    if a.isa:
        command += ["--target", a.isa]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(a, model, names):
    peers = {name: Peer(name, model, a) for name in names}
    ours = []
    for _ in range(a.rounds):
        ours.append(gigac(a, model))
        for peer in peers.values():
            peer.ask(a.steps)
    for peer in peers.values():
        peer.close()
    last, step = ours[-1], statistics.median(o["median_step_s"] for o in ours)
    rows = {"gigac": (step, last["peak_rss_mb"])}
    rows |= {name: (statistics.median(p.times), p.rss) for name, p in peers.items()}
    peak = statistics.median(o["peak_gflops"] for o in ours)
    for name, (seconds, rss) in rows.items():
        rate = last["gflop_step"] / seconds
        print(f"| {model} | {name} | {seconds:.4f} | {rate:.0f} | {100 * rate / peak:.0f} % | {rss:.0f} | {seconds / step:.2f} |", flush=True)
    return {"model": model, "peak_gflops": peak, "compile_s": last["compile_s"],
            "rows": {name: {"median_step_s": s, "peak_rss_mb": r} for name, (s, r) in rows.items()}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("gigac")
    parser.add_argument("models", nargs="*", default=["s", "m", "x", "v"])
    parser.add_argument("--with", nargs="+", dest="peers", default=["torch-eager", "torch-compile", "torch-tuned", "jax"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--isa", choices=sorted(HELD), help="instruction set that all are held to")
    parser.add_argument("--llmc", help="folder with a built train_gpt2")
    parser.add_argument("--json", help="also writes all figures there")
    a = parser.parse_args()
    print(f"{a.threads} threads, f32{f', {a.isa}' if a.isa else ''}; medians of {a.rounds} rounds of {a.steps} steps in turns")
    print("| model | trainer | step s | GFLOP/s | of the FMA peak | peak MB | gigac is faster by |")
    print("|---|---|---|---|---|---|---|")
    found = []
    for model in a.models:
        found.append(measure(a, model, [p for p in a.peers if p != "llm.c" or model == "gpt2"]))
    best = [min(r["median_step_s"] for n, r in f["rows"].items() if n != "gigac") / f["rows"]["gigac"]["median_step_s"]
            for f in found if len(f["rows"]) > 1]
    if best:
        mean = math.exp(sum(map(math.log, best)) / len(best))
        print(f"\nfaster than the best peer by {', '.join(f'{b:.2f}' for b in best)}; geometric mean {mean:.2f}")
    if a.json:
        with open(a.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    sys.exit(main())
