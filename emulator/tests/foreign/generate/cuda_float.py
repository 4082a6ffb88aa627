"""Floats: every rounding bit by bit against rational numbers, approximate instructions, conversions, libdevice."""

import math

import ml_dtypes
import numpy as np

import softfloat as sf
from harness import BF16, Programs, from_nvcc, i32, read, rng, update, write
from softfloat import BF16 as FBF16
from softfloat import E4M3, E5M2, F16, F32, F64, INF, NAN, TF32

PROGRAMS = Programs()

EDGES32 = [0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, 1e-45, -1e-45, 1.1754942e-38, 1.17549435e-38, 3.4028235e38, -3.4028235e38, 0.5, 1.5, 2.5,
           -2.5, 1 + 2 ** -23, 16777215.0, 8388609.0, 0.49999997, 3.0, -0.1]


def floats32(name, n, edges=EDGES32):
    random = rng(name)
    bits = random.integers(0, 2 ** 32, n, dtype=np.uint32).view(np.float32)
    near = (random.standard_normal(n) * 2.0 ** random.integers(-4, 5, n)).astype(np.float32)
    pick = random.random(n)
    v = np.where(pick < 0.35, random.choice(np.float32(edges), n), np.where(pick < 0.55, bits, near))
    return [float(x) for x in v]


def flat(rows, dtype):
    with np.errstate(all="ignore"):
        return np.array(list(zip(*rows)), np.float64).astype(dtype)


def libm(function, *values):
    """C's answer where Python's would be an exception."""
    try:
        return function(*values)
    except ValueError:
        return NAN
    except OverflowError:
        return INF


def float_rows(a, b, c, i):
    rn, rz, rm, rp = "rn", "rz", "rm", "rp"
    for mode in (rn, rz, rm, rp):
        yield sf.add(a, b, mode=mode)
    yield sf.add(a, -b)
    for mode in (rn, rz, rm, rp):
        yield sf.multiply(a, b, mode=mode)
    for mode in (rn, rz, rm, rp):
        yield sf.fma(a, b, c, mode=mode)
    for mode in (rn, rz, rp):
        yield sf.divide(a, b, mode=mode)
    yield sf.divide(1.0, a)
    yield sf.divide(1.0, a, mode=rm)
    for mode in (rn, rz, rp):
        yield sf.root(a, mode=mode)
    z = [sf.flush(v) for v in (a, b, c)]
    yield sf.flush(sf.add(z[0], z[1]))
    yield sf.flush(sf.multiply(z[0], z[1]))
    yield sf.flush(sf.fma(*z))
    yield sf.saturate(sf.add(a, b))
    yield sf.saturate(sf.multiply(a, b, mode=rz))
    yield sf.saturate(sf.fma(a, b, c))
    yield sf.minimum(a, b)
    yield sf.maximum(a, b)
    yield sf.minimum(a, b, nan=True)
    yield sf.maximum(z[0], z[1], nan=True)
    yield abs(a)
    yield -z[0]
    # PTX names the source of the sign first.
    yield NAN if math.isnan(b) else math.copysign(b, a)
    yield a if c >= 0 else b
    yield sf.integral(a, "rni")
    yield sf.integral(a, "rzi")
    yield sf.integral(a, "rmi")
    yield sf.saturate(sf.integral(z[0], "rpi"))
    yield sf.flush(sf.divide(1.0, z[0]))
    yield float(np.nextafter(np.float32(a), np.float32(b)))
    yield libm(math.fmod, b, a)
    yield libm(math.remainder, b, c)
    yield NAN if math.isnan(a) or math.isnan(b) else sf.add(a, -b) if a > b else 0.0
    yield sf.multiply(a, 2.0 ** (5 - i % 11))


def float_bits(a, b):
    nan = math.isnan
    subnormal = not nan(a) and 0 < abs(a) < float(F32.smallest_normal)
    unordered = nan(a) or nan(b)
    fa, fb = sf.flush(a), sf.flush(b)
    yield not nan(a) and not math.isinf(a)
    yield math.isinf(a)
    yield not nan(a)
    yield nan(a)
    yield not nan(a) and not math.isinf(a) and not subnormal  # zero is normal here
    yield subnormal
    yield a < b
    yield unordered or a < b
    yield not unordered and a != b
    yield unordered or a != b
    yield unordered or a == b
    yield not unordered
    yield unordered
    yield fa == fb
    yield unordered or fa >= fb
    yield a <= b or a > 1
    yield (a >= b) != (a > 1)


