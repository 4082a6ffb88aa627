// mma.sync of 8-, 4- and 1-bit integers in every shape of sm_80; one element a byte in memory.
typedef unsigned u32;
typedef unsigned char u8;
#define G (lane >> 2)
#define T (lane & 3)

// A register of `bits`-bit elements: `32 / bits` neighbours along k.
template <int bits> __device__ u32 along(const u8 *p, int stride) {
    u32 r = 0;
    for (int i = 0; i < 32 / bits; i++) r |= (u32)(p[i * stride] & ((1 << bits) - 1)) << i * bits;
    return r;
}

// a: m x k, b: k x 8, row-major. Register r of a: rows G or G + 8, the upper half of k last.
template <int bits, int m, int k> struct Fragments {
    static constexpr int per = 32 / bits, na = m / 8 * k / (4 * per), nb = k / (4 * per);
    u32 a[4], b[2];
    __device__ Fragments(const u8 *pa, const u8 *pb, int lane) {
        for (int r = 0; r < na; r++) {
            int row = m == 16 ? G + (r & 1) * 8 : G, col = T * per + (m == 16 ? r >> 1 : r) * 4 * per;
            a[r] = along<bits>(pa + row * k + col, 1);
        }
        for (int r = 0; r < nb; r++) b[r] = along<bits>(pb + (T * per + r * 4 * per) * 8 + G, 8);
    }
};

#define STORE4(at) for (int i = 0; i < 4; i++) out[(at) * 128 + (G + i / 2 * 8) * 8 + T * 2 + i % 2] = d[i];
#define STORE2(at) for (int i = 0; i < 2; i++) out[(at) * 128 + G * 8 + T * 2 + i] = d[i];
#define D4 "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
#define C4 "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3])
#define MMA422(at, bits, k, text) { Fragments<bits, 16, k> f(a, b, lane); \
    asm volatile("mma.sync.aligned.m16n8k" #k ".row.col." text " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};" \
                 : D4 : "r"(f.a[0]), "r"(f.a[1]), "r"(f.a[2]), "r"(f.a[3]), "r"(f.b[0]), "r"(f.b[1]), C4); STORE4(at) }
#define MMA421(at, bits, k, text) { Fragments<bits, 16, k> f(a, b, lane); \
    asm volatile("mma.sync.aligned.m16n8k" #k ".row.col." text " {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%8,%9,%10};" \
                 : D4 : "r"(f.a[0]), "r"(f.a[1]), "r"(f.b[0]), C4); STORE4(at) }
#define MMA211(at, bits, k, text) { Fragments<bits, 8, k> f(a, b, lane); \
    asm volatile("mma.sync.aligned.m8n8k" #k ".row.col." text " {%0,%1}, {%2}, {%3}, {%4,%5};" \
                 : "=r"(d[0]), "=r"(d[1]) : "r"(f.a[0]), "r"(f.b[0]), "r"(c[0]), "r"(c[1])); STORE2(at) }

extern "C" __global__ void mma_integer(const u8 *a, const u8 *b, const int *pc, int *out) {
    int lane = threadIdx.x, c[4], d[4];
    for (int i = 0; i < 4; i++) c[i] = pc[(G + i / 2 * 8) * 8 + T * 2 + i % 2];
    MMA422(0, 8, 32, "s32.s8.s8.s32")
    MMA422(1, 8, 32, "s32.u8.s8.s32")
    MMA421(2, 8, 16, "s32.u8.u8.s32")
    MMA421(3, 8, 16, "s32.s8.u8.s32")
    MMA211(4, 8, 16, "s32.s8.s8.s32")
    MMA422(5, 4, 64, "s32.s4.s4.s32")
    MMA421(6, 4, 32, "s32.u4.s4.s32")
    MMA211(7, 4, 32, "s32.u4.u4.s32")
    MMA422(8, 1, 256, "s32.b1.b1.s32.xor.popc")
    MMA421(9, 1, 128, "s32.b1.b1.s32.and.popc")
    MMA211(10, 1, 128, "s32.b1.b1.s32.xor.popc")
    // Saturation: the start is as large as can be.
    for (int i = 0; i < 4; i++) c[i] = c[i] > 0 ? 2147483600 : -2147483600;
    MMA422(11, 8, 32, "satfinite.s32.s8.s8.s32")
}
