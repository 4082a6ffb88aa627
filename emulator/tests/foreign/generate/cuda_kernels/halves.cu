// f16, bf16 and their pairs: arithmetic, comparisons, minima, conversions in all roundings.
#define ROW(type, to, letter, text, ...) { type r_; asm volatile(text : letter(r_) : __VA_ARGS__); *to = r_; to += n; }
#define H2(text, ...) ROW(unsigned, h2, "=r", text, __VA_ARGS__)
#define B2(text, ...) ROW(unsigned, b2, "=r", text, __VA_ARGS__)
#define U(text, ...) ROW(unsigned, u, "=r", text, __VA_ARGS__)
#define H(text, ...) ROW(unsigned short, h1, "=h", text, __VA_ARGS__)
#define B(text, ...) ROW(unsigned short, b1, "=h", text, __VA_ARGS__)
#define S(text, ...) ROW(unsigned short, s, "=h", text, __VA_ARGS__)

extern "C" __global__ void halves(const unsigned *pa, const unsigned *pb, const unsigned *pc, const float *pf, const float *pg,
                                  unsigned *h2, unsigned *b2, unsigned *u, unsigned short *h1, unsigned short *b1,
                                  unsigned short *s, float *tf32, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned a = pa[i], b = pb[i], c = pc[i];
    float f = pf[i], g = pg[i];
    h2 += i, b2 += i, u += i, h1 += i, b1 += i, s += i;
    H2("add.rn.f16x2 %0, %1, %2;", "r"(a), "r"(b))
    H2("sub.f16x2 %0, %1, %2;", "r"(a), "r"(b))
    H2("mul.rn.f16x2 %0, %1, %2;", "r"(a), "r"(b))
    H2("fma.rn.f16x2 %0, %1, %2, %3;", "r"(a), "r"(b), "r"(c))
    H2("fma.rn.sat.f16x2 %0, %1, %2, %3;", "r"(a), "r"(b), "r"(c))
    H2("fma.rn.relu.f16x2 %0, %1, %2, %3;", "r"(a), "r"(b), "r"(c))
    H2("mul.ftz.f16x2 %0, %1, %2;", "r"(a), "r"(b))
    H2("min.f16x2 %0, %1, %2;", "r"(a), "r"(b))
    H2("max.NaN.f16x2 %0, %1, %2;", "r"(a), "r"(b))
    H2("neg.f16x2 %0, %1;", "r"(a))
    H2("abs.f16x2 %0, %1;", "r"(a))
    H2("set.gt.f16x2.f16x2 %0, %1, %2;", "r"(a), "r"(b))
    H2("cvt.rn.f16x2.f32 %0, %1, %2;", "f"(f), "f"(g))
    H2("cvt.rz.f16x2.f32 %0, %1, %2;", "f"(f), "f"(g))
    H2("cvt.rn.relu.f16x2.f32 %0, %1, %2;", "f"(f), "f"(g))
    B2("fma.rn.bf16x2 %0, %1, %2, %3;", "r"(a), "r"(b), "r"(c))
    B2("fma.rn.relu.bf16x2 %0, %1, %2, %3;", "r"(a), "r"(b), "r"(c))
    B2("min.bf16x2 %0, %1, %2;", "r"(a), "r"(b))
    B2("max.NaN.bf16x2 %0, %1, %2;", "r"(a), "r"(b))
    B2("neg.bf16x2 %0, %1;", "r"(a))
    B2("abs.bf16x2 %0, %1;", "r"(b))
    B2("cvt.rn.bf16x2.f32 %0, %1, %2;", "f"(f), "f"(g))
    B2("cvt.rz.bf16x2.f32 %0, %1, %2;", "f"(f), "f"(g))
    B2("cvt.rn.relu.bf16x2.f32 %0, %1, %2;", "f"(f), "f"(g))
    U("set.leu.u32.f16x2 %0, %1, %2;", "r"(a), "r"(b))
    U("{ .reg .pred p, q; setp.lt.f16x2 p|q, %1, %2; selp.u32 %0, 2, 0, p; @q add.u32 %0, %0, 1; }", "r"(a), "r"(b))
    unsigned short h = (unsigned short)a, k = (unsigned short)b, m = (unsigned short)c;
    H("add.sat.f16 %0, %1, %2;", "h"(h), "h"(k))
    H("fma.rn.f16 %0, %1, %2, %3;", "h"(h), "h"(k), "h"(m))
    H("max.f16 %0, %1, %2;", "h"(h), "h"(k))
    H("cvt.rn.f16.f32 %0, %1;", "f"(f))
    H("cvt.rz.f16.f32 %0, %1;", "f"(f))
    H("cvt.rmi.f16.f16 %0, %1;", "h"(h))
    H("cvt.rn.f16.u16 %0, %1;", "h"(h))
    H("{ .reg .f32 t; cvt.f32.f16 t, %1; mul.f32 t, t, 0f3F000000; cvt.rn.f16.f32 %0, t; }", "h"(h))
    H("{ .reg .f64 t; cvt.f64.f16 t, %1; cvt.rn.f16.f64 %0, t; }", "h"(h))
    B("fma.rn.bf16 %0, %1, %2, %3;", "h"(h), "h"(k), "h"(m))
    B("cvt.rn.bf16.f32 %0, %1;", "f"(f))
    B("cvt.rz.bf16.f32 %0, %1;", "f"(f))
    B("{ .reg .f32 t; mov.b32 t, {0, %1}; cvt.rn.bf16.f32 %0, t; }", "h"(h))
    S("cvt.rni.s16.f16 %0, %1;", "h"(h))
    S("cvt.rzi.u16.f16 %0, %1;", "h"(h))
    S("{ .reg .pred p; setp.geu.f16 p, %1, %2; selp.b16 %0, 1, 0, p; }", "h"(h), "h"(k))
    asm volatile("cvt.rna.tf32.f32 %0, %1;" : "=r"(((unsigned *)tf32)[i]) : "f"(f));
}