@PROGRAMS
def floats():
    n = 160
    a, b, c = (floats32(f"floats{k}", n) for k in "abc")
    # One product that cancels to the last bit, one sum that ties.
    a[0], b[0], c[0] = 1 + 2.0 ** -23, 1 - 2.0 ** -23, -1.0
    a[1], b[1], c[1] = 1.0, 2.0 ** -24, 2.0 ** -149
    rows = [list(float_rows(*v, i)) for i, v in enumerate(zip(a, b, c))]
    y = flat(rows, np.float32)
    z = np.array([[int(v) for v in float_bits(*ab)] for ab in zip(a, b)], np.uint32).T
    yield from from_nvcc("floats", [
        read("pa", np.float32(a)), read("pb", np.float32(b)), read("pc", np.float32(c)), write("y", y), write("z", z), i32("n", n)],
        grid=2, block=96,
        exercises="f32 bit by bit: add, mul, fma, div, rcp, sqrt in all roundings, ftz, sat, NaN rules of min and max, copysign, "
                  "slct, rounding to integers, testp, ordered and unordered setp")


def double_rows(a, b, c):
    yield sf.add(a, b, F64)
    yield sf.add(a, b, F64, "rz")
    yield sf.add(a, b, F64, "rp")
    yield sf.multiply(a, b, F64, "rm")
    yield sf.multiply(a, b, F64)
    yield sf.fma(a, b, c, F64)
    yield sf.fma(a, b, c, F64, "rz")
    yield sf.divide(a, b, F64)
    yield sf.divide(a, b, F64, "rm")
    yield sf.divide(1.0, a, F64, "rp")
    yield sf.root(a, F64)
    yield sf.root(a, F64, "rz")
    yield sf.minimum(a, b)
    yield sf.maximum(a, b)
    yield math.copysign(a, b)
    yield sf.integral(a, "rmi")
    yield abs(a)
    yield sf.add(a, -b, F64, "rm")
    bits = lambda v: int(np.float64(v).view(np.uint64))
    yield float(np.uint64(bits(a) >> 32 << 32 | bits(b) & 0xFFFFFFFF).view(np.float64))
    yield a if math.isnan(a) or math.isnan(b) or a < b else b


@PROGRAMS
def doubles():
    n = 96
    random = rng("doubles")
    edges = [0.0, -0.0, 1.0, -1.5, INF, -INF, NAN, 5e-324, -2.2250738585072e-308, 2.2250738585072014e-308, 1.7976931348623157e308,
             1 + 2.0 ** -52, 4503599627370497.5, 3.0]
    def pick():
        kind = random.random(n)
        bits = random.integers(0, 2 ** 64, n, dtype=np.uint64).view(np.float64)
        return [float(v) for v in np.where(kind < 0.3, random.choice(edges, n), np.where(kind < 0.6, bits, random.standard_normal(n)))]
    a, b, c = pick(), pick(), pick()
    a[0], b[0], c[0] = 1 + 2.0 ** -52, 1 - 2.0 ** -52, -1.0
    y = flat([list(double_rows(*v)) for v in zip(a, b, c)], np.float64)
    tiny = lambda v: not math.isnan(v) and 0 < abs(v) < 2.0 ** -1022
    z = [int(tiny(v)) + 2 * (not math.isnan(v) and not math.isinf(v) and not tiny(v)) for v in a]
    yield from from_nvcc("doubles", [
        read("pa", np.float64(a)), read("pb", np.float64(b)), read("pc", np.float64(c)), write("y", y), write("z", np.uint32(z)),
        i32("n", n)], grid=1, block=96, exercises="f64 bit by bit: add, mul, fma, div, rcp, sqrt roundings, min, max, words of a double")


