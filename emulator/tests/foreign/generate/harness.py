"""What every program of the corpus shares: parameters, compilers, and the folder that comes out.

A program is PTX from a real compiler, one launch of it, and what must be in memory afterwards, computed
with numpy (mostly in f64) and never by running PTX. Each buffer ends in `GUARD` extra elements that
nobody may touch.
"""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

os.environ.setdefault("TRITON_DISABLE_LINE_INFO", "1")
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
warnings.filterwarnings("ignore")

import ml_dtypes
import numpy as np

GUARD = 16
HERE = Path(__file__).resolve().parent
CUDA_KERNELS = HERE / "cuda_kernels"

BF16 = np.dtype(ml_dtypes.bfloat16)
# numpy type -> (name in meta.json, name in safetensors, Triton pointer element)
DTYPES = {
    np.dtype(np.float64): ("f64", "F64", "fp64"),
    np.dtype(np.float32): ("f32", "F32", "fp32"),
    np.dtype(np.float16): ("f16", "F16", "fp16"),
    BF16: ("bf16", "BF16", "bf16"),
    np.dtype(np.int64): ("i64", "I64", "i64"),
    np.dtype(np.int32): ("i32", "I32", "i32"),
    np.dtype(np.int16): ("i16", "I16", "i16"),
    np.dtype(np.int8): ("i8", "I8", "i8"),
    np.dtype(np.uint64): ("u64", "U64", "u64"),
    np.dtype(np.uint32): ("u32", "U32", "u32"),
    np.dtype(np.uint16): ("u16", "U16", "u16"),
    np.dtype(np.uint8): ("u8", "U8", "u8"),
}


@dataclass
class Buffer:
    name: str
    init: np.ndarray
    expect: np.ndarray | None
    role: str
    tolerance: float
    element: str | None = None  # Triton element type where the numpy type cannot say it (fp8, i1)


@dataclass
class Scalar:
    name: str
    dtype: str
    value: object


def read(name, values, element=None):
    """A buffer that the kernel only reads."""
    return Buffer(name, np.ascontiguousarray(values).reshape(-1), None, "in", 0, element)


def write(name, expect, tolerance=0.0, init=None, element=None):
    """A buffer that the kernel overwrites; elements it leaves alone keep `init`, by default the guard value."""
    expect = np.ascontiguousarray(expect).reshape(-1)
    init = guard_value(expect.dtype, expect.size) if init is None else np.ascontiguousarray(init).reshape(-1)
    return Buffer(name, init, expect, "out", tolerance, element)


def update(name, init, expect, tolerance=0.0, element=None):
    """A buffer that the kernel reads and writes."""
    expect = np.ascontiguousarray(expect).reshape(-1)
    init = np.ascontiguousarray(init).reshape(-1)
    assert init.dtype == expect.dtype, (name, init.dtype, expect.dtype)
    return Buffer(name, init, expect, "inout", tolerance, element)


def i32(name, value):
    return Scalar(name, "i32", int(value))


def u32(name, value):
    return Scalar(name, "u32", int(value))


def i64(name, value):
    return Scalar(name, "i64", int(value))


def f32(name, value):
    return Scalar(name, "f32", float(np.float32(value)))


def f64(name, value):
    return Scalar(name, "f64", float(value))


def guard_value(dtype, count):
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        return np.full(count, -77, np.int64).astype(dtype)
    return np.full(count, -77.0, np.float64).astype(dtype)


def with_guard(values):
    return np.concatenate([values, guard_value(values.dtype, GUARD)])


