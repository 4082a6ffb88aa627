#!/usr/bin/env python3
"""Main loops of gigac's matrix products and attention on sm_80 beside Triton's, compiled in one run: no GPU is needed.

    python3 benches/ptx/run.py [--arch sm_80] [--keep DIR]

Prints a table: registers of a thread, instructions of a warp in the main loop and
of these those of a turn that no mask cuts (gigac's loop of attention jumps over the mask then), how many of them are HMMA
(`mma`) and LDSM (`ldmatrix`), and whether anything lies in local memory. Needs `ptxas` and `nvdisasm`, on
PATH, in GIGAC_PTXAS and GIGAC_NVDISASM, or from the packages nvidia-cuda-nvcc and nvidia-cuda-nvdisasm of
this Python; for Triton's rows also `triton`."""
import argparse, os, re, shutil, subprocess, sys, tempfile
from pathlib import Path

# Rows, columns, depth; warps and stages, which gigac chooses itself.
TILES = [((128, 128, 32), 4, 4), ((128, 256, 32), 8, 4), ((128, 256, 64), 8, 3), ((128, 128, 64), 4, 3), ((64, 128, 32), 4, 4)]
# The same for two products of one left operand.
SIBLINGS = [((128, 128, 32), 8, 4)]
# Queries, keys and width of heads of causal attention; warps and stages likewise.
HEADS = [((128, 64, 64), 4, 3), ((128, 64, 128), 8, 2)]
# The same backward, for gigac alone: queries and keys in a block, or keys and queries.
BACKWARD = [("queries", (128, 64, 64)), ("keys", (128, 64, 64)), ("queries", (128, 64, 128)), ("keys", (128, 32, 128))]
BRANCH = re.compile(r"BRA.*`\(\.(L_x_\d+)\)")


def find(name):
    """The path of a tool of the CUDA toolkit, if there is one."""
    given = os.environ.get(f"GIGAC_{name.upper()}") or shutil.which(name)
    packaged = (p for base in sys.path for p in sorted(Path(base).glob(f"nvidia/*/bin/{name}")))
    return given or next(packaged, None)


def tool(name):
    """The path of a tool of the CUDA toolkit, which is needed."""
    path = find(name)
    if path is None:
        sys.exit(f"no {name}: put it on PATH or name it in GIGAC_{name.upper()}")
    return str(path)


