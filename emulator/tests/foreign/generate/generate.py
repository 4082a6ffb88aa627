"""Writes the corpus: `good/`, `broken/` and INDEX.md beside this folder. See README.md.

    python generate.py [--out FOLDER] [--only REGEX] [--check]
"""

import argparse
import importlib
import json
import re
import subprocess
import tempfile
from pathlib import Path

import harness

# In the order of the index: the Triton kernels first, then those of nvcc, then what is broken on purpose.
MODULES = [
    "triton_kernels.matmul", "triton_kernels.rows", "triton_kernels.attention", "triton_kernels.elementwise",
    "triton_kernels.scatter", "triton_kernels.descriptors", "triton_kernels.features", "cuda_control", "cuda_memory", "cuda_warp", "cuda_integer", "cuda_float", "cuda_tensor",
    "cuda_library", "cuda_hopper", "cuda_features", "broken",
]


def index_of(out):
    """One table for each half of the corpus, read back from the folders."""
    lines = ["# The foreign programs", "",
             "Written by `generate/generate.py`, which also says where each comes from. Every folder holds `kernel.ptx`,",
             "`meta.json` (the launch) and `data.safetensors` (memory before, and what numpy expects afterwards).", ""]
    for half, title in (("good", "Good: must match, with no finding"), ("broken", "Broken: must be rejected")):
        metas = [json.loads(p.read_text()) for p in sorted((out / half).glob("*/meta.json"))]
        lines += [f"## {title} ({len(metas)})", ""]
        if half == "good":
            lines += ["| program | producer | target | grid × block | exercises |", "|---|---|---|---|---|"]
        else:
            lines += ["| program | producer | target | finding | what is wrong | made by |", "|---|---|---|---|---|---|"]
        for folder, meta in zip(sorted(p.parent.name for p in (out / half).glob("*/meta.json")), metas):
            dims = "×".join(str(d) for d in meta["grid"]) + " × " + "×".join(str(d) for d in meta["block"])
            cells = [f"`{folder}`", meta["producer"], meta["target"]]
            cells += [meta["expect_finding"], meta["exercises"], meta["made_by"]] if half == "broken" else [dims, meta["exercises"]]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def assembles(folder):
    """Whether ptxas, which proves syntax and resources but no behaviour, takes the program."""
    target = re.search(r"^\.target (\w+)", (folder / "kernel.ptx").read_text(), re.M).group(1)
    with tempfile.NamedTemporaryFile() as cubin:
        done = subprocess.run([harness.toolkit() / "bin/ptxas", f"-arch={target}", folder / "kernel.ptx", "-o", cubin.name],
                              capture_output=True, text=True)
    return done.returncode == 0, done.stderr


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=harness.HERE.parent)
    arguments.add_argument("--only", default="", help="only programs whose folder matches this regular expression")
    arguments.add_argument("--module", default="", help="only modules whose name matches")
    arguments.add_argument("--check", action="store_true", help="assemble every program with ptxas as well")
    options = arguments.parse_args()
    for name in MODULES:
        if not re.search(options.module, name):
            continue
        for make in importlib.import_module(name).PROGRAMS:
            if options.only and not re.search(options.only, make.__name__):
                continue
            for program in make():
                folder = harness.save(program, options.out)
                size = (folder / "data.safetensors").stat().st_size
                print(f"{folder.relative_to(options.out)}  {size >> 10} KiB")
                if options.check:
                    fine, errors = assembles(folder)
                    if not fine:
                        print("  ptxas: " + errors)
    (options.out / "INDEX.md").write_text(index_of(options.out))


if __name__ == "__main__":
    main()
