// Instructions that few kernels use: exit, trap, cache policies, relaxed and acquire accesses of each scope, alloca,
// predicate results of lop3, 128-bit moves, vectors from constant memory.
#include <alloca.h>
typedef unsigned u32;
typedef unsigned long long u64;
__constant__ int4 table[4] = {{1, 2, 3, 4}, {5, 6, 7, 8}, {-1, -2, -3, -4}, {10, 20, 30, 40}};

__device__ __noinline__ int palindrome(int v, int n) {
    int *digits = (int *)alloca(n * sizeof(int));
    for (int i = 0; i < n; i++) digits[i] = v % 10, v /= 10;
    int score = 0;
    for (int i = 0; i < n / 2; i++) score += digits[i] == digits[n - 1 - i];
    return score;
}

extern "C" __global__ void odds_and_ends(const u32 *x, u32 *y, u64 *z, int n) {
    int t = threadIdx.x;
    if (t >= n) asm volatile("exit;");
    u32 v = x[t], r, row = 0;
    asm volatile("{ .reg .pred p; setp.eq.u32 p, %0, 0xdeadbeef; @p trap; @p bra gone; gone: }" ::"r"(v));
    u64 policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 0.5;" : "=l"(policy));
    asm volatile("ld.global.L2::cache_hint.u32 %0, [%1], %2;" : "=r"(r) : "l"(x + t), "l"(policy));
    y[row++ * n + t] = r + 1;
    asm volatile("st.global.relaxed.gpu.u32 [%0], %1;" ::"l"(y + row * n + t), "r"(v * 3) : "memory");
    asm volatile("fence.sc.gpu;" ::: "memory");
    asm volatile("membar.cta;" ::: "memory");
    asm volatile("fence.acq_rel.sys;" ::: "memory");
    asm volatile("ld.global.acquire.gpu.u32 %0, [%1];" : "=r"(r) : "l"(y + row * n + t) : "memory");
    row++;
    y[row++ * n + t] = r + 7;
    y[row++ * n + t] = palindrome(v % 1000000, 2 + t % 5);
    int4 c = table[v & 3];
    y[row++ * n + t] = c.x + c.y * 2 + c.z * 3 + c.w * 4;
    asm volatile("{ .reg .pred p, q; setp.gt.u32 q, %1, 1000; lop3.or.b32 %0|p, %1, %2, %3, 0x80, q; @p add.u32 %0, %0, 1; }"
                 : "=r"(r) : "r"(v), "r"(v >> 3), "r"(0xff00ffu));
    y[row++ * n + t] = r;
    asm volatile("{ .reg .b16 a, b; .reg .b8 d; mov.b32 {a, b}, %1; mul.wide.u16 %0, a, b; }" : "=r"(r) : "r"(v));
    y[row++ * n + t] = r;
    asm volatile("{ .reg .b8 a, b, c, d; mov.b32 {a, b, c, d}, %1; mov.b32 %0, {d, b, a, c}; }" : "=r"(r) : "r"(v));
    y[row++ * n + t] = r;
    asm volatile("{ .reg .u32 u<3>; mov.u32 u0, %1; not.b32 u1, u0; sub.u32 u2, u1, 5; mov.u32 %0, u2; }" : "=r"(r) : "r"(v));
    y[row++ * n + t] = r;
    asm volatile("nanosleep.u32 100;");
    asm volatile("prefetchu.L1 [%0];" ::"l"(x + t));
    u64 low = v * 0x100000001ull, high = ~low, a, b;
    asm volatile("{ .reg .b128 w; mov.b128 w, {%2, %3}; mov.b128 {%1, %0}, w; }" : "=l"(a), "=l"(b) : "l"(low), "l"(high));
    z[t] = a * 3 + b;
    asm volatile("atom.global.exch.b64 %0, [%1], %2;" : "=l"(a) : "l"(z + n + t), "l"(low) : "memory");
    z[2 * n + t] = a;
}
