"""Attention: flash forward, the two halves of its backward, decoding with split keys, rotary embedding."""

import numpy as np
import triton
import triton.language as tl

from harness import BF16, Programs, f32, from_triton, i32, read, rng, update, write

PROGRAMS = Programs()
F = np.float64


@triton.jit
def flash_forward(q, k, v, o, lse, T, scale, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, CAUSAL: tl.constexpr):
    head = tl.program_id(1)
    q += head * T * D
    k += head * T * D
    v += head * T * D
    o += head * T * D
    first = tl.program_id(0) * BM
    rm, rn, rd = first + tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, D)
    tile = tl.load(q + rm[:, None] * D + rd[None, :], mask=rm[:, None] < T, other=0.0)
    peak = tl.full((BM,), float("-inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    scale *= 1.44269504
    end = tl.minimum(first + BM, T) if CAUSAL else T
    for start in range(0, end, BN):
        cols = start + rn
        keys = tl.load(k + cols[None, :] * D + rd[:, None], mask=cols[None, :] < T, other=0.0)
        s = tl.dot(tile, keys) * scale
        s = tl.where(cols[None, :] < T, s, float("-inf"))
        if CAUSAL:
            s = tl.where(rm[:, None] >= cols[None, :], s, float("-inf"))
        top = tl.maximum(peak, tl.max(s, axis=1))
        p = tl.exp2(s - top[:, None])
        shrink = tl.exp2(peak - top)
        total = total * shrink + tl.sum(p, axis=1)
        values = tl.load(v + cols[:, None] * D + rd[None, :], mask=cols[:, None] < T, other=0.0)
        acc = tl.dot(p.to(values.dtype), values, acc * shrink[:, None])
        peak = top
    tl.store(lse + head * T + rm, peak + tl.log2(total), mask=rm < T)
    tl.store(o + rm[:, None] * D + rd[None, :], (acc / total[:, None]).to(o.dtype.element_ty), mask=rm[:, None] < T)


def reference(q, k, v, causal, scale):
    s = q.astype(F) @ k.astype(F).swapaxes(1, 2) * scale
    if causal:
        s = np.where(np.tril(np.ones(s.shape[1:], bool)), s, -np.inf)
    top = s.max(2, keepdims=True)
    e = np.exp(s - top)
    total = e.sum(2, keepdims=True)
    return e / total, (e / total) @ v.astype(F), (np.log(total) + top)[..., 0]


def attention(name, heads, T, D, BM, BN, causal, dtype, warps, stages, targets):
    random = rng(name)
    q, k, v = (random.standard_normal((heads, T, D)).astype(dtype) for _ in range(3))
    scale = np.float32(D ** -0.5)
    _, o, lse = reference(q, k, v, causal, scale)
    tolerance = 2e-3 if dtype == np.float16 else 1e-2
    yield from from_triton(name, flash_forward, [
        read("q", q), read("k", k), read("v", v), write("o", o.astype(dtype), tolerance),
        write("lse", (lse / np.log(2)).astype(np.float32), 2e-4), i32("T", T), f32("scale", scale)],
        dict(D=D, BM=BM, BN=BN, CAUSAL=causal), grid=(-(-T // BM), heads), warps=warps, stages=stages, targets=targets,
        exercises=f"flash attention forward, {heads}×{T}×{D} {np.dtype(dtype).name}, {'causal' if causal else 'full'}, tile"
                  f" {BM}×{BN}, {warps} warps, {stages} stages")


@PROGRAMS
def forward():
    yield from attention("flash_causal_d64", 1, 96, 64, 64, 32, True, np.float16, 4, 3, (80, 90))
    yield from attention("flash_full_d128", 1, 64, 128, 64, 32, False, BF16, 4, 2, (90,))
    yield from attention("flash_causal_d128_w8", 1, 40, 128, 128, 32, True, BF16, 8, 2, (80,))
    yield from attention("flash_ragged_d32", 1, 77, 32, 32, 32, True, BF16, 2, 3, (80,))


@triton.jit
def flash_backward_keys(q, k, v, do, lse, delta, dk, dv, T, scale, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    head = tl.program_id(1)
    shift = head * T * D
    first = tl.program_id(0) * BN
    rn, rd = first + tl.arange(0, BN), tl.arange(0, D)
    keys = tl.load(k + shift + rn[:, None] * D + rd[None, :])
    values = tl.load(v + shift + rn[:, None] * D + rd[None, :])
    gk = tl.zeros((BN, D), tl.float32)
    gv = tl.zeros((BN, D), tl.float32)
    for start in range(first, T, BM):
        rm = start + tl.arange(0, BM)
        qt = tl.load(q + shift + rm[None, :] * D + rd[:, None])
        g = tl.load(do + shift + rm[:, None] * D + rd[None, :])
        st = tl.dot(keys, qt) * (scale * 1.44269504)
        pt = tl.exp2(st - tl.load(lse + head * T + rm)[None, :])
        pt = tl.where(rm[None, :] >= rn[:, None], pt, 0.0)
        gv = tl.dot(pt.to(g.dtype), g, gv)
        dpt = tl.dot(values, tl.trans(g))
        dst = pt * (dpt - tl.load(delta + head * T + rm)[None, :])
        gk = tl.dot(dst.to(g.dtype), tl.trans(qt), gk)
    tl.store(dv + shift + rn[:, None] * D + rd[None, :], gv)
    tl.store(dk + shift + rn[:, None] * D + rd[None, :], gk * scale)


@triton.jit
def flash_backward_queries(q, k, v, do, lse, delta, dq, T, scale, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    head = tl.program_id(1)
    shift = head * T * D
    first = tl.program_id(0) * BM
    rm, rd = first + tl.arange(0, BM), tl.arange(0, D)
    query = tl.load(q + shift + rm[:, None] * D + rd[None, :])
    g = tl.load(do + shift + rm[:, None] * D + rd[None, :])
    top = tl.load(lse + head * T + rm)
    d = tl.load(delta + head * T + rm)
    acc = tl.zeros((BM, D), tl.float32)
    for start in range(0, first + BM, BN):
        rn = start + tl.arange(0, BN)
        kt = tl.load(k + shift + rn[None, :] * D + rd[:, None])
        vt = tl.load(v + shift + rn[None, :] * D + rd[:, None])
        p = tl.exp2(tl.dot(query, kt) * (scale * 1.44269504) - top[:, None])
        p = tl.where(rm[:, None] >= rn[None, :], p, 0.0)
        ds = p * (tl.dot(g, vt) - d[:, None])
        acc = tl.dot(ds.to(kt.dtype), tl.trans(kt), acc)
    tl.store(dq + shift + rm[:, None] * D + rd[None, :], acc * scale)


@PROGRAMS
def backward():
    random = rng("flash_backward")
    heads, T, D = 1, 64, 64
    q, k, v, do = (random.standard_normal((heads, T, D)).astype(np.float16) for _ in range(4))
    scale = np.float32(D ** -0.5)
    p, o, lse = reference(q, k, v, True, scale)
    delta = (o * do.astype(F)).sum(2)
    dp = do.astype(F) @ v.astype(F).swapaxes(1, 2)
    ds = p * (dp - delta[..., None])
    dv, dk, dq = p.swapaxes(1, 2) @ do.astype(F), ds.swapaxes(1, 2) @ q.astype(F) * scale, ds @ k.astype(F) * scale
    lse2, delta = (lse / np.log(2)).astype(np.float32), delta.astype(np.float32)
    common = [read("q", q), read("k", k), read("v", v), read("do", do), read("lse", lse2), read("delta", delta)]
    tail = [i32("T", T), f32("scale", scale)]
    yield from from_triton("flash_backward_dkdv", flash_backward_keys, common + [
        write("dk", dk.astype(np.float32), 4e-3), write("dv", dv.astype(np.float32), 4e-3)] + tail,
        dict(D=D, BM=32, BN=32), grid=(T // 32, heads), stages=2, targets=(90,),
        exercises="flash attention backward: key and value gradients, four products a step")
    yield from from_triton("flash_backward_dq", flash_backward_queries, common + [
        write("dq", dq.astype(np.float32), 4e-3)] + tail, dict(D=D, BM=64, BN=32), grid=(T // 64, heads), stages=3,
        targets=(80,), exercises="flash attention backward: query gradient")


@triton.jit
def decode(q, k, v, out, peaks, totals, T, scale, D: tl.constexpr, G: tl.constexpr, BN: tl.constexpr):
    part = tl.program_id(0)
    rg, rd = tl.arange(0, G), tl.arange(0, D)
    rn = part * BN + tl.arange(0, BN)
    query = tl.load(q + rg[:, None] * D + rd[None, :]).to(tl.float32)
    keys = tl.load(k + rn[:, None] * D + rd[None, :], mask=rn[:, None] < T, other=0.0).to(tl.float32)
    s = tl.sum(query[:, None, :] * keys[None, :, :], axis=2) * scale
    s = tl.where(rn[None, :] < T, s, float("-inf"))
    top = tl.max(s, axis=1)
    p = tl.exp(s - top[:, None])
    values = tl.load(v + rn[:, None] * D + rd[None, :], mask=rn[:, None] < T, other=0.0).to(tl.float32)
    acc = tl.sum(p[:, :, None] * values[None, :, :], axis=1)
    tl.store(out + (part * G + rg)[:, None] * D + rd[None, :], acc)
    tl.store(peaks + part * G + rg, top)
    tl.store(totals + part * G + rg, tl.sum(p, axis=1))


@PROGRAMS
def decoding():
    random = rng("decode")
    T, D, G, BN = 60, 32, 4, 16
    q, k, v = (random.standard_normal(s).astype(np.float16) for s in ((G, D), (T, D), (T, D)))
    scale = np.float32(D ** -0.5)
    s = q.astype(F) @ k.astype(F).T * scale
    out, peaks, totals = np.zeros((4, G, D)), np.zeros((4, G)), np.zeros((4, G))
    for part in range(4):
        block = s[:, part * BN:(part + 1) * BN]
        peaks[part] = block.max(1)
        e = np.exp(block - block.max(1, keepdims=True))
        totals[part], out[part] = e.sum(1), e @ v[part * BN:(part + 1) * BN].astype(F)
    yield from from_triton("decode_split_keys", decode, [
        read("q", q), read("k", k), read("v", v), write("out", out.astype(np.float32), 2e-5),
        write("peaks", peaks.astype(np.float32), 1e-5), write("totals", totals.astype(np.float32), 2e-5), i32("T", T),
        f32("scale", scale)], dict(D=D, G=G, BN=BN), grid=4,
        exercises="decoding attention over split keys, three-dimensional reductions")


@triton.jit
def rotary(x, cos, sin, y, T, H, D: tl.constexpr):
    t, h = tl.program_id(0), tl.program_id(1)
    at = x + (t * H + h) * D
    i = tl.arange(0, D)
    pair = tl.load(at + i).to(tl.float32)
    even, odd = tl.split(tl.reshape(pair, (D // 2, 2)))
    half = tl.arange(0, D // 2)
    c, s = tl.load(cos + t * (D // 2) + half), tl.load(sin + t * (D // 2) + half)
    out = tl.interleave(even * c - odd * s, even * s + odd * c)
    tl.store(y + (t * H + h) * D + i, out.to(tl.bfloat16))


@PROGRAMS
def rope():
    random = rng("rope")
    T, H, D = 4, 3, 128
    x = random.standard_normal((T, H, D)).astype(BF16)
    angle = np.arange(T)[:, None] / 10000 ** (np.arange(D // 2) / (D // 2))
    c, s = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    e, o = x[..., 0::2].astype(F), x[..., 1::2].astype(F)
    y = np.stack([e * c[:, None] - o * s[:, None], e * s[:, None] + o * c[:, None]], -1)
    yield from from_triton("rotary", rotary, [
        read("x", x), read("cos", c), read("sin", s), write("y", y.astype(BF16), 8e-3), i32("T", T), i32("H", H)],
        dict(D=D), grid=(T, H), warps=1, exercises="rotary embedding: split and interleave of pairs")
