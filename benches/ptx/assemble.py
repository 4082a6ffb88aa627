#!/usr/bin/env python3
"""Gives every kernel of models' training steps to `ptxas`, which must find no spills and no local memory.

    python3 benches/ptx/assemble.py GIGAC [MODEL.giga ...] [--target sm_80 sm_90] [--optional]

Without models: all of models/, and odd.giga with heads of several widths. In bf16. Tools are found as in run.py; exits 1 when a kernel is refused, or when there is
no `ptxas`, unless it is optional."""
import argparse, subprocess, sys, tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from run import find, tool

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[1] / "models"
# What sizes of odd.giga are set to.
ODD = ["K=20", "K=200", "T=1"]


def assemble(path, target):
    """What `ptxas` has against a kernel; nothing when it accepts it."""
    flags = ["-warn-spills", "-warn-lmem-usage", "-Werror", f"-arch={target}"]
    done = subprocess.run([tool("ptxas"), *flags, path, "-o", path.with_suffix(".cubin")], capture_output=True, text=True)
    return None if done.returncode == 0 else f"{path.name}: {done.stderr.splitlines()[0]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gigac")
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--target", nargs="+", default=["sm_80", "sm_90"])
    parser.add_argument("--optional", action="store_true", help="only say so when there is no ptxas")
    a = parser.parse_args()
    if a.optional and not find("ptxas"):
        return print("skipped: no ptxas; the CUDA toolkit has it, and the Python package nvidia-cuda-nvcc")
    shipped = sorted(p for p in MODELS.glob("*.giga") if p.stem != "prelude")
    models = [(m, []) for m in a.models or shipped] + [(HERE / "odd.giga", ["--set", size]) for size in ODD if not a.models]
    refused = 0
    for target in a.target:
        for model, sizes in models:
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run([a.gigac, "emit", "ptx", model, "--target", target, "-o", folder, "--set",
                                "train.precision=bf16", *sizes], check=True, stdout=subprocess.DEVNULL)
                kernels = sorted(Path(folder).glob("*.ptx"))
                with ThreadPoolExecutor() as pool:
                    wrong = [w for w in pool.map(lambda k: assemble(k, target), kernels) if w]
            refused += len(wrong)
            print(" ".join([model.stem, *sizes[1:]]) + f", {target}: {len(kernels) - len(wrong)} of {len(kernels)} kernels accepted", *wrong, sep="\n  ")
    sys.exit(refused > 0)


if __name__ == "__main__":
    main()
