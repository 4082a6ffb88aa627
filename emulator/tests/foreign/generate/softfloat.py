"""Binary floating point exactly, in rational numbers: the model that the bit-exact programs are held to."""

import math
from dataclasses import dataclass
from fractions import Fraction

NAN, INF = math.nan, math.inf


@dataclass(frozen=True)
class Format:
    precision: int  # bits of the significand, the hidden one included
    emin: int  # exponent of the smallest normal number
    emax: int
    bits: int
    largest: Fraction

    @property
    def smallest_normal(self):
        return Fraction(2) ** self.emin


def ieee(precision, emin, emax, bits):
    return Format(precision, emin, emax, bits, (2 - Fraction(2) ** (1 - precision)) * Fraction(2) ** emax)


F64 = ieee(53, -1022, 1023, 64)
F32 = ieee(24, -126, 127, 32)
TF32 = ieee(11, -126, 127, 19)
F16 = ieee(11, -14, 15, 16)
BF16 = ieee(8, -126, 127, 16)
E5M2 = ieee(3, -14, 15, 8)
E4M3 = Format(4, -6, 8, 8, Fraction(448))  # its last code is NaN, not infinity


def rounded(x, form, mode="rn"):
    """The rational `x` in `form`, as a Python float. Modes: rn, rna (ties away), rz, rm (down), rp (up)."""
    if x == 0:
        return 0.0
    negative, x = x < 0, abs(x)
    exponent = x.numerator.bit_length() - x.denominator.bit_length()
    if Fraction(2) ** exponent > x:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, form.emin) - form.precision + 1)
    count, rest = divmod(x, unit)
    away = {"rn": 2 * rest > unit or (2 * rest == unit and count % 2), "rna": 2 * rest >= unit, "rz": False,
            "rm": negative and rest, "rp": not negative and rest}[mode]
    x = (count + bool(away)) * unit
    if x > form.largest:
        stays = mode == "rz" or mode == "rm" and not negative or mode == "rp" and negative
        x = form.largest if stays else None
    value = INF if x is None else float(x)
    return -value if negative else value


def special(*values):
    return any(math.isnan(v) or math.isinf(v) for v in values)


def add(a, b, form=F32, mode="rn"):
    return a + b if special(a, b) else rounded(Fraction(a) + Fraction(b), form, mode)


def multiply(a, b, form=F32, mode="rn"):
    if special(a, b):
        return a * b
    return math.copysign(rounded(Fraction(a) * Fraction(b), form, mode), math.copysign(1, a) * math.copysign(1, b))


def fma(a, b, c, form=F32, mode="rn"):
    if special(a, b):
        return a * b + c
    if special(c):
        return c
    return rounded(Fraction(a) * Fraction(b) + Fraction(c), form, mode)


def divide(a, b, form=F32, mode="rn"):
    if math.isnan(a) or math.isnan(b) or (a == 0 and b == 0) or (math.isinf(a) and math.isinf(b)):
        return NAN
    sign = math.copysign(1, a) * math.copysign(1, b)
    if b == 0 or math.isinf(a):
        return sign * INF
    if a == 0 or math.isinf(b):
        return sign * 0.0
    return rounded(Fraction(a) / Fraction(b), form, mode)


def root(a, form=F32, mode="rn"):
    if math.isnan(a) or a < 0:
        return NAN
    if a == 0 or math.isinf(a):
        return a
    # 200 bits and a sticky bit behind them round like the true root.
    x = Fraction(a)
    shift = 2 * max(200, x.denominator.bit_length())
    scaled = (x.numerator << shift) // x.denominator
    floor = math.isqrt(scaled)
    exact = floor * floor == scaled and (x.numerator << shift) % x.denominator == 0
    return rounded(Fraction(2 * floor + (not exact), 1 << shift // 2 + 1), form, mode)


def flush(v, form=F32):
    return math.copysign(0.0, v) if not special(v) and abs(Fraction(v)) < form.smallest_normal else v


def saturate(v):
    return 0.0 if math.isnan(v) else min(max(v, 0.0), 1.0)


def relu(v):
    return v if math.isnan(v) or v > 0 else 0.0


def minimum(a, b, nan=False):
    if math.isnan(a) or math.isnan(b):
        return NAN if nan or (math.isnan(a) and math.isnan(b)) else b if math.isnan(a) else a
    return min(a, b)


def maximum(a, b, nan=False):
    return -minimum(-a, -b, nan)


def convert(v, form, mode="rn"):
    return v if special(v) else math.copysign(rounded(Fraction(v), form, mode), v)


def integral(v, mode):
    """To a whole number: rni, rzi, rmi, rpi."""
    if special(v):
        return v
    x = Fraction(v)
    down = x.numerator // x.denominator
    rest = x - down
    if mode == "rzi":
        whole = down + (x < 0 and rest != 0)
    else:
        whole = {"rmi": down, "rpi": down + (rest != 0), "rni": down + (rest > Fraction(1, 2) or (2 * rest == 1 and down % 2))}[mode]
    return math.copysign(float(whole), v)


def to_integer(v, bits, signed, mode, wide):
    """cvt to an integer: clamps; NaN is 0, or for f64 and 64-bit results (`wide`) the top bit alone."""
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if math.isnan(v):
        return (-(1 << bits - 1) if signed else 1 << bits - 1) if wide else 0
    if math.isinf(v):
        return high if v > 0 else low
    return max(low, min(high, int(integral(v, mode))))


def encode(v, form):
    """The code of a finite value that `form` has."""
    sign = 1 << form.bits - 1 if math.copysign(1, v) < 0 else 0
    x = abs(Fraction(v))
    exponent = max(form.emin, x.numerator.bit_length() - x.denominator.bit_length()) if x else form.emin
    if x and Fraction(2) ** exponent > x:
        exponent -= 1
    exponent = max(exponent, form.emin)
    count = x / Fraction(2) ** (exponent - form.precision + 1)
    assert count.denominator == 1
    hidden = 1 << form.precision - 1
    biased = exponent - form.emin + 1 if count >= hidden else 0
    return sign | biased << form.precision - 1 | int(count) & hidden - 1
