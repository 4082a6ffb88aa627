// Double precision, bit by bit.
#define ROW(expression) (y[(row++) * n + i] = (expression))
#define ASM1(text, a) ({ double r_; asm volatile(text : "=d"(r_) : "d"(a)); r_; })
#define ASM2(text, a, b) ({ double r_; asm volatile(text : "=d"(r_) : "d"(a), "d"(b)); r_; })

extern "C" __global__ void doubles(const double *pa, const double *pb, const double *pc, double *y, unsigned *z, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, row = 0;
    if (i >= n) return;
    double a = pa[i], b = pb[i], c = pc[i];
    ROW(__dadd_rn(a, b));
    ROW(__dadd_rz(a, b));
    ROW(__dadd_ru(a, b));
    ROW(__dmul_rd(a, b));
    ROW(__dmul_rn(a, b));
    ROW(__fma_rn(a, b, c));
    ROW(__fma_rz(a, b, c));
    ROW(__ddiv_rn(a, b));
    ROW(__ddiv_rd(a, b));
    ROW(__drcp_ru(a));
    ROW(__dsqrt_rn(a));
    ROW(__dsqrt_rz(a));
    ROW(fmin(a, b));
    ROW(fmax(a, b));
    ROW(copysign(a, b));
    ROW(ASM1("cvt.rmi.f64.f64 %0, %1;", a));
    ROW(ASM1("abs.f64 %0, %1;", a));
    ROW(ASM2("sub.rm.f64 %0, %1, %2;", a, b));
    ROW(__hiloint2double(__double2hiint(a), __double2loint(b)));
    ROW(ASM2("{ .reg .pred p; setp.ltu.f64 p, %1, %2; selp.f64 %0, %1, %2, p; }", a, b));
    unsigned r;
    asm volatile("{ .reg .pred p; testp.subnormal.f64 p, %1; selp.u32 %0, 1, 0, p; testp.normal.f64 p, %1; @p add.u32 %0, %0, 2; }" : "=r"(r) : "d"(a));
    z[i] = r;
}