@PROGRAMS
def approximate():
    n = 96
    random = rng("approximate")
    a = np.exp(random.uniform(-3, 3, n)).astype(np.float32)
    b = random.uniform(-3, 3, n).astype(np.float32)
    x, t = a.astype(np.float64), b.astype(np.float64)
    tanh = np.tanh(t)
    rows = [1 / x, x ** -0.5, x ** 0.5, np.log2(x), np.exp2(t), np.sin(t), np.cos(t), tanh, x ** -0.5, np.exp2(t), t / x, t / x,
            np.exp(t * 0.5), np.log(x), x ** np.float64(np.float32(0.7)), np.sin(t) * np.cos(t) + np.tan(t * 0.25), t / x, x ** -0.5 + np.hypot(x, t)]
    one = [-1.0, 1.0]
    corners = np.array([  # of inf, -inf, -0, 0, NaN, the smallest subnormal, -1, 1
        [0, -0.0, -INF, INF, NAN, INF] + one, [0, NAN, -INF, INF, NAN, INF, NAN, 1], [INF, NAN, -0.0, 0, NAN, 0, NAN, 1],
        [INF, NAN, -INF, -INF, NAN, -INF, NAN, 0], [INF, 0, 1, 1, NAN, 1, 0.5, 2], [NAN, NAN, 0, 0, NAN, 0, -math.sin(1), math.sin(1)],
        [1, -1, 0, 0, NAN, 0, -math.tanh(1), math.tanh(1)]])
    rows += list(corners[:, np.arange(n) % 8])
    coarse = [7, len(rows) - 1]
    fine = [k for k in range(len(rows)) if k not in coarse]
    table = np.array(rows).astype(np.float32)
    yield from from_nvcc("approximate", [
        read("pa", a), read("pb", b), write("y", table[fine], 4e-6), write("rough", table[coarse], 6e-4), i32("n", n)], grid=1, block=96,
        exercises="rcp, rsqrt, sqrt, lg2, ex2, sin, cos, tanh, div .approx and .full, their corners, fast intrinsics")


def conversion_rows(f, d, l):
    cases = [(f, 32, 1, "rni"), (f, 32, 1, "rzi"), (f, 32, 1, "rmi"), (f, 32, 1, "rpi"), (f, 32, 0, "rni"), (sf.flush(f), 32, 0, "rzi"),
             (f, 64, 1, "rni"), (f, 64, 0, "rzi"), (f, 16, 1, "rzi"), (f, 16, 0, "rni"), (f, 8, 1, "rzi"), (f, 8, 0, "rni")]
    for v, bits, signed, mode in cases:
        yield sf.to_integer(v, bits, signed, mode, bits == 64)
    for bits, signed, mode in [(32, 1, "rni"), (32, 1, "rmi"), (32, 0, "rpi"), (64, 1, "rzi"), (64, 1, "rni"), (64, 0, "rzi")]:
        yield sf.to_integer(d, bits, signed, mode, True)
    wrap = lambda v, bits: (v + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)
    clamp = lambda v, low, high: max(low, min(high, v))
    w, ul, uw = wrap(l, 32), l % 2 ** 64, l % 2 ** 32
    yield w
    yield clamp(l, -2 ** 31, 2 ** 31 - 1)
    yield clamp(l, 0, 2 ** 32 - 1)
    yield clamp(ul, 0, 2 ** 32 - 1)
    yield clamp(w, -2 ** 15, 2 ** 15 - 1)
    yield clamp(l, 0, 2 ** 16 - 1)
    yield clamp(w, -128, 127)
    yield clamp(uw, 0, 255)
    yield wrap(w, 8)
    yield w % 2 ** 16
    yield w
    yield uw


