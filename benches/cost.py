"""Simulated against measured seconds of every kernel on this CPU: the distribution of the error.

    python benches/cost.py [--gigac target/release/gigac] [MODEL…]

The simulation is `gigac plan --measure`, the measurement `gigac bench --profile`; both of the same plan. A
kernel's error is its simulated time over its measured one; kernels are weighted by measured time.
"""

import argparse
import json
import math
import subprocess


def run(gigac, *words):
    return json.loads(subprocess.run([gigac, *words, "--json"], check=True, capture_output=True).stdout)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--gigac", default="target/release/gigac")
    args.add_argument("--threads", default="2")
    args.add_argument("--steps", default="5")
    args.add_argument("models", nargs="*", default=[f"models/bench-{c}.giga" for c in "smxv"])
    args = args.parse_args()
    print("| model | step: simulated | measured | ratio | kernels | ratio by kernel: 10 % | 25 % | median | 75 % | 90 % | within 1.5× |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for model in args.models:
        plan = run(args.gigac, "plan", model, "--measure", "--threads", args.threads)
        bench = run(args.gigac, "bench", model, "--steps", args.steps, "--threads", args.threads, "--profile")
        simulated = {k["name"]: k["seconds"] for k in plan["kernel_times"]}
        rows = [(simulated[r["kernel"]] / r["seconds"], r["seconds"]) for r in bench["profile"]
                if r["kernel"] in simulated and r["seconds"] > 0]
        rows.sort()
        whole = sum(weight for _, weight in rows)

        def quantile(part):
            reached = 0.0
            for ratio, weight in rows:
                reached += weight
                if reached >= part * whole:
                    return ratio
            return rows[-1][0]

        near = sum(weight for ratio, weight in rows if abs(math.log(ratio)) <= math.log(1.5)) / whole
        step = bench["median_step_s"]
        parts = " | ".join(f"{quantile(q):.2f}" for q in (0.1, 0.25, 0.5, 0.75, 0.9))
        print(f"| {plan['model']} | {plan['step_s']:.3f} s | {step:.3f} s | {plan['step_s'] / step:.2f} | {len(rows)} | {parts} | {100 * near:.0f} % of the time |")


main()
