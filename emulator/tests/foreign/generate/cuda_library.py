"""What the CUDA libraries compile to: CUB, libcu++, cooperative copies."""

import numpy as np

from harness import Programs, from_nvcc, i32, read, rng, update, write

PROGRAMS = Programs()


@PROGRAMS
def cub_sort():
    random = rng("cub_sort")
    keys = random.integers(0, 2 ** 16, (2, 256)).astype(np.uint32)
    values = random.integers(-10 ** 6, 10 ** 6, (2, 256)).astype(np.int32)
    order = np.argsort(keys, axis=1, kind="stable")
    k, v = np.take_along_axis(keys, order, 1), np.take_along_axis(values, order, 1)
    first = v[:, :64]
    scan = first.cumsum(1) + first.sum(1, keepdims=True)
    yield from from_nvcc("cub_sort", [
        update("keys", keys, k), update("values", values, v), write("scan", scan.astype(np.int32)),
        update("largest", np.int32([-2 ** 31]), np.int32([v[:, 192:].max()]))], grid=2, block=64,
        exercises="CUB: radix sort of pairs, inclusive scan, reduction; shared memory used three times over")


@PROGRAMS
def libcxx_atomics():
    x = rng("libcxx_atomics").integers(-100, 100, 200).astype(np.int32)
    threads = 96
    even = x[x % 2 == 0]
    value = 1
    for t in range(0, threads, 32):
        value = value * 3 + t
    yield from from_nvcc("libcxx_atomics", [
        read("x", x), write("y", (value + np.arange(threads)).astype(np.int32)),
        update("counters", np.int32([3, 4, -1000]), np.int32([3 + even.size, 4 + even.sum(), x[:threads].max()])),
        update("sum", np.float32([0.5]), np.float32([0.5 + (x[:threads] & 7).sum()])), i32("n", 200)], grid=1, block=threads,
        targets=("sm_80", "sm_90a"), exercises="libcu++ atomics: orders, scopes, compare-exchange loops, warps that wait for each other")


@PROGRAMS
def pipeline():
    stages = 4
    x = rng("pipeline").integers(-10 ** 6, 10 ** 6, (stages, 64, 4)).astype(np.int32)
    seen = x.copy()
    seen[2, :, 2:] = 0  # stage 2 was copied with the last 8 bytes zero
    y = seen[:, ::-1, ::-1]
    flat = x.reshape(-1)[:128].astype(np.int64)
    t = np.arange(64)
    copied = flat.copy()
    copied[t] = flat[t] + flat[127 - t]
    z = copied[(t + 1) % 64] - copied[127 - t]
    yield from from_nvcc("pipeline", [
        read("x", x), write("y", y), write("z", z.astype(np.int32)), i32("stages", stages)], grid=1, block=64,
        targets=("sm_80", "sm_90a"), exercises="__pipeline_memcpy_async with zero-fill, cooperative memcpy_async, cuda::barrier")
