#!/usr/bin/env python3
"""Main loops of gigac's matrix products on sm_80 beside Triton's, compiled in one run: no GPU is needed.

    python3 benches/ptx/run.py [--arch sm_80] [--keep DIR]

Prints a table: registers of a thread, instructions of a warp in the main loop, how many of them are HMMA
(`mma`) and LDSM (`ldmatrix`), and whether anything lies in local memory. Needs `ptxas` and `nvdisasm`, on
PATH, in GIGAC_PTXAS and GIGAC_NVDISASM, or from the packages nvidia-cuda-nvcc and nvidia-cuda-nvdisasm of
this Python; for Triton's rows also `triton`."""
import argparse, os, re, shutil, subprocess, sys, tempfile
from pathlib import Path

# Rows, columns, depth; warps and stages, which gigac chooses itself.
TILES = [((128, 128, 32), 4, 4), ((128, 256, 64), 8, 3), ((128, 128, 64), 4, 3), ((64, 128, 32), 4, 4)]
BRANCH = re.compile(r"BRA.*`\(\.(L_x_\d+)\)")


def tool(name):
    """The path of a tool of the CUDA toolkit."""
    given = os.environ.get(f"GIGAC_{name.upper()}") or shutil.which(name)
    packaged = (p for base in sys.path for p in sorted(Path(base).glob(f"nvidia/*/bin/{name}")))
    path = given or next(packaged, None)
    if path is None:
        sys.exit(f"no {name}: put it on PATH or name it in GIGAC_{name.upper()}")
    return str(path)


def assemble(ptx, arch, folder):
    """Registers of a thread, and the SASS, of a PTX file."""
    cubin = folder / "kernel.cubin"
    done = subprocess.run([tool("ptxas"), "-v", "-warn-spills", "-warn-lmem-usage", "-Werror", f"-arch={arch}",
                           ptx, "-o", cubin], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{ptx}: {done.stderr}")
    registers = int(re.search(r"Used (\d+) registers", done.stderr).group(1))
    return registers, subprocess.run([tool("nvdisasm"), "-c", cubin], check=True, capture_output=True, text=True).stdout


def main_loop(sass):
    """The instructions of the loop with most HMMA."""
    code, labels, loops = [], {}, []
    for line in sass.splitlines():
        if label := re.match(r"\.(L_x_\d+):", line.strip()):
            labels[label.group(1)] = len(code)
        if instruction := re.search(r"/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            code.append(instruction.group(1))
    for at, text in enumerate(code):
        target = BRANCH.search(text)
        if target and labels.get(target.group(1), at) < at:
            loops.append(code[labels[target.group(1)]:at + 1])
    return max(loops, key=lambda body: sum("HMMA" in i for i in body))


def row(name, ptx, arch, folder):
    registers, sass = assemble(ptx, arch, folder)
    body = main_loop(sass)
    count = lambda word: sum(word in i for i in body)
    local = sum(word in sass for word in ("LDL", "STL"))
    return f"| {name} | {registers} | {count('HMMA')}/{len(body)} | {count('HMMA') / len(body):.2f} | " \
           f"{count('LDSM')} | {'yes' if local else 'no'} |"


def triton_matmul():
    import triton
    import triton.language as tl

    @triton.jit
    def matmul(x, w, y, K: tl.constexpr, M: tl.constexpr, N: tl.constexpr, D: tl.constexpr):
        rows = tl.program_id(1) * M + tl.arange(0, M)
        cols = tl.program_id(0) * N + tl.arange(0, N)
        depth = tl.arange(0, D)
        a, b = x + rows[:, None] * K + depth[None, :], w + cols[None, :] * K + depth[:, None]
        sums = tl.zeros((M, N), dtype=tl.float32)
        for _ in range(0, K, D):
            sums = tl.dot(tl.load(a), tl.load(b), sums)
            a, b = a + D, b + D
        tl.store(y + rows[:, None] * K + cols[None, :], sums.to(tl.bfloat16))

    return matmul


def triton_ptx(tile, warps, stages, arch):
    import triton
    from triton.backends.compiler import GPUTarget

    constants = dict(zip("KMND", (4096, *tile)))
    signature = {"x": "*bf16", "w": "*bf16", "y": "*bf16"} | {name: "constexpr" for name in constants}
    attributes = {(i,): [["tt.divisibility", 16]] for i in range(3)}
    source = triton.compiler.ASTSource(fn=triton_matmul(), signature=signature, constexprs=constants, attrs=attributes)
    target = GPUTarget("cuda", int(arch.removeprefix("sm_")), 32)
    return triton.compile(source, target=target, options={"num_warps": warps, "num_stages": stages}).asm["ptx"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="sm_80")
    parser.add_argument("--keep", type=Path, help="a folder for the PTX files")
    a = parser.parse_args()
    folder = a.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cargo", "bench", "-q", "--profile", "dev", "-p", "gigac-codegen", "--bench", "tiles", "--", folder.resolve()], check=True)
    print("| tile | registers | HMMA/all | ratio | LDSM | local memory |\n|---|---|---|---|---|---|")
    for tile, warps, stages in TILES:
        name = "×".join(map(str, tile))
        print(row(f"{name}, gigac", folder / f"matmul_{'x'.join(map(str, tile))}.ptx", a.arch, folder))
        try:
            text = triton_ptx(tile, warps, stages, a.arch)
        except ImportError:
            continue
        path = folder / f"triton_{'x'.join(map(str, tile))}.ptx"
        path.write_text(text)
        print(row(f"{name}, Triton", path, a.arch, folder))


if __name__ == "__main__":
    main()
