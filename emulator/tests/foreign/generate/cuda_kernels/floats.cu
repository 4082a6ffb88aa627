// Single precision, bit by bit: roundings, subnormals, saturation, NaN and signed zeros.
#define ROW(expression) (y[(row++) * n + i] = (expression))
#define ASM1(text, a) ({ float r_; asm volatile(text : "=f"(r_) : "f"(a)); r_; })
#define ASM2(text, a, b) ({ float r_; asm volatile(text : "=f"(r_) : "f"(a), "f"(b)); r_; })
#define ASM3(text, a, b, c) ({ float r_; asm volatile(text : "=f"(r_) : "f"(a), "f"(b), "f"(c)); r_; })

extern "C" __global__ void floats(const float *pa, const float *pb, const float *pc, float *y, unsigned *z, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, row = 0;
    if (i >= n) return;
    float a = pa[i], b = pb[i], c = pc[i];
    ROW(__fadd_rn(a, b));
    ROW(__fadd_rz(a, b));
    ROW(__fadd_rd(a, b));
    ROW(__fadd_ru(a, b));
    ROW(__fsub_rn(a, b));
    ROW(__fmul_rn(a, b));
    ROW(__fmul_rz(a, b));
    ROW(__fmul_rd(a, b));
    ROW(__fmul_ru(a, b));
    ROW(__fmaf_rn(a, b, c));
    ROW(__fmaf_rz(a, b, c));
    ROW(__fmaf_rd(a, b, c));
    ROW(__fmaf_ru(a, b, c));
    ROW(__fdiv_rn(a, b));
    ROW(__fdiv_rz(a, b));
    ROW(__fdiv_ru(a, b));
    ROW(__frcp_rn(a));
    ROW(__frcp_rd(a));
    ROW(__fsqrt_rn(a));
    ROW(__fsqrt_rz(a));
    ROW(__fsqrt_ru(a));
    ROW(ASM2("add.ftz.f32 %0, %1, %2;", a, b));
    ROW(ASM2("mul.ftz.f32 %0, %1, %2;", a, b));
    ROW(ASM3("fma.rn.ftz.f32 %0, %1, %2, %3;", a, b, c));
    ROW(ASM2("add.sat.f32 %0, %1, %2;", a, b));
    ROW(ASM2("mul.rz.sat.f32 %0, %1, %2;", a, b));
    ROW(ASM3("fma.rn.sat.f32 %0, %1, %2, %3;", a, b, c));
    ROW(ASM2("min.f32 %0, %1, %2;", a, b));
    ROW(ASM2("max.f32 %0, %1, %2;", a, b));
    ROW(ASM2("min.NaN.f32 %0, %1, %2;", a, b));
    ROW(ASM2("max.ftz.NaN.f32 %0, %1, %2;", a, b));
    ROW(ASM1("abs.f32 %0, %1;", a));
    ROW(ASM1("neg.ftz.f32 %0, %1;", a));
    ROW(ASM2("copysign.f32 %0, %1, %2;", a, b));
    ROW(ASM3("slct.f32.f32 %0, %1, %2, %3;", a, b, c));
    ROW(ASM1("cvt.rni.f32.f32 %0, %1;", a));
    ROW(ASM1("cvt.rzi.f32.f32 %0, %1;", a));
    ROW(ASM1("cvt.rmi.f32.f32 %0, %1;", a));
    ROW(ASM1("cvt.rpi.ftz.sat.f32.f32 %0, %1;", a));
    ROW(ASM1("rcp.rn.ftz.f32 %0, %1;", a));
    ROW(nextafterf(a, b));
    ROW(fmodf(b, a));
    ROW(remainderf(b, c));
    ROW(fdimf(a, b));
    ROW(ldexpf(a, 5 - i % 11));
    row = 0;
#define BITS(text, ...) { unsigned r_; asm volatile("{ .reg .pred p, q; " text " selp.u32 %0, 1, 0, p; }" : "=r"(r_) : __VA_ARGS__); z[(row++) * n + i] = r_; }
    BITS("testp.finite.f32 p, %1;", "f"(a))
    BITS("testp.infinite.f32 p, %1;", "f"(a))
    BITS("testp.number.f32 p, %1;", "f"(a))
    BITS("testp.notanumber.f32 p, %1;", "f"(a))
    BITS("testp.normal.f32 p, %1;", "f"(a))
    BITS("testp.subnormal.f32 p, %1;", "f"(a))
    BITS("setp.lt.f32 p, %1, %2;", "f"(a), "f"(b))
    BITS("setp.ltu.f32 p, %1, %2;", "f"(a), "f"(b))
    BITS("setp.ne.f32 p, %1, %2;", "f"(a), "f"(b))
    BITS("setp.neu.f32 p, %1, %2;", "f"(a), "f"(b))
    BITS("setp.equ.f32 p, %1, %2;", "f"(a), "f"(b))
    BITS("setp.num.f32 p, %1, %2;", "f"(a), "f"(b))
    BITS("setp.nan.f32 p, %1, %2;", "f"(a), "f"(b))
    BITS("setp.eq.ftz.f32 p, %1, %2;", "f"(a), "f"(b))
    BITS("setp.geu.ftz.f32 p, %1, %2;", "f"(a), "f"(b))
    BITS("setp.gt.f32 q, %1, 0f3F800000; setp.le.or.f32 p, %1, %2, q;", "f"(a), "f"(b))
    BITS("setp.gt.f32 q, %1, 0f3F800000; setp.ge.xor.f32 p, %1, %2, q;", "f"(a), "f"(b))
}
