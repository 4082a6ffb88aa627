// The 8-bit floats both ways, with saturation, and arithmetic that only sm_90 has.
#define ROW(type, to, letter, text, ...) { type r_; asm volatile(text : letter(r_) : __VA_ARGS__); *to = r_; to += n; }

extern "C" __global__ void fp8(const float *pf, const float *pg, const unsigned *pa, const unsigned *pb, unsigned short *packed,
                               unsigned *h2, unsigned *b2, unsigned *u, float *f1, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float f = pf[i], g = pg[i];
    unsigned a = pa[i], b = pb[i];
    packed += i, h2 += i, b2 += i, u += i, f1 += i;
    ROW(unsigned short, packed, "=h", "cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;", "f"(f), "f"(g))
    ROW(unsigned short, packed, "=h", "cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;", "f"(f), "f"(g))
    ROW(unsigned short, packed, "=h", "cvt.rn.satfinite.relu.e4m3x2.f32 %0, %1, %2;", "f"(f), "f"(g))
    ROW(unsigned short, packed, "=h", "cvt.rn.satfinite.e4m3x2.f16x2 %0, %1;", "r"(a))
    ROW(unsigned short, packed, "=h", "cvt.rn.satfinite.e5m2x2.f16x2 %0, %1;", "r"(a))
    ROW(unsigned, h2, "=r", "cvt.rn.f16x2.e4m3x2 %0, %1;", "h"((unsigned short)b))
    ROW(unsigned, h2, "=r", "cvt.rn.f16x2.e5m2x2 %0, %1;", "h"((unsigned short)b))
    ROW(unsigned, h2, "=r", "cvt.rn.relu.f16x2.e5m2x2 %0, %1;", "h"((unsigned short)b))
    ROW(unsigned, b2, "=r", "add.rn.bf16x2 %0, %1, %2;", "r"(a), "r"(b))
    ROW(unsigned, b2, "=r", "sub.bf16x2 %0, %1, %2;", "r"(a), "r"(b))
    ROW(unsigned, b2, "=r", "mul.bf16x2 %0, %1, %2;", "r"(a), "r"(b))
    ROW(unsigned, b2, "=r", "set.lt.bf16x2.bf16x2 %0, %1, %2;", "r"(a), "r"(b))
    ROW(unsigned, u, "=r", "{ .reg .pred p, q; setp.gt.bf16x2 p|q, %1, %2; selp.u32 %0, 2, 0, p; @q add.u32 %0, %0, 1; }", "r"(a), "r"(b))
    ROW(float, f1, "=f", "{ .reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.bf16 %0, h; }", "r"(a))
    ROW(float, f1, "=f", "max.xorsign.abs.f32 %0, %1, %2;", "f"(f), "f"(g))
    ROW(float, f1, "=f", "{ .reg .f32 t; max.f32 t, %1, %2; min.NaN.f32 %0, t, %1; }", "f"(f), "f"(g))
}