def assemble(ptx, arch, folder, strict):
    """Registers of a thread, and the SASS, of a PTX file. `strict`: which may not use local memory."""
    cubin = folder / "kernel.cubin"
    strictly = ["-warn-spills", "-warn-lmem-usage", "-Werror"] if strict else []
    done = subprocess.run([tool("ptxas"), "-v", *strictly, f"-arch={arch}", ptx, "-o", cubin], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{ptx}: {done.stderr}")
    registers = int(re.search(r"Used (\d+) registers", done.stderr).group(1))
    return registers, subprocess.run([tool("nvdisasm"), "-c", cubin], check=True, capture_output=True, text=True).stdout


def main_loop(sass):
    """The instructions of the loop with most HMMA; second, how many of them a branch jumps over in blocks that neither
    multiply nor move data: what only turns need that a mask cuts."""
    code, labels, loops = [], {}, []
    for line in sass.splitlines():
        if label := re.match(r"\.(L_x_\d+):", line.strip()):
            labels[label.group(1)] = len(code)
        if instruction := re.search(r"/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            code.append(instruction.group(1))
    for at, text in enumerate(code):
        target = BRANCH.search(text)
        if target and labels.get(target.group(1), at) < at:
            loops.append((labels[target.group(1)], at + 1))
    start, end = max(loops, key=lambda loop: sum("HMMA" in i for i in code[slice(*loop)]))
    skipped = 0
    for at in range(start, end):
        target = BRANCH.search(code[at])
        block = code[at + 1:labels.get(target.group(1), 0)] if target and code[at].startswith("@") else []
        if labels.get(target and target.group(1), end) < end and not any(re.search("MMA|LDG|LDS|BAR|BRA", i) for i in block):
            skipped += len(block)
    return code[start:end], skipped


def row(name, ptx, arch, folder, strict):
    registers, sass = assemble(ptx, arch, folder, strict)
    body, skipped = main_loop(sass)
    turn = len(body) - skipped
    count = lambda word: sum(word in i for i in body)
    local = sum(word in sass for word in ("LDL", "STL"))
    return f"| {name} | {registers} | {len(body)} | {count('HMMA')}/{turn} | {count('HMMA') / turn:.2f} | " \
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


def triton_siblings():
    import triton
    import triton.language as tl

    @triton.jit
    def siblings(x, w, v, y, z, K: tl.constexpr, M: tl.constexpr, N: tl.constexpr, D: tl.constexpr):
        rows = tl.program_id(1) * M + tl.arange(0, M)
        cols = tl.program_id(0) * N + tl.arange(0, N)
        depth = tl.arange(0, D)
        at = cols[None, :] * K + depth[:, None]
        a, b, c = x + rows[:, None] * K + depth[None, :], w + at, v + at
        sums, others = tl.zeros((M, N), dtype=tl.float32), tl.zeros((M, N), dtype=tl.float32)
        for _ in range(0, K, D):
            left = tl.load(a)
            sums = tl.dot(left, tl.load(b), sums)
            others = tl.dot(left, tl.load(c), others)
            a, b, c = a + D, b + D, c + D
        to = rows[:, None] * K + cols[None, :]
        tl.store(y + to, sums.to(tl.bfloat16))
        tl.store(z + to, others.to(tl.bfloat16))

    return siblings


def triton_attention():
    """Flash attention as Triton's tutorial has it: tiles of keys that all queries see, then those on the diagonal."""
    import triton
    import triton.language as tl

    @triton.jit
    def turn(a, m, l, sums, k, v, s, rows, cols, depth, C: tl.constexpr, scale: tl.constexpr, masked: tl.constexpr):
        x = tl.dot(a, tl.load(k + (s + cols)[None, :] * C + depth[:, None]))
        if masked:
            x = tl.where(rows[:, None] >= (s + cols)[None, :], x, float("-inf"))
        largest = tl.maximum(m, tl.max(x, 1) * scale)
        p = tl.math.exp2(x * scale - largest[:, None])
        factor = tl.math.exp2(m - largest)
        l = l * factor + tl.sum(p, 1)
        sums = tl.dot(p.to(tl.bfloat16), tl.load(v + (s + cols)[:, None] * C + depth[None, :]), sums * factor[:, None])
        return largest, l, sums

    @triton.jit
    def attention(q, k, v, o, lse, T: tl.constexpr, M: tl.constexpr, N: tl.constexpr, C: tl.constexpr):
        first, head = tl.program_id(0) * M, tl.program_id(1)
        rows, cols, depth = first + tl.arange(0, M), tl.arange(0, N), tl.arange(0, C)
        q, k, v, o, lse = q + head * T * C, k + head * T * C, v + head * T * C, o + head * T * C, lse + head * T
        a = tl.load(q + rows[:, None] * C + depth[None, :])
        m, l = tl.full((M,), float("-inf"), tl.float32), tl.zeros((M,), tl.float32)
        sums = tl.zeros((M, C), tl.float32)
        for s in range(0, first, N):
            m, l, sums = turn(a, m, l, sums, k, v, s, rows, cols, depth, C, 0.125 * 1.44269504, False)
        for s in range(first, first + M, N):
            m, l, sums = turn(a, m, l, sums, k, v, s, rows, cols, depth, C, 0.125 * 1.44269504, True)
        tl.store(o + rows[:, None] * C + depth[None, :], (sums / l[:, None]).to(tl.bfloat16))
        tl.store(lse + rows, m + tl.math.log2(l))

    return attention


def triton_ptx(function, pointers, constants, warps, stages, arch):
    """What Triton makes of a function of pointers and constants."""
    import triton
    from triton.backends.compiler import GPUTarget

    signature = pointers | {name: "constexpr" for name in constants}
    attributes = {(i,): [["tt.divisibility", 16]] for i in range(len(pointers))}
    source = triton.compiler.ASTSource(fn=function(), signature=signature, constexprs=constants, attrs=attributes)
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
    reals = lambda names: {name: "*bf16" for name in names}
    products = [("matmul", triton_matmul, reals("xwy"), "KMND", *of) for of in TILES]
    products += [("siblings", triton_siblings, reals("xwvyz"), "KMND", *of) for of in SIBLINGS]
    heads = [("attention", triton_attention, reals("qkvo") | {"lse": "*fp32"}, "TMNC", *of) for of in HEADS]
    print("| kernel | registers | loop | HMMA/turn | ratio | LDSM | local memory |\n|---|---|---|---|---|---|---|")
    for family, function, pointers, names, tile, warps, stages in products + heads:
        name = f"{family} {'×'.join(map(str, tile))}"
        file = f"{family}_{'x'.join(map(str, tile))}.ptx"
        print(row(f"{name}, gigac", folder / file, a.arch, folder, True))
        try:
            text = triton_ptx(function, pointers, dict(zip(names, (4096, *tile))), warps, stages, a.arch)
        except ImportError:
            continue
        path = folder / f"triton_{file}"
        path.write_text(text)
        print(row(f"{name}, Triton", path, a.arch, folder, False))
    for family, tile in BACKWARD:
        print(row(f"{family} {'×'.join(map(str, tile))}, gigac", folder / f"{family}_{'x'.join(map(str, tile))}.ptx", a.arch, folder, True))


if __name__ == "__main__":
    main()
