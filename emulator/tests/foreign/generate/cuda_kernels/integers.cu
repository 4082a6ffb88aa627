// 32-bit integer instructions, each result in a row of its own.
#define ROW(expression) (y[(row++) * n + i] = (unsigned)(expression))
#define ASM2(text, a, b) ({ unsigned r_; asm volatile(text : "=r"(r_) : "r"(a), "r"(b)); r_; })
#define ASM3(text, a, b, c) ({ unsigned r_; asm volatile(text : "=r"(r_) : "r"(a), "r"(b), "r"(c)); r_; })

extern "C" __global__ void integers(const unsigned *pa, const unsigned *pb, const unsigned *pc, unsigned *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, row = 0;
    if (i >= n) return;
    unsigned a = pa[i], b = pb[i], c = pc[i];
    int sa = (int)a, sb = (int)b, sc = (int)c;
    ROW(a + b * c);
    ROW(__umulhi(a, b));
    ROW(__mulhi(sa, sb));
    ROW(b ? a / b : 0);
    ROW(b ? a % b : 0);
    ROW(b ? ASM2("div.s32 %0, %1, %2;", b == ~0u ? 5 : a, b) : 0);
    ROW(b ? ASM2("rem.s32 %0, %1, %2;", b == ~0u ? 5 : a, b) : 0);
    ROW(ASM2("shl.b32 %0, %1, %2;", a, c & 63));  // amounts over 31 clamp
    ROW(ASM2("shr.u32 %0, %1, %2;", a, c & 63));
    ROW(ASM2("shr.s32 %0, %1, %2;", a, c & 63));
    ROW(ASM3("shf.l.clamp.b32 %0, %1, %2, %3;", a, b, c & 63));
    ROW(ASM3("shf.r.clamp.b32 %0, %1, %2, %3;", a, b, c & 63));
    ROW(ASM3("shf.l.wrap.b32 %0, %1, %2, %3;", a, b, c));
    ROW(ASM3("shf.r.wrap.b32 %0, %1, %2, %3;", a, b, c));
    ROW(__sad(sa, sb, c));
    ROW(__usad(a, b, c));
    ROW(ASM2("add.sat.s32 %0, %1, %2;", a, b));
    ROW(ASM2("sub.sat.s32 %0, %1, %2;", a, b));
    ROW(ASM3("mad.hi.sat.s32 %0, %1, %2, %3;", a, b, c));
    ROW(ASM3("mad.hi.u32 %0, %1, %2, %3;", a, b, c));
    ROW(ASM2("mul24.lo.s32 %0, %1, %2;", a, b));
    ROW(ASM2("mul24.hi.u32 %0, %1, %2;", a, b));
    ROW(ASM3("mad24.lo.u32 %0, %1, %2, %3;", a, b, c));
    ROW(abs(sa));
    ROW(-sb);
    ROW(min(sa, sb));
    ROW(max(a, b));
    ROW(min(max(sa, -100), 100));
    ROW(sa < sb ? c : ~c);
    ROW(ASM3("slct.u32.s32 %0, %1, %2, %3;", a, b, c));
    ROW(ASM3("{ .reg .pred p; setp.hi.u32 p, %1, %2; @p mov.u32 %0, %3; @!p mov.u32 %0, 7; }", a, b, c));
    ROW(ASM3("{ .reg .pred p, q, r; .reg .u32 t; setp.gt.s32 r, %3, 9; setp.lt.and.s32 p|q, %1, %2, !r; selp.u32 t, 5, 7, q; selp.u32 %0, 3, t, p; }", a, b, c));
    ROW(ASM2("set.ge.u32.s32 %0, %1, %2;", a, b));
    ROW(ASM2("{ .reg .f32 f; set.ne.f32.u32 f, %1, %2; mov.b32 %0, f; }", a, b));
    ROW(ASM2("cnot.b32 %0, %1; // %2", a & (b & 1 ? ~0u : 0u), b));
    ROW(__dp4a(sa, sb, sc));
    ROW(__dp4a(a, b, c));
    ROW(__dp2a_lo(sa, sb, sc));
    ROW(__dp2a_hi(a, b, c));
    ROW(ASM3("dp4a.s32.u32 %0, %1, %2, %3;", a, b, c));
    ROW(ASM2("{ .reg .b16 l, h; mov.b32 {l, h}, %1; mul.wide.s16 %0, l, h; // %2\n}", a, b));
    ROW(ASM2("{ .reg .u16 l, h; mov.b32 {l, h}, %1; mul.hi.u16 l, l, h; shr.u16 h, h, 20; mov.b32 %0, {l, h}; // %2\n}", a, b));
    ROW(ASM2("{ .reg .s16 l, h; .reg .b16 t; mov.b32 {l, h}, %1; div.s16 l, l, 7; rem.s16 h, h, 11; mov.b32 %0, {l, h}; // %2\n}", a, b));
    // Carries across three words.
    unsigned r0, r1, r2;
    asm volatile("add.cc.u32 %0, %3, %4; addc.cc.u32 %1, %5, %5; addc.u32 %2, %4, 0;" : "=&r"(r0), "=&r"(r1), "=&r"(r2) : "r"(a), "r"(b), "r"(c));
    ROW(r0 ^ r1 * 3 ^ r2 * 5);
    asm volatile("sub.cc.u32 %0, %3, %4; subc.cc.u32 %1, %5, %4; subc.u32 %2, 0, 0;" : "=&r"(r0), "=&r"(r1), "=&r"(r2) : "r"(a), "r"(b), "r"(c));
    ROW(r0 ^ r1 * 3 ^ r2 * 5);
    asm volatile("mad.lo.cc.u32 %0, %3, %4, %5; madc.hi.cc.u32 %1, %3, %4, %5; madc.lo.u32 %2, %3, %5, %4;" : "=&r"(r0), "=&r"(r1), "=&r"(r2) : "r"(a), "r"(b), "r"(c));
    ROW(r0 ^ r1 * 3 ^ r2 * 5);
    // Signed division by constants and powers of two, which the compiler turns into multiplications.
    ROW(sa / 10 + sa % 7 * 100);
    ROW(a / 1000003u);
    ROW(sa / 16);
    ROW(sa % -13);
    ROW(__vabsdiffu4(a, b));
    ROW(__vadd2(a, b));
    ROW(__vmaxs2(a, b));
    ROW(__vcmpgtu4(a, b));
    ROW(__vavgs2(a, b));
}