def rng(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


@dataclass
class Program:
    name: str  # without target
    target: str
    producer: str
    ptx: str
    entry: str
    grid: tuple
    block: tuple
    dynamic_shared_bytes: int
    args: list
    exercises: str
    extra: dict = field(default_factory=dict)
    finding: str | None = None  # of a broken program
    made_by: str | None = None  # of a broken program

    @property
    def folder(self):
        return f"{self.name}.{self.target}"


def triple(dims):
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    return dims + (1,) * (3 - len(dims))


# --- Triton ---------------------------------------------------------------------------------------------


def from_triton(name, kernel, args, constants=None, *, grid, exercises, warps=4, stages=3, targets=(80,), aligned=True,
                lines=False, **options):
    """One program per target from a Triton kernel. `aligned` declares pointers and divisible scalars so."""
    import triton
    from triton.backends.compiler import GPUTarget

    constants = constants or {}
    names = [p.name for p in kernel.params]
    by_name = {a.name: a for a in args}
    signature, attrs = {}, {}
    for index, param in enumerate(names):
        if param in constants:
            signature[param] = "constexpr"
            continue
        arg = by_name[param]
        if isinstance(arg, Buffer):
            signature[param] = "*" + (arg.element or DTYPES[arg.init.dtype][2])
        else:
            signature[param] = {"f32": "fp32", "f64": "fp64"}.get(arg.dtype, arg.dtype)
        if aligned and (isinstance(arg, Buffer) or (isinstance(arg.value, int) and arg.value % 16 == 0)):
            attrs[(index,)] = [["tt.divisibility", 16]]
    runtime = [p for p in names if p not in constants]
    assert runtime == [a.name for a in args], (name, runtime, [a.name for a in args])
    for target in targets:
        source = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attrs)
        compiled = triton.compile(source, target=GPUTarget("cuda", target, 32),
                                  options={"num_warps": warps, "num_stages": stages, **options})
        meta = compiled.metadata
        assert meta.num_ctas == 1, name
        passed = list(args)
        if meta.global_scratch_size:
            # What the host gives to Triton's kernels to build descriptors in; its contents are nobody's business.
            size = meta.global_scratch_size * int(np.prod(triple(grid)))
            passed.append(Buffer("scratch0", np.zeros(size, np.uint8), None, "inout", 0))
        ptx = compiled.asm["ptx"]
        block = int(re.search(r"\.reqntid (\d+)", ptx).group(1))
        yield Program(name, f"sm_{target}", f"triton {metadata.version('triton')}", without_paths(ptx), meta.name,
                      triple(grid), triple(block), meta.shared, passed, exercises, {
                          "num_warps": warps, "num_stages": stages, "global_scratch_size": meta.global_scratch_size,
                          "profile_scratch_size": meta.profile_scratch_size, "num_ctas": meta.num_ctas})


# --- nvcc -----------------------------------------------------------------------------------------------


def toolkit():
    """The folder of the CUDA wheels: `nvcc` and its headers."""
    for base in map(Path, sys.path):
        for nvcc in sorted(base.glob("nvidia/*/bin/nvcc")):
            return nvcc.parent.parent
    raise SystemExit("no nvcc: see README.md for the packages")


