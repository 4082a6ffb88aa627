// mma.sync of f16, bf16, tf32 and f64 in every shape of sm_80; fragments gathered element by element as the manual lays them out.
#include <cuda_fp16.h>
#include <cuda_bf16.h>
typedef unsigned u32;
#define G (lane >> 2)
#define T (lane & 3)

template <class E> __device__ u32 pair(E low, E high) {
    return (u32)*(unsigned short *)&low | (u32)*(unsigned short *)&high << 16;
}
__device__ u32 word(const float &x) { return __float_as_uint(x); }

// a: 16 x k, b: k x 8, both row-major.
template <class E> struct Fragments {
    u32 a[4], b[2];
    __device__ Fragments(const E *pa, const E *pb, int k, int lane) {
        for (int r = 0; r < k / 4; r++) {
            int row = G + (r & 1) * 8, col = T * 2 + (r >> 1) * 8;
            a[r] = pair(pa[row * k + col], pa[row * k + col + 1]);
        }
        for (int r = 0; r < k / 8; r++) {
            int row = T * 2 + r * 8;
            b[r] = pair(pb[row * 8 + G], pb[(row + 1) * 8 + G]);
        }
    }
};

__device__ void load(float *c, const float *p, int lane) {
    for (int i = 0; i < 4; i++) c[i] = p[(G + i / 2 * 8) * 8 + T * 2 + i % 2];
}
__device__ void store(const float *c, float *p, int lane) {
    for (int i = 0; i < 4; i++) p[(G + i / 2 * 8) * 8 + T * 2 + i % 2] = c[i];
}
#define D4 "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
#define C4 "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3])

extern "C" __global__ void mma_float(const __half *ah, const __half *bh, const __nv_bfloat16 *ab, const __nv_bfloat16 *bb, const float *at,
                                     const float *bt, const double *ad, const double *bd, const float *pc, float *out, double *outd) {
    int lane = threadIdx.x;
    float c[4], d[4];
    load(c, pc, lane);
    {
        Fragments<__half> f(ah, bh, 16, lane);
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
                     : D4 : "r"(f.a[0]), "r"(f.a[1]), "r"(f.a[2]), "r"(f.a[3]), "r"(f.b[0]), "r"(f.b[1]), C4);
        store(d, out, lane);
        u32 h0 = pair(__float2half(c[0]), __float2half(c[1])), h1 = pair(__float2half(c[2]), __float2half(c[3])), r0, r1;
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%8,%9};"
                     : "=r"(r0), "=r"(r1) : "r"(f.a[0]), "r"(f.a[1]), "r"(f.a[2]), "r"(f.a[3]), "r"(f.b[0]), "r"(f.b[1]), "r"(h0), "r"(h1));
        d[0] = __low2float(*(__half2 *)&r0), d[1] = __high2float(*(__half2 *)&r0);
        d[2] = __low2float(*(__half2 *)&r1), d[3] = __high2float(*(__half2 *)&r1);
        store(d, out + 128, lane);
    }
    {
        Fragments<__half> f(ah, bh, 8, lane);
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%8,%9,%10};"
                     : D4 : "r"(f.a[0]), "r"(f.a[1]), "r"(f.b[0]), C4);
        store(d, out + 256, lane);
        u32 h0 = pair(__float2half(c[0]), __float2half(c[1])), h1 = pair(__float2half(c[2]), __float2half(c[3])), r0, r1;
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3}, {%4}, {%5,%6};"
                     : "=r"(r0), "=r"(r1) : "r"(f.a[0]), "r"(f.a[1]), "r"(f.b[0]), "r"(h0), "r"(h1));
        d[0] = __low2float(*(__half2 *)&r0), d[1] = __high2float(*(__half2 *)&r0);
        d[2] = __low2float(*(__half2 *)&r1), d[3] = __high2float(*(__half2 *)&r1);
        store(d, out + 384, lane);
    }
    {
        Fragments<__nv_bfloat16> f(ab, bb, 16, lane);
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
                     : D4 : "r"(f.a[0]), "r"(f.a[1]), "r"(f.a[2]), "r"(f.a[3]), "r"(f.b[0]), "r"(f.b[1]), C4);
        store(d, out + 512, lane);
    }
    {
        Fragments<__nv_bfloat16> f(ab, bb, 8, lane);
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%8,%9,%10};"
                     : D4 : "r"(f.a[0]), "r"(f.a[1]), "r"(f.b[0]), C4);
        store(d, out + 640, lane);
    }
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
                 : D4 : "r"(word(at[G * 8 + T])), "r"(word(at[(G + 8) * 8 + T])), "r"(word(at[G * 8 + T + 4])), "r"(word(at[(G + 8) * 8 + T + 4])),
                   "r"(word(bt[T * 8 + G])), "r"(word(bt[(T + 4) * 8 + G])), C4);
    store(d, out + 768, lane);
    asm volatile("mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%8,%9,%10};"
                 : D4 : "r"(word(at[G * 4 + T])), "r"(word(at[(G + 8) * 4 + T])), "r"(word(bt[T * 8 + G])), C4);
    store(d, out + 896, lane);
    double e0, e1;
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%4,%5};"
                 : "=d"(e0), "=d"(e1) : "d"(ad[G * 4 + T]), "d"(bd[T * 8 + G]), "d"((double)c[0]), "d"((double)c[1]));
    outd[G * 8 + T * 2] = e0;
    outd[G * 8 + T * 2 + 1] = e1;
}
