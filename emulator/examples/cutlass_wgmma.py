"""Makes two launches for `gigac emulate` from a CUTLASS tutorial: the kernel as it is, and with its two barriers.

    python cutlass_wgmma.py CUTLASS OUT

CUTLASS is a checkout of https://github.com/NVIDIA/cutlass at 7107b05, whose
`examples/cute/tutorial/hopper/wgmma_sm90.cu` holds the kernel; OUT gets the folders `found` and `mended` with
`kernel.cu`, `kernel.ptx`, `meta.json` and `data.safetensors`. Needs nvcc (or NVCC=PATH), numpy and safetensors.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

M, N, K = 128, 128, 256
GUARD = 16

# What the tutorial's host code chooses for a TN product, with the copies as cp.async.
ENTRY = """
extern "C" __global__ __launch_bounds__(128)
void product(cute::half_t const* A, cute::half_t const* B, cute::half_t* C, int M, int N, int K) {
  using namespace cute;
  auto tile = make_shape(Int<128>{}, Int<128>{}, Int<64>{});
  auto dA = make_stride(K, Int<1>{}), dB = make_stride(K, Int<1>{});
  auto dC = make_stride(Int<1>{}, M);
  auto sA = tile_to_shape(GMMA::Layout_K_SW128_Atom<half_t>{}, make_shape(Int<128>{}, Int<64>{}, Int<3>{}));
  auto copy = make_tiled_copy(Copy_Atom<SM80_CP_ASYNC_CACHEALWAYS<uint128_t>, half_t>{},
                              Layout<Shape<_16,_8>,Stride<_8,_1>>{}, Layout<Shape<_1,_8>>{});
  auto mma = make_tiled_mma(SM90_64x64x16_F16F16F16_SS<GMMA::Major::K,GMMA::Major::K>{});
  gemm_device(make_shape(M, N, K), tile, A, dA, sA, copy, B, dB, sA, copy, C, dC, mma, half_t(1.f), half_t(0.f));
}
"""


def device_code(checkout):
    """The kernel of the tutorial as a device function, without its host code."""
    text = (checkout / "examples/cute/tutorial/hopper/wgmma_sm90.cu").read_text()
    text = text[: text.index("// Setup params for a NT GEMM")]
    text = re.sub(r"#include (<thrust|\"cutlass/util/)[^\n]*", "", text)
    return re.sub(r"__global__\s+static\s+__launch_bounds__\([^\n]*\)", "__device__", text)


def mended(text):
    """A barrier before a slot is read, and one before it is filled again."""
    wait, refill = "cp_async_wait<0>();", "copy(copy_a, tAgA(_,_,_,k_tile_next)"
    assert wait in text and refill in text, "not the tutorial that this script knows"
    return text.replace(wait, wait + " __syncthreads();").replace(refill, "__syncthreads(); " + refill)


def buffer(name, values, role):
    return {"name": name, "kind": "buffer", "dtype": "f16", "elements": values.size + GUARD, "role": role, "tolerance": 0}


def guarded(values):
    return np.concatenate([values.ravel(), np.zeros(GUARD)]).astype(np.float16)


def save(folder, source, checkout):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kernel.cu").write_text(source)
    command = [os.environ.get("NVCC", "nvcc"), "-ptx", "-arch=sm_90a", "-std=c++17", "--expt-relaxed-constexpr"]
    command += [f"-I{checkout}/include", str(folder / "kernel.cu"), "-o", str(folder / "kernel.ptx")]
    subprocess.run(command, check=True)
    random = np.random.default_rng(1)
    a, b = random.integers(-2, 3, (M, K)), random.integers(-2, 3, (N, K))
    c = b @ a.T
    params = [buffer("a", a, "in"), buffer("b", b, "in"), buffer("c", c, "out")]
    params += [{"name": n, "kind": "scalar", "dtype": "i32", "value": v} for n, v in [("m", M), ("n", N), ("k", K)]]
    launch = {"entry": "product", "grid": [1, 1, 1], "block": [128, 1, 1], "dynamic_shared_bytes": 98304 + 1024}
    (folder / "meta.json").write_text(json.dumps(launch | {"target": "sm_90a", "params": params}, indent=1))
    tensors = {"init.a": guarded(a), "init.b": guarded(b), "init.c": guarded(np.full(c.shape, np.nan)), "expect.c": guarded(c)}
    save_file(tensors, folder / "data.safetensors")


def main():
    checkout, out = Path(sys.argv[1]), Path(sys.argv[2])
    text = device_code(checkout)
    save(out / "found", text + ENTRY, checkout)
    save(out / "mended", mended(text) + ENTRY, checkout)


main()