def nvcc_ptx(source, arch, flags=()):
    root = toolkit()
    with tempfile.TemporaryDirectory() as folder:
        # A copy under a plain name, so that no path of this machine reaches the PTX.
        shutil.copy(source, folder)
        out = Path(folder, "kernel.ptx")
        command = [str(root / "bin/nvcc"), "-ptx", f"-arch={arch}", "-std=c++17", f"-I{root / 'include/cccl'}",
                   f"-I{root / 'cccl'}", "-diag-suppress=177,550,20013,20050", *flags, source.name, "-o", str(out)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{source.name} for {arch}:\n{done.stderr}")
        return out.read_text()


def from_nvcc(name, args, *, grid, block, exercises, source=None, dynamic_shared=0, targets=("sm_80",), flags=(),
              entry=None, edit=None):
    """One program per target from `cuda_kernels/SOURCE.cu`, whose entry point is `extern "C"` and has its name."""
    source = source or name
    for arch in targets:
        ptx = without_paths(nvcc_ptx(CUDA_KERNELS / f"{source}.cu", arch, flags))
        if edit:
            ptx = edit(ptx)
        yield Program(name, arch, f"nvcc {metadata.version('nvidia-cuda-nvcc')}", ptx, entry or source, triple(grid),
                      triple(block), dynamic_shared, args, exercises)


# --- what both have in common ---------------------------------------------------------------------------


def without_paths(ptx):
    """File names without their folders, and in the debug data the compilation folder as dots."""
    ptx = re.sub(r'(\.file\s+\d+\s+)"[^"]*?([^"/]*)"', r'\1"\2"', ptx)
    # The folder is spelt a byte a line, up to a zero; the first byte carries the comment.
    folder = re.compile(r"^\.b8 \d+( +// DW_AT_comp_dir\n(?:\.b8 [1-9]\d*\n)*)", re.M)
    return folder.sub(lambda match: ".b8 46" + re.sub(r"\.b8 \d+", ".b8 46", match.group(1)), ptx)


def entry_params(ptx, entry):
    """The declarations of the parameters of `entry`, in order."""
    match = re.search(r"\.entry\s+" + re.escape(entry) + r"\s*\(([^)]*)\)", ptx)
    if not match:
        if re.search(r"\.entry\s+" + re.escape(entry) + r"\s*\(?\s*\)?", ptx):
            return []
        raise SystemExit(f"no entry {entry}; there are {re.findall(r'.entry +(.*)', ptx)}")
    return [" ".join(p.split()) for p in match.group(1).split(",") if p.strip()]


SIZES = {"f64": 8, "f32": 4, "i64": 8, "u64": 8, "i32": 4, "u32": 4, "i16": 2, "u16": 2, "i8": 1, "u8": 1}


def meta_of(program):
    declared = entry_params(program.ptx, program.entry)
    params = []
    for arg, ptx in zip(program.args, declared):
        if isinstance(arg, Buffer):
            assert re.search(r"\.[ub]64", ptx), (program.folder, arg.name, ptx)
            params.append({"name": arg.name, "kind": "buffer", "dtype": DTYPES[arg.init.dtype][0],
                           "elements": arg.init.size + GUARD, "role": arg.role, "tolerance": arg.tolerance, "ptx": ptx})
        else:
            width = int(re.search(r"\.[a-z](\d+)", ptx).group(1))
            assert width == 8 * SIZES[arg.dtype], (program.folder, arg.name, ptx)
            params.append({"name": arg.name, "kind": "scalar", "dtype": arg.dtype, "value": arg.value, "ptx": ptx})
    surplus = declared[len(program.args):]
    assert program.producer.startswith("triton") or not surplus, (program.folder, declared)
    for index, ptx in enumerate(surplus):
        index += len(program.args) - sum(not a.name.startswith("scratch") for a in program.args)
        params.append({"name": f"scratch{index}", "kind": "null_pointer", "ptx": ptx})
    meta = {
        "name": program.folder, "entry": program.entry, "grid": list(program.grid), "block": list(program.block),
        "dynamic_shared_bytes": program.dynamic_shared_bytes, "target": program.target, "producer": program.producer,
        "exercises": program.exercises,
    }
    if program.finding:
        meta |= {"expect_finding": program.finding, "made_by": program.made_by}
    meta |= {
        "extra": program.extra,
        "tolerance_rule": "abs(got-expect) <= tolerance*(1+abs(expect)) for floats, exact for ints and for role=in"
                          " and the last 16 guard elements",
        "params": params,
    }
    return meta


def save_tensors(path, tensors):
    header, chunks, offset = {}, [], 0
    # Widest first keeps every tensor aligned.
    for name, values in sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        data = values.tobytes()
        header[name] = {"dtype": DTYPES[values.dtype][1], "shape": [values.size],
                        "data_offsets": [offset, offset + len(data)]}
        chunks.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))


def save(program, out):
    folder = out / (f"broken/{program.name}" if program.finding else f"good/{program.folder}")
    folder.mkdir(parents=True, exist_ok=True)
    meta = meta_of(program)
    tensors = {}
    for arg in program.args:
        if isinstance(arg, Buffer):
            tensors[f"init.{arg.name}"] = with_guard(arg.init)
            if arg.expect is not None:
                assert arg.expect.size == arg.init.size, (program.folder, arg.name, arg.expect.size, arg.init.size)
                tensors[f"expect.{arg.name}"] = with_guard(arg.expect)
    (folder / "kernel.ptx").write_text(program.ptx)
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    save_tensors(folder / "data.safetensors", tensors)
    return folder


class Programs(list):
    """The makers of a module's programs: `@PROGRAMS` in front of a function adds it."""

    def __call__(self, make):
        self.append(make)
        return make
