"""Tensor descriptors made on the device: tensormap.replace in scratch memory, cp.async.bulk.tensor both ways (sm_90)."""

import numpy as np
import triton
import triton.language as tl

from harness import BF16, Programs, from_triton, i32, read, rng, update, write

PROGRAMS = Programs()


@triton.jit
def tma_matmul(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    left = tl.make_tensor_descriptor(a, shape=[M, K], strides=[K, 1], block_shape=[BM, BK])
    right = tl.make_tensor_descriptor(b, shape=[N, K], strides=[K, 1], block_shape=[BN, BK])
    out = tl.make_tensor_descriptor(c, shape=[M, N], strides=[N, 1], block_shape=[BM, BN])
    m, n = tl.program_id(0) * BM, tl.program_id(1) * BN
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        acc = tl.dot(left.load([m, k]), right.load([n, k]).T, acc)
    out.store([m, n], acc.to(tl.float16))


@PROGRAMS
def matmul():
    random = rng("tma_matmul")
    M, N, K = 80, 64, 96  # the last rows of the second tile are outside
    a, b = random.standard_normal((M, K)).astype(np.float16), random.standard_normal((N, K)).astype(np.float16)
    expect = (a.astype(np.float64) @ b.astype(np.float64).T).astype(np.float16)
    yield from from_triton("tma_matmul", tma_matmul, [
        read("a", a), read("b", b), write("c", expect, 2e-3), i32("M", M), i32("N", N), i32("K", K)], dict(BM=64, BN=32, BK=32), grid=(2, 2),
        stages=2, targets=(90,), exercises="tensor descriptors built on the device, bulk tensor loads and stores, rows outside the tensor")