@PROGRAMS
def conversions():
    n = 96
    random = rng("conversions_nvcc")
    edges = [0.5, 1.5, 2.5, -0.5, -1.5, 127.5, 128.0, 255.5, -128.5, 32767.5, 65535.5, 2147483520.0, 2147483648.0, -2147483648.0, 4294967040.0,
             4294967296.0, 9.2233715e18, 9.223372e18, 1.8446743e19, 1.8446744e19, -1.0, NAN, INF, -INF, 1e-40, 3e9, -3e9, 0.0, -0.0, 1e30]
    f = [float(v) for v in np.float32(edges)] + [float(v) for v in (random.standard_normal(n - len(edges)) * 2.0 ** random.integers(0, 40, n - len(edges))).astype(np.float32)]
    wide = [0.5, 1.5, 2.5, -0.5, 2147483647.5, -2147483648.5, 4294967295.5, 9223372036854774784.0, 9223372036854775808.0, 18446744073709549568.0,
            18446744073709551616.0, NAN, INF, -INF, 5e-324, 4503599627370495.5, 4503599627370496.5, 1e-310, 1.0000000596046448, 1.00000017881393433,
            3.4028235677973366e38, 1e39, -1e39, 1e-46, 7.006492321624086e-46, 0.3]
    d = wide + [float(v) for v in random.standard_normal(n - len(wide)) * 2.0 ** random.integers(-3, 60, n - len(wide))]
    edges = [0, 1, -1, 127, 128, 255, 256, -128, -129, 32767, 32768, 65535, 65536, 2 ** 24 + 1, 2 ** 24 + 3, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32,
             -2 ** 31, -2 ** 31 - 1, 2 ** 53 + 1, 2 ** 63 - 1, -2 ** 63, 2 ** 62 + 2 ** 38, -(2 ** 53) - 3]
    l = edges + [int(v) for v in random.integers(-2 ** 63, 2 ** 63, n - len(edges)) >> random.integers(0, 62, n - len(edges))]
    ints = []
    for v in zip(f, d, l):
        ints += [(k + 2 ** 63) % 2 ** 64 - 2 ** 63 for k in conversion_rows(*v)]
    fs, ds = [], []
    for x, v, k in zip(f, d, l):
        w, uw, ul = (k + 2 ** 31) % 2 ** 32 - 2 ** 31, k % 2 ** 32, k % 2 ** 64
        whole = lambda value, mode, form=F32: sf.rounded(sf.Fraction(value), form, mode)
        fs += [whole(w, "rn"), whole(w, "rz"), whole(uw, "rm"), whole(uw, "rp"), whole(k, "rn"), whole(ul, "rz"), whole(k, "rp"),
               sf.convert(v, F32), sf.convert(v, F32, "rz"), sf.convert(v, F32, "rm"), sf.flush(sf.convert(v, F32, "rp")),
               sf.saturate(sf.convert(v, F32))]
        ds += [whole(k, "rn", F64), whole(ul, "rz", F64), float(uw), x, sf.integral(v, "rni")]
    yield from from_nvcc("conversions", [
        read("pf", np.float32(f)), read("pd", np.float64(d)), read("pl", np.array(l, np.int64)), write("ints", np.array(ints, np.int64)),
        write("fs", np.float32(fs)), write("ds", np.float64(ds)), i32("n", n)], grid=1, block=128,
        exercises="cvt between floats and integers of every width: all roundings, clamping, NaN, .sat, narrow registers")


def halves_of(words, form):
    raw = np.array(words, np.uint32).view(np.float16 if form is F16 else BF16).astype(np.float64)
    return [(float(a), float(b)) for a, b in raw.reshape(-1, 2)]


def random_halves(name, n, nan=True):
    """Words whose halves are telling as f16 and as bf16."""
    random = rng(name)
    edges = [0x0000, 0x8000, 0x3C00, 0xBC00, 0x3F80, 0xBF80, 0x7C00, 0xFC00, 0x7F80, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x3555, 0x007F, 0x0080, 0x4200]
    edges += [0x7E00, 0x7FC0] if nan else []
    bits = random.integers(0, 2 ** 16, (n, 2))
    near = (random.standard_normal((n, 2)) * 2).astype(np.float16).view(np.uint16)
    near_b = (random.standard_normal((n, 2)) * 2).astype(BF16).view(np.uint16)
    kind = random.random((n, 2))
    v = np.select([kind < 0.25, kind < 0.5, kind < 0.75], [random.choice(edges, (n, 2)), bits, near], near_b).astype(np.uint16)
    if not nan:
        clean = lambda w: np.isnan(w.view(np.float16).astype(float)) | np.isnan(w.view(BF16).astype(float))
        v = np.where(clean(v), np.uint16(0x3C01), v)
    return np.ascontiguousarray(v).view(np.uint32).reshape(-1).tolist()


def pairwise(function, *pairs):
    return [function(*halves) for halves in zip(*pairs)]


