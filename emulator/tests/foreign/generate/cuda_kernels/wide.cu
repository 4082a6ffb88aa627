// 64- and 128-bit integers: products, carries, divisions, modular powers.
typedef unsigned long long u64;
typedef unsigned __int128 u128;

extern "C" __global__ void wide(const u64 *pa, const u64 *pb, u64 *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, row = 0;
    if (i >= n) return;
#define ROW(expression) (y[(row++) * n + i] = (u64)(expression))
    u64 a = pa[i], b = pb[i];
    long long sa = (long long)a, sb = (long long)b;
    ROW(a * b);
    ROW(__umul64hi(a, b));
    ROW(__mul64hi(sa, sb));
    ROW(b ? a / b : 0);
    ROW(b ? a % b : 0);
    ROW(sb && sb != -1 ? sa / sb : 0);
    ROW(sb && sb != -1 ? sa % sb : 0);
    u128 p = (u128)a * b + ((u128)b << 64 | a);
    ROW(p);
    ROW(p >> 64);
    u128 m = p - ((u128)1 << 127) - a;
    ROW(m >> 3);
    ROW(m >> 101);
    ROW((u64)(m << 77 >> 64));
    u64 power = 1, base = a % 0xffffffffull;
    for (u64 e = b & 0xffff; e; e >>= 1) {
        if (e & 1) power = power * base % 0xffffffffull;
        base = base * base % 0xffffffffull;
    }
    ROW(power);
    ROW((long long)(int)a * (int)b + sa);
    ROW((u64)(unsigned)a * (unsigned)b + b);
    ROW(sa < 0 ? -sa : sa);
    ROW(min(sa, sb) ^ max(a, b));
    long long r;
    asm volatile("sad.s64 %0, %1, %2, %3;" : "=l"(r) : "l"(sa), "l"(sb), "l"(sa));
    ROW(r);
    asm volatile("mad.hi.s64 %0, %1, %2, %3;" : "=l"(r) : "l"(sa), "l"(sb), "l"(sb));
    ROW(r);
    unsigned lo, hi;
    asm volatile("mov.b64 {%0, %1}, %2;" : "=r"(lo), "=r"(hi) : "l"(a));
    ROW((u64)lo << 32 | hi);
    asm volatile("add.cc.u64 %0, %2, %3; addc.u64 %1, %2, 0;" : "=&l"(power), "=&l"(base) : "l"(a), "l"(b));
    ROW(power ^ base * 3);
}
