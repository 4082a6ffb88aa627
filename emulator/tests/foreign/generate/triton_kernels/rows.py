"""Kernels along rows: softmax, normalisations with their gradients, cross-entropy, reductions, scans, sorts."""

import numpy as np
import triton
import triton.language as tl

from harness import BF16, Programs, f32, from_triton, i32, read, rng, update, write

PROGRAMS = Programs()
F = np.float64


@triton.jit
def softmax_online(x, y, stride, n, B: tl.constexpr):
    row = tl.program_id(0)
    peak = tl.full((B,), float("-inf"), tl.float32)
    total = tl.zeros((B,), tl.float32)
    for start in range(0, n, B):
        i = start + tl.arange(0, B)
        v = tl.load(x + row * stride + i, mask=i < n, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(peak, v)
        total = total * tl.where(higher == float("-inf"), 1.0, tl.exp(peak - higher)) + tl.where(i < n, tl.exp(v - higher), 0.0)
        peak = higher
    top = tl.max(peak, axis=0)
    norm = tl.sum(tl.where(peak == float("-inf"), 0.0, total * tl.exp(peak - top)), axis=0)
    for start in range(0, n, B):
        i = start + tl.arange(0, B)
        v = tl.load(x + row * stride + i, mask=i < n).to(tl.float32)
        tl.store(y + row * stride + i, (tl.exp(v - top) / norm).to(tl.bfloat16), mask=i < n)


@PROGRAMS
def softmax():
    x = (rng("softmax").standard_normal((4, 400)) * 3).astype(BF16)
    e = np.exp(x[:, :390].astype(F) - x[:, :390].astype(F).max(1, keepdims=True))
    expect = np.full(x.shape, -77.0).astype(BF16)
    expect[:, :390] = (e / e.sum(1, keepdims=True)).astype(BF16)
    yield from from_triton("softmax_online_bf16", softmax_online, [
        read("x", x), write("y", expect, 4e-3), i32("stride", 400), i32("n", 390)], dict(B=128), grid=4, targets=(80, 90),
        exercises="softmax in one running pass; -inf, bf16 in and out")


@triton.jit
def softmax_gradient(y, dy, dx, n, B: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, B)
    p = tl.load(y + row * n + i, mask=i < n, other=0.0)
    g = tl.load(dy + row * n + i, mask=i < n, other=0.0)
    tl.store(dx + row * n + i, p * (g - tl.sum(p * g, axis=0)), mask=i < n)


@PROGRAMS
def softmax_backward():
    random = rng("softmax_backward")
    y = random.random((5, 200)).astype(np.float32)
    y /= y.sum(1, keepdims=True)
    dy = random.standard_normal(y.shape).astype(np.float32)
    expect = y.astype(F) * (dy - (y.astype(F) * dy).sum(1, keepdims=True))
    yield from from_triton("softmax_backward", softmax_gradient, [
        read("y", y), read("dy", dy), write("dx", expect.astype(np.float32), 1e-6), i32("n", 200)], dict(B=256), grid=5,
        warps=2, exercises="gradient of softmax, two warps")


@triton.jit
def layer_norm_kernel(x, w, b, y, mean, rstd, n, eps, B: tl.constexpr):
    row = tl.program_id(0)
    total = tl.zeros((B,), tl.float32)
    for start in range(0, n, B):
        i = start + tl.arange(0, B)
        total += tl.load(x + row * n + i, mask=i < n, other=0.0).to(tl.float32)
    m = tl.sum(total, axis=0) / n
    square = tl.zeros((B,), tl.float32)
    for start in range(0, n, B):
        i = start + tl.arange(0, B)
        v = tl.load(x + row * n + i, mask=i < n, other=0.0).to(tl.float32)
        d = tl.where(i < n, v - m, 0.0)
        square += d * d
    r = 1 / tl.sqrt(tl.sum(square, axis=0) / n + eps)
    tl.store(mean + row, m)
    tl.store(rstd + row, r)
    for start in range(0, n, B):
        i = start + tl.arange(0, B)
        v = tl.load(x + row * n + i, mask=i < n, other=0.0).to(tl.float32)
        out = (v - m) * r * tl.load(w + i, mask=i < n) + tl.load(b + i, mask=i < n)
        tl.store(y + row * n + i, out, mask=i < n)


def normalised(x, eps=1e-5):
    m = x.astype(F).mean(1)
    r = 1 / np.sqrt(x.astype(F).var(1) + np.float32(eps))
    return m, r


@PROGRAMS
def layer_norm():
    random = rng("layer_norm")
    x = (random.standard_normal((4, 300)) * 2 + 1).astype(np.float16)
    w, b = (random.standard_normal(300).astype(np.float32) for _ in range(2))
    m, r = normalised(x)
    y = (x - m[:, None]) * r[:, None] * w + b
    yield from from_triton("layer_norm", layer_norm_kernel, [
        read("x", x), read("w", w), read("b", b), write("y", y.astype(np.float32), 1e-5),
        write("mean", m.astype(np.float32), 1e-6), write("rstd", r.astype(np.float32), 1e-6), i32("n", 300),
        f32("eps", 1e-5)], dict(B=128), grid=4, targets=(80,), exercises="layer norm forward with its statistics")


@triton.jit
def layer_norm_gradient(dx, dy, dw, db, x, w, mean, rstd, lock, n, GROUPS: tl.constexpr, B: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, B)
    keep = i < n
    v = tl.load(x + row * n + i, mask=keep, other=0.0)
    g = tl.load(dy + row * n + i, mask=keep, other=0.0)
    r = tl.load(rstd + row)
    hat = tl.where(keep, (v - tl.load(mean + row)) * r, 0.0)
    wdy = tl.where(keep, tl.load(w + i, mask=keep, other=0.0) * g, 0.0)
    c1 = tl.sum(hat * wdy, axis=0) / n
    c2 = tl.sum(wdy, axis=0) / n
    tl.store(dx + row * n + i, (wdy - (hat * c1 + c2)) * r, mask=keep)
    # One lock and one flag "somebody was here" for each group of rows, as in the Triton tutorial.
    group = row % GROUPS
    guard = lock + group
    seen = guard + GROUPS
    while tl.atomic_cas(guard, 0, 1) == 1:
        pass
    pdw = g * hat
    pdb = g
    if tl.load(seen) == 0:
        tl.atomic_xchg(seen, 1)
    else:
        pdw += tl.load(dw + group * n + i, mask=keep)
        pdb += tl.load(db + group * n + i, mask=keep)
    tl.store(dw + group * n + i, pdw, mask=keep)
    tl.store(db + group * n + i, pdb, mask=keep)
    tl.debug_barrier()
    tl.atomic_xchg(guard, 0)


@PROGRAMS
def layer_norm_backward():
    random = rng("layer_norm_backward")
    rows, n, groups = 6, 100, 2
    x, dy = (random.standard_normal((rows, n)).astype(np.float32) for _ in range(2))
    w = random.standard_normal(n).astype(np.float32)
    m, r = normalised(x)
    hat = (x - m[:, None]) * r[:, None]
    wdy = dy.astype(F) * w
    dx = (wdy - hat * (hat * wdy).mean(1, keepdims=True) - wdy.mean(1, keepdims=True)) * r[:, None]
    dw, db = (np.stack([p[g::groups].sum(0) for g in range(groups)]).astype(np.float32) for p in (dy * hat, dy.astype(F)))
    zero = np.zeros(groups, np.int32)
    yield from from_triton("layer_norm_backward_locked", layer_norm_gradient, [
        write("dx", dx.astype(np.float32), 1e-5), read("dy", dy), update("dw", np.full_like(dw, -77), dw, 1e-5),
        update("db", np.full_like(db, -77), db, 1e-5), read("x", x), read("w", w), read("mean", m.astype(np.float32)),
        read("rstd", r.astype(np.float32)), update("lock", np.zeros(2 * groups, np.int32), np.array([0, 0, 1, 1], np.int32)),
        i32("n", n)], dict(GROUPS=groups, B=128), grid=rows,
        exercises="layer norm backward; blocks take turns with a spin lock (atomic_cas, atomic_xchg)")


@triton.jit
def rms_norm_kernel(x, w, y, n, eps, B: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, B)
    v = tl.load(x + row * n + i, mask=i < n, other=0.0).to(tl.float32)
    r = tl.rsqrt(tl.sum(v * v, axis=0) / n + eps)
    tl.store(y + row * n + i, (v * r * tl.load(w + i, mask=i < n, other=0.0)).to(tl.bfloat16), mask=i < n)


@triton.jit
def rms_norm_gradient(x, w, dy, dx, dw, n, eps, B: tl.constexpr, ROWS: tl.constexpr):
    i = tl.arange(0, B)
    keep = i < n
    weight = tl.load(w + i, mask=keep, other=0.0)
    partial = tl.zeros((B,), tl.float32)
    for k in tl.static_range(ROWS):
        row = tl.program_id(0) * ROWS + k
        v = tl.load(x + row * n + i, mask=keep, other=0.0).to(tl.float32)
        g = tl.load(dy + row * n + i, mask=keep, other=0.0).to(tl.float32)
        r = tl.rsqrt(tl.sum(v * v, axis=0) / n + eps)
        inner = tl.sum(g * weight * v, axis=0) / n
        tl.store(dx + row * n + i, (r * (g * weight - v * r * r * inner)), mask=keep)
        partial += g * v * r
    tl.atomic_add(dw + i, partial, mask=keep)


@PROGRAMS
def rms_norm():
    random = rng("rms_norm")
    n = 200
    x, dy = (random.standard_normal((6, n)).astype(BF16) for _ in range(2))
    w = random.standard_normal(n).astype(np.float32)
    r = 1 / np.sqrt((x.astype(F) ** 2).mean(1, keepdims=True) + np.float32(1e-6))
    y = x.astype(F) * r * w
    yield from from_triton("rms_norm", rms_norm_kernel, [
        read("x", x), read("w", w), write("y", y.astype(BF16), 8e-3), i32("n", n), f32("eps", 1e-6)], dict(B=256), grid=6,
        warps=8, targets=(80, 90), exercises="RMS norm forward, eight warps")
    g = dy.astype(F)
    dx = r * (g * w - x.astype(F) * r * r * (g * w * x.astype(F)).mean(1, keepdims=True))
    dw0 = random.standard_normal(n).astype(np.float32)
    yield from from_triton("rms_norm_backward", rms_norm_gradient, [
        read("x", x), read("w", w), read("dy", dy), write("dx", dx.astype(np.float32), 1e-5),
        update("dw", dw0, (dw0 + (g * x.astype(F) * r).sum(0)).astype(np.float32), 1e-5), i32("n", n), f32("eps", 1e-6)],
        dict(B=256, ROWS=3), grid=2, targets=(80,), exercises="RMS norm backward, weight gradient by atomics")


@triton.jit
def cross_entropy_kernel(logits, labels, loss, dlogits, n, ignore, scale, B: tl.constexpr):
    row = tl.program_id(0)
    label = tl.load(labels + row)
    logits += row * n
    dlogits += row * n
    peak = float("-inf")
    total = 0.0
    for start in range(0, n, B):
        i = start + tl.arange(0, B)
        v = tl.load(logits + i, mask=i < n, other=float("-inf")).to(tl.float32)
        top = tl.maximum(peak, tl.max(v, axis=0))
        total = total * tl.exp(peak - top) + tl.sum(tl.exp(v - top), axis=0)
        peak = top
    if label == ignore:
        tl.store(loss + row, 0.0)
        for start in range(0, n, B):
            i = start + tl.arange(0, B)
            tl.store(dlogits + i, tl.zeros((B,), tl.bfloat16), mask=i < n)
        return
    tl.store(loss + row, tl.log(total) + peak - tl.load(logits + label).to(tl.float32))
    for start in range(0, n, B):
        i = start + tl.arange(0, B)
        p = tl.exp(tl.load(logits + i, mask=i < n, other=0.0).to(tl.float32) - peak) / total
        tl.store(dlogits + i, ((p - tl.where(i == label, 1.0, 0.0)) * scale).to(tl.bfloat16), mask=i < n)


@PROGRAMS
def cross_entropy():
    random = rng("cross_entropy")
    n = 300
    x = (random.standard_normal((5, n)) * 4).astype(BF16)
    labels = np.array([7, 299, -100, 0, 131], np.int64)
    v = x.astype(F)
    lse = np.log(np.exp(v - v.max(1, keepdims=True)).sum(1)) + v.max(1)
    kept = labels >= 0
    loss = np.where(kept, lse - v[np.arange(5), np.maximum(labels, 0)], 0)
    p = np.exp(v - lse[:, None])
    p[np.arange(5), np.maximum(labels, 0)] -= 1
    d = np.where(kept[:, None], p * 0.25, 0)
    yield from from_triton("cross_entropy", cross_entropy_kernel, [
        read("logits", x), read("labels", labels), write("loss", loss.astype(np.float32), 1e-5),
        write("dlogits", d.astype(BF16), 2e-3), i32("n", n), i32("ignore", -100), f32("scale", 0.25)], dict(B=128), grid=5,
        targets=(80, 90), exercises="cross-entropy with its gradient, ignored label, early return, i64 labels")


@triton.jit
def reductions_kernel(x, sums, peaks, where, low, anyneg, R: tl.constexpr, C: tl.constexpr):
    r, c = tl.arange(0, R), tl.arange(0, C)
    v = tl.load(x + r[:, None] * C + c[None, :])
    tl.store(sums + c, tl.sum(v, axis=0))
    tl.store(peaks + r, tl.max(v, axis=1))
    tl.store(where + r, tl.argmax(v, axis=1))
    tl.store(low + c, tl.argmin(v, axis=0))
    tl.store(anyneg, tl.sum(tl.sum((v < -1.5).to(tl.int32), axis=1), axis=0))
    tl.store(anyneg + 1, tl.xor_sum(tl.xor_sum(v.to(tl.int32, bitcast=True), axis=1), axis=0))


@PROGRAMS
def reductions():
    x = rng("reductions").standard_normal((32, 64)).astype(np.float32)
    # Repeated extremes: the leftmost wins.
    x[3, 9] = x[3, 40] = 5
    x[4, 11] = x[20, 11] = -6
    counts = np.array([(x < -1.5).sum(), np.bitwise_xor.reduce(x.view(np.int32).reshape(-1))], np.int32)
    yield from from_triton("reductions", reductions_kernel, [
        read("x", x), write("sums", x.astype(F).sum(0).astype(np.float32), 1e-5), write("peaks", x.max(1)),
        write("where", x.argmax(1).astype(np.int32)), write("low", x.argmin(0).astype(np.int32)), write("anyneg", counts)],
        dict(R=32, C=64), grid=1, targets=(80,),
        exercises="sum, max, argmax, argmin, count, xor along both axes; ties to the left")


@triton.jit
def combine(a1, b1, a2, b2):
    return a1 * a2, a2 * b1 + b2


@triton.jit
def scans_kernel(x, a, sums, back, products, state, n, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    g = tl.load(a + i)
    tl.store(sums + i, tl.cumsum(v, axis=0))
    tl.store(back + i, tl.cumsum(v, axis=0, reverse=True))
    tl.store(products + i, tl.cumprod(g, axis=0))
    _, h = tl.associative_scan((g, v), 0, combine)
    tl.store(state + i, h)


@PROGRAMS
def scans():
    random = rng("scans")
    x = random.standard_normal(512).astype(np.float32)
    a = (0.98 + 0.03 * random.random(512)).astype(np.float32)
    state, h = np.zeros(512), 0.0
    for k in range(512):
        h = float(a[k]) * h + float(x[k])
        state[k] = h
    back = x[::-1].astype(F).cumsum()[::-1]
    yield from from_triton("scans", scans_kernel, [
        read("x", x), read("a", a), write("sums", x.astype(F).cumsum().astype(np.float32), 2e-5),
        write("back", back.astype(np.float32), 2e-5), write("products", a.astype(F).cumprod().astype(np.float32), 1e-4),
        write("state", state.astype(np.float32), 1e-4), i32("n", 512)], dict(B=512), grid=1, targets=(80,),
        exercises="cumulative sum both ways, product, first-order recurrence by associative scan")


@triton.jit
def sort_kernel(x, up, down, best, R: tl.constexpr, C: tl.constexpr, K: tl.constexpr):
    at = tl.arange(0, R)[:, None] * C + tl.arange(0, C)[None, :]
    v = tl.load(x + at)
    tl.store(up + at, tl.sort(v, dim=1))
    tl.store(down + at, tl.sort(v, dim=1, descending=True))
    tl.store(best + tl.arange(0, R)[:, None] * K + tl.arange(0, K)[None, :], tl.topk(v, K, dim=1))


@PROGRAMS
def sorting():
    x = rng("sorting").integers(-1000, 1000, (4, 128)).astype(np.int32)
    up = np.sort(x, axis=1)
    yield from from_triton("sort_topk", sort_kernel, [
        read("x", x), write("up", up), write("down", up[:, ::-1]), write("best", up[:, ::-1][:, :8])], dict(R=4, C=128, K=8),
        grid=1, targets=(80,), exercises="bitonic sorts both ways and top-8, integers")
    y = rng("sorting_f").standard_normal((2, 64)).astype(np.float32)
    up = np.sort(y, axis=1)
    yield from from_triton("sort_topk_f32", sort_kernel, [
        read("x", y), write("up", up), write("down", up[:, ::-1]), write("best", up[:, ::-1][:, :8])], dict(R=2, C=64, K=8),
        grid=1, warps=1, exercises="bitonic sorts both ways and top-8 within one warp")


@triton.jit
def welford_combine(mean1, m21, n1, mean2, m22, n2):
    d = mean2 - mean1
    n = n1 + n2
    share = tl.where(n == 0.0, 0.0, n2 / n)
    return mean1 + d * share, m21 + m22 + d * d * n1 * share, n


@triton.jit
def variance_kernel(x, out, n, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i, mask=i < n, other=0.0)
    one = tl.where(i < n, 1.0, 0.0)
    mean, m2, count = tl.reduce((v, tl.zeros((B,), tl.float32), one), 0, welford_combine)
    tl.store(out, mean)
    tl.store(out + 1, m2 / (count - 1))


@PROGRAMS
def variance():
    x = (rng("variance").standard_normal(600) + 30).astype(np.float32)
    out = np.array([x.astype(F).mean(), x.astype(F).var(ddof=1)], np.float32)
    yield from from_triton("variance_welford", variance_kernel, [
        read("x", x), write("out", out, 1e-5), i32("n", 600)], dict(B=1024), grid=1,
        exercises="reduction of three values at once with a user's combine")