@PROGRAMS
def halves():
    n = 128
    a, b, c = (random_halves(f"halves{k}", n) for k in "abc")
    f, g = floats32("halves_f", n), floats32("halves_g", n)
    f[:6] = [65504.0, 65519.996, 65520.0, 2.0 ** -25, 1 + 2.0 ** -11, 1 + 3 * 2.0 ** -11]
    f[6:10] = [1 + 2.0 ** -8, 1 + 3 * 2.0 ** -8, 1 + 2.0 ** -11 + 2.0 ** -23, -(1 + 2.0 ** -11)]
    f, g = [float(v) for v in np.float32(f)], [float(v) for v in np.float32(g)]
    h2, b2, u, h1, b1, short, tf32 = [], [], [], [], [], [], []
    boolean = lambda v: 1.0 if v else 0.0
    for k, (x, y, z) in enumerate(zip(halves_of(a, F16), halves_of(b, F16), halves_of(c, F16))):
        fma = lambda p, q, r: sf.fma(p, q, r, F16)
        flush = lambda v: sf.flush(v, F16)
        h2.append([
            pairwise(lambda p, q: sf.add(p, q, F16), x, y), pairwise(lambda p, q: sf.add(p, -q, F16), x, y),
            pairwise(lambda p, q: sf.multiply(p, q, F16), x, y), pairwise(fma, x, y, z),
            pairwise(lambda *v: sf.saturate(fma(*v)), x, y, z), pairwise(lambda *v: sf.relu(fma(*v)), x, y, z),
            pairwise(lambda p, q: flush(sf.multiply(flush(p), flush(q), F16)), x, y), pairwise(sf.minimum, x, y),
            pairwise(lambda p, q: sf.maximum(p, q, True), x, y), pairwise(lambda p: -p, x), pairwise(abs, x),
            pairwise(lambda p, q: boolean(p > q), x, y),
            [sf.convert(g[k], F16), sf.convert(f[k], F16)], [sf.convert(g[k], F16, "rz"), sf.convert(f[k], F16, "rz")],
            [sf.relu(sf.convert(g[k], F16)), sf.relu(sf.convert(f[k], F16))]])
        unordered = lambda p, q: math.isnan(p) or math.isnan(q)
        mask = [0xFFFF * (unordered(p, q) or p <= q) for p, q in zip(x, y)]
        u.append([mask[0] | mask[1] << 16, 2 * (x[0] < y[0]) + (x[1] < y[1])])
        p, q, r = x[0], y[0], z[0]
        h1.append([sf.saturate(sf.add(p, q, F16)), fma(p, q, r), sf.maximum(p, q), sf.convert(f[k], F16), sf.convert(f[k], F16, "rz"),
                   sf.integral(p, "rmi"), sf.rounded(sf.Fraction(a[k] & 0xFFFF), F16), sf.multiply(p, 0.5, F16), p])
        short.append([sf.to_integer(p, 16, 1, "rni", False) % 2 ** 16, sf.to_integer(p, 16, 0, "rzi", False), int(unordered(p, q) or p >= q)])
        tf32.append(sf.convert(f[k], TF32, "rna"))
    for k, (x, y, z) in enumerate(zip(halves_of(a, FBF16), halves_of(b, FBF16), halves_of(c, FBF16))):
        fma = lambda p, q, r: sf.fma(p, q, r, FBF16)
        b2.append([
            pairwise(fma, x, y, z), pairwise(lambda *v: sf.relu(fma(*v)), x, y, z), pairwise(sf.minimum, x, y),
            pairwise(lambda p, q: sf.maximum(p, q, True), x, y), pairwise(lambda p: -p, x), pairwise(abs, y),
            [sf.convert(g[k], FBF16), sf.convert(f[k], FBF16)], [sf.convert(g[k], FBF16, "rz"), sf.convert(f[k], FBF16, "rz")],
            [sf.relu(sf.convert(g[k], FBF16)), sf.relu(sf.convert(f[k], FBF16))]])
        b1.append([fma(x[0], y[0], z[0]), sf.convert(f[k], FBF16), sf.convert(f[k], FBF16, "rz"), x[0]])
    with np.errstate(all="ignore"):
        table = lambda rows, dtype: np.swapaxes(np.array(rows, np.float64), 0, 1).astype(dtype)
        yield from from_nvcc("halves", [
            read("pa", np.uint32(a)), read("pb", np.uint32(b)), read("pc", np.uint32(c)), read("pf", np.float32(f)), read("pg", np.float32(g)),
            write("h2", table(h2, np.float16)), write("b2", table(b2, BF16)), write("u", table(u, np.uint32)),
            write("h1", table(h1, np.float16)), write("b1", table(b1, BF16)), write("s", table(short, np.uint16)),
            write("tf32", np.float32(tf32)), i32("n", n)], grid=1, block=128,
            exercises="f16, f16x2, bf16, bf16x2 bit by bit: fma, relu, sat, ftz, min and max, set, conversions in all roundings, tf32")


