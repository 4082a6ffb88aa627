"""Time and optimality gap of the rematerialisation of every shipped model, beside the usual rules.

    python benches/checkpoint.py [--gigac target/release/gigac] [--target a100]

Runs `gigac plan --explain checkpoint`, which compiles the model, solves the problem for 25 numbers of bytes and
applies and simulates five rules. The gap is how much of the added seconds is above the bound that no choice can
beat; "greedy" is how much more the greedy rule adds within the same bytes, at most.
"""

import argparse
import glob
import json
import subprocess
import time


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--gigac", default="target/release/gigac")
    args.add_argument("--target", default="a100")
    args = args.parse_args()
    print("| model | stacks: least | all | seconds in all | largest gap | mean gap | greedy adds more, at most |")
    print("|---|---|---|---|---|---|---|")
    for model in sorted(glob.glob("models/*.giga")):
        if model.endswith("prelude.giga"):
            continue
        started = time.time()
        words = [args.gigac, "plan", model, "--explain", "checkpoint", "--target", args.target, "--json"]
        said = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
        seconds = time.time() - started
        points = said["frontier"]
        gaps = [1 - p["bound_s"] / p["added_s"] for p in points if p["added_s"] > 0] or [0.0]
        more = [0.0]
        for point in points:
            within = [s for b, s in said["greedy"] if b <= point["budget"]]
            if within and point["added_s"] > 0:
                more.append(min(within) / point["added_s"] - 1)
        mib = [p["stack_bytes"] / 2**20 for p in points] or [0.0]
        mean = sum(gaps) / len(gaps)
        name = model.removeprefix("models/").removesuffix(".giga")
        print(f"| {name} | {mib[0]:.1f} MiB | {mib[-1]:.1f} MiB | {seconds:.2f} | {100 * max(gaps):.2f} % "
              f"| {100 * mean:.2f} % | {100 * max(more):.1f} % |")


main()
