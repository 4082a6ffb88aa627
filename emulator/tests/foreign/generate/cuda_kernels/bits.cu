// Bit fields, permutations, counts and searches.
#define ROW(expression) (y[(row++) * n + i] = (unsigned)(expression))
#define ASM1(text, a) ({ unsigned r_; asm volatile(text : "=r"(r_) : "r"(a)); r_; })
#define ASM2(text, a, b) ({ unsigned r_; asm volatile(text : "=r"(r_) : "r"(a), "r"(b)); r_; })
#define ASM3(text, a, b, c) ({ unsigned r_; asm volatile(text : "=r"(r_) : "r"(a), "r"(b), "r"(c)); r_; })
#define ASM4(text, a, b, c, d) ({ unsigned r_; asm volatile(text : "=r"(r_) : "r"(a), "r"(b), "r"(c), "r"(d)); r_; })

extern "C" __global__ void bits(const unsigned *pa, const unsigned *pb, const unsigned *pc, const unsigned long long *pw,
                                unsigned *y, unsigned long long *z, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, row = 0;
    if (i >= n) return;
    unsigned a = pa[i], b = pb[i], c = pc[i];
    unsigned long long w = pw[i];
    ROW(__popc(a));
    ROW(__clz(a));
    ROW(__brev(a));
    ROW(__ffs(a));
    ROW(ASM1("bfind.u32 %0, %1;", a));
    ROW(ASM1("bfind.s32 %0, %1;", a));
    ROW(ASM1("bfind.shiftamt.u32 %0, %1;", a));
    ROW(ASM1("bfind.shiftamt.s32 %0, %1;", a));
    ROW(ASM3("bfe.u32 %0, %1, %2, %3;", a, b & 63, c & 63));
    ROW(ASM3("bfe.s32 %0, %1, %2, %3;", a, b & 63, c & 63));
    ROW(ASM4("bfi.b32 %0, %1, %2, %3, %4;", a, b, b & 63, c & 63));
    ROW(ASM3("prmt.b32 %0, %1, %2, %3;", a, b, c));  // bit 3 of a selector repeats the sign
    ROW(ASM3("prmt.b32.f4e %0, %1, %2, %3;", a, b, c));
    ROW(ASM3("prmt.b32.b4e %0, %1, %2, %3;", a, b, c));
    ROW(ASM3("prmt.b32.rc8 %0, %1, %2, %3;", a, b, c));
    ROW(ASM3("prmt.b32.ecl %0, %1, %2, %3;", a, b, c));
    ROW(ASM3("prmt.b32.ecr %0, %1, %2, %3;", a, b, c));
    ROW(ASM3("prmt.b32.rc16 %0, %1, %2, %3;", a, b, c));
    ROW(ASM3("lop3.b32 %0, %1, %2, %3, 0xe8;", a, b, c));
    ROW(ASM3("lop3.b32 %0, %1, %2, %3, 0x1b;", a, b, c));
    ROW((a & b) | (~a & c));
    ROW(__fns(a, b & 31, (int)(c % 9) - 4));
    ROW(ASM2("bmsk.clamp.b32 %0, %1, %2;", b & 63, c & 63));
    ROW(ASM2("bmsk.wrap.b32 %0, %1, %2;", b, c));
    ROW(ASM2("szext.clamp.s32 %0, %1, %2;", a, c & 63));
    ROW(ASM2("szext.wrap.u32 %0, %1, %2;", a, c));
    ROW(__byte_perm(a, b, 0x3715));
    ROW(__popcll(w));
    ROW(__clzll(w));
    ROW(__ffsll(w));
    ROW(ASM1("{ .reg .pred p; setp.ne.u32 p, %1, 0; selp.u32 %0, 3, 4, p; }", a & 1));
    row = 0;
#define WIDE(expression) (z[(row++) * n + i] = (expression))
    unsigned long long r;
    WIDE(__brevll(w));
    asm volatile("bfe.u64 %0, %1, %2, %3;" : "=l"(r) : "l"(w), "r"(b & 127), "r"(c & 127));
    WIDE(r);
    asm volatile("bfe.s64 %0, %1, %2, %3;" : "=l"(r) : "l"(w), "r"(b & 63), "r"(c & 63));
    WIDE(r);
    asm volatile("bfi.b64 %0, %1, %2, %3, %4;" : "=l"(r) : "l"(w), "l"(~w * 3), "r"(b & 127), "r"(c & 127));
    WIDE(r);
    asm volatile("shl.b64 %0, %1, %2;" : "=l"(r) : "l"(w), "r"(b & 127));
    WIDE(r);
    asm volatile("shr.s64 %0, %1, %2;" : "=l"(r) : "l"(w), "r"(b & 127));
    WIDE(r);
}