@PROGRAMS
def half_approximate():
    n = 96
    random = rng("half_approximate")
    h = random.uniform(0.1, 3, n).astype(np.float16) * np.float16([1, -1])[np.arange(n) % 2]
    b = random.uniform(-2, 2, n).astype(BF16)
    x, t = h.astype(np.float64), b.astype(np.float64)
    half = lambda v: v.astype(np.float16).astype(np.float64)
    brain = lambda v: v.astype(BF16).astype(np.float64)
    rows = [np.exp2(x), np.tanh(x), np.exp(x), np.log(abs(x)), abs(x) ** 0.5, 1 / x, abs(x) ** -0.5, np.sin(x), x / 3, np.rint(x) + np.floor(x),
            brain(t * 2), brain(t * 1.5), brain(np.exp(t)), np.maximum(t, 0.25), np.where(t > 0, 1, 2), np.exp2(x) - half(np.minimum(x * x, 1))]
    yield from from_nvcc("half_approximate", [
        read("ph", h), read("pb", b), write("y", np.float32(rows), 4e-3), i32("n", n)], grid=1, block=96, targets=("sm_80", "sm_90a"),
        exercises="ex2, tanh in f16; exp, log, sqrt, rcp, sin, division, rounding as the half headers build them")


@PROGRAMS
def fp8():
    n = 128
    random = rng("fp8")
    edges = [0.0, 448.0, 464.0, 465.0, 480.0, 1e9, -1e9, INF, -INF, 57344.0, 61440.0, 65536.0, 2.0 ** -9, 2.0 ** -10, 2.0 ** -10 * 1.01, 2.0 ** -16, 2.0 ** -17,
             1.0625, 1.1875, -1.0625, 17.0, 2.0 ** -6, 1.125, 1.375]
    values = edges + (random.standard_normal(n - len(edges)) * 2.0 ** random.integers(-10, 12, n - len(edges))).tolist()
    f = [float(v) for v in np.float32(values)]
    g = [float(v) for v in np.float32(random.permutation(values))]
    a, b = random_halves("fp8a", n, nan=False), random_halves("fp8b", n, nan=False)
    limit = lambda v, form: max(-float(form.largest), min(float(form.largest), v))
    code = lambda v, form: sf.encode(limit(sf.convert(limit(v, form), form), form), form)
    pack = lambda low, high, form: code(low, form) | code(high, form) << 8
    packed, h2, b2, u, f1 = [], [], [], [], []
    e4 = lambda raw: float(np.uint8(raw).view(ml_dtypes.float8_e4m3fn))
    e5 = lambda raw: float(np.uint8(raw).view(ml_dtypes.float8_e5m2))
    for k, (x, y) in enumerate(zip(halves_of(a, F16), halves_of(a, FBF16))):
        packed.append([pack(g[k], f[k], E4M3), pack(g[k], f[k], E5M2), pack(sf.relu(g[k]), sf.relu(f[k]), E4M3), pack(x[0], x[1], E4M3), pack(x[0], x[1], E5M2)])
        low, high = b[k] & 255, b[k] >> 8 & 255
        h2.append([[e4(low), e4(high)], [e5(low), e5(high)], [sf.relu(e5(low)), sf.relu(e5(high))]])
        z = halves_of([b[k]], FBF16)[0]
        b2.append([pairwise(lambda p, q: sf.add(p, q, FBF16), y, z), pairwise(lambda p, q: sf.add(p, -q, FBF16), y, z),
                   pairwise(lambda p, q: sf.multiply(p, q, FBF16), y, z), pairwise(lambda p, q: 1.0 if p < q else 0.0, y, z)])
        u.append([2 * (y[0] > z[0]) + (y[1] > z[1])])
        sign = math.copysign(1, f[k]) * math.copysign(1, g[k])
        f1.append([y[1], sign * max(abs(f[k]), abs(g[k])), sf.minimum(sf.maximum(f[k], g[k]), f[k], True)])
    with np.errstate(all="ignore"):
        table = lambda rows, dtype: np.swapaxes(np.array(rows, np.float64), 0, 1).astype(dtype)
        yield from from_nvcc("fp8", [
            read("pf", np.float32(f)), read("pg", np.float32(g)), read("pa", np.uint32(a)), read("pb", np.uint32(b)),
            write("packed", table(packed, np.uint16)), write("h2", table(h2, np.float16)), write("b2", table(b2, BF16)),
            write("u", table(u, np.uint32)), write("f1", table(f1, np.float32)), i32("n", n)], grid=1, block=128, targets=("sm_90a",),
            exercises="e4m3 and e5m2 conversions with saturation and relu, bf16 add, sub, mul, set, xorsign")


def each(function, *arrays):
    return np.array([libm(function, *(float(v) for v in row)) for row in zip(*arrays)])


@PROGRAMS
def math_f32():
    n = 96
    random = rng("math_f32")
    x = np.linspace(-10, 10, n).astype(np.float32)
    w = (random.standard_normal(n) * 10.0 ** random.integers(0, 30, n)).astype(np.float32)
    f = np.float32
    p, q = np.abs(x) + f(0.01), x / f(11)
    assert p.dtype == q.dtype == np.float32
    X, W, P, Q = (v.astype(np.float64) for v in (x, w, p, q))
    S = (x * f(0.3)).astype(np.float64)
    fraction, exponent = np.frexp(X)
    half_up = np.trunc(X + np.copysign(0.5, X))
    pi = lambda function, v: each(lambda t: function(math.pi * math.remainder(t, 2)), v)
    rows = [np.exp(X), np.exp2(X), 10.0 ** (X * 0.5), np.expm1(X), np.log(P), np.log2(P), np.log10(P), np.log1p(P), P ** np.float64(f(1.7)),
            (-np.floor(P) - 1) ** 3, each(math.sin, X), each(math.cos, X), each(math.tan, Q), each(math.sin, W), each(math.cos, W), pi(math.sin, X),
            pi(math.cos, X), np.arcsin(Q), np.arccos(Q), np.arctan(X), np.arctan2(X, W), np.sinh(X), np.cosh(X), np.tanh(X), np.arcsinh(X),
            np.arccosh((p + f(1)).astype(np.float64)), np.arctanh(Q), each(math.erf, S), each(math.erfc, S), each(lambda t: 0.5 * math.erfc(-t / math.sqrt(2)), S),
            each(math.lgamma, P), each(math.gamma, (p * f(0.5)).astype(np.float64)), np.cbrt(X), np.hypot(X, 3), 1 / np.hypot(X, 3), P ** -0.5,
            np.floor(np.log2(abs(W))) + np.floor(np.log2(P)), half_up + np.rint(X) * 100 + np.trunc(X) * 1000, np.sin(X) - np.cos(X),
            X - np.trunc(X) + 8 * np.trunc(X), fraction + exponent]
    yield from from_nvcc("math_f32", [read("px", x), read("pw", w), write("y", np.float32(rows), 3e-6), i32("n", n)], grid=1, block=96,
                         exercises="libdevice in f32: exponentials, logarithms, trigonometry up to 1e30, hyperbolic, erf, gamma")


@PROGRAMS
def math_f64():
    n = 64
    random = rng("math_f64")
    x = np.linspace(-10, 10, n)
    w = random.standard_normal(n) * 10.0 ** random.integers(0, 22, n)
    p, q = np.abs(x) + 0.01, x / 11
    half_up = np.trunc(x + np.copysign(0.5, x))
    rows = [np.exp(x), np.exp2(x), np.expm1(x), np.log(p), np.log2(p), np.log1p(p), p ** 1.7, (-2.5) ** np.floor(x), each(math.sin, x),
            each(math.cos, x), each(math.tan, q), each(math.sin, w), each(math.cos, w), np.arcsin(q), np.arccos(q), np.arctan2(x, 2), np.sinh(x),
            np.tanh(x), np.arcsinh(x), np.arctanh(q), each(math.erf, x * 0.3), each(math.erfc, x * 0.3), each(math.lgamma, p),
            each(math.gamma, p * 0.5), np.cbrt(x), np.hypot(x, 3), 1 / np.sqrt(p), 1 / x, np.sqrt(p) / 3, np.fmod(w, 3),
            half_up + np.rint(x) * 100]
    yield from from_nvcc("math_f64", [read("px", x), read("pw", w), write("y", np.array(rows), 2e-14), i32("n", n)], grid=1, block=64,
                         exercises="libdevice in f64, with trigonometry up to 1e22")
