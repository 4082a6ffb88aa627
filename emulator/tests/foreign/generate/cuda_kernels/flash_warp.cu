// Attention by hand: cp.async of keys and values, ldmatrix with and without .trans, mma.sync on bf16, softmax across quads by shuffles.
#include <cuda_bf16.h>
#include <cuda_pipeline.h>
typedef unsigned u32;

__device__ u32 address(const void *p) { return (u32)__cvta_generic_to_shared(p); }
__device__ void load4(u32 (&r)[4], const void *p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address(p)));
}
__device__ void load4t(u32 (&r)[4], const void *p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address(p)));
}
__device__ void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ u32 pack(float low, float high) {
    __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return *(u32 *)&v;
}

// 64 queries by four warps, tiles of 32 keys, 64 columns, causal.
extern "C" __global__ void flash_warp(const __nv_bfloat16 *q, const __nv_bfloat16 *k, const __nv_bfloat16 *v, float *o, float scale, int T) {
    constexpr int D = 64, LD = D + 8, B = 32;
    __shared__ __align__(16) __nv_bfloat16 qs[64 * LD], ks[2][B * LD], vs[2][B * LD];
    int t = threadIdx.x, warp = t / 32, lane = t % 32, first = blockIdx.x * 64;
    auto copy = [&](__nv_bfloat16 *to, const __nv_bfloat16 *from, int rows) {
        for (int c = t; c < rows * D / 8; c += 128) __pipeline_memcpy_async(&to[c / 8 * LD + c % 8 * 8], &from[c / 8 * D + c % 8 * 8], 16);
    };
    copy(qs, q + first * D, 64);
    copy(ks[0], k, B);
    copy(vs[0], v, B);
    __pipeline_commit();
    float acc[8][4] = {}, m[2] = {-1e30f, -1e30f}, l[2] = {};
    int tiles = (first + 64) / B;
    for (int j = 0; j < tiles; j++) {
        if (j + 1 < tiles) {
            copy(ks[(j + 1) & 1], k + (j + 1) * B * D, B);
            copy(vs[(j + 1) & 1], v + (j + 1) * B * D, B);
        }
        __pipeline_commit();
        __pipeline_wait_prior(1);
        __syncthreads();
        float s[4][4] = {};
        for (int c = 0; c < D / 16; c++) {
            u32 a[4];
            load4(a, &qs[(warp * 16 + lane % 16) * LD + c * 16 + lane / 16 * 8]);
            for (int n = 0; n < 2; n++) {
                u32 b[4];
                load4(b, &ks[j & 1][(n * 16 + lane % 8 + lane / 16 * 8) * LD + c * 16 + lane / 8 % 2 * 8]);
                mma(s[2 * n], a, b[0], b[1]);
                mma(s[2 * n + 1], a, b[2], b[3]);
            }
        }
        for (int h = 0; h < 2; h++) {
            int row = first + warp * 16 + lane / 4 + h * 8;
            float high = m[h];
            for (int n = 0; n < 4; n++)
                for (int e = 0; e < 2; e++) {
                    float &value = s[n][2 * h + e];
                    value = j * B + n * 8 + lane % 4 * 2 + e <= row ? value * scale : -1e30f;
                    high = fmaxf(high, value);
                }
            high = fmaxf(high, __shfl_xor_sync(~0u, high, 1));
            high = fmaxf(high, __shfl_xor_sync(~0u, high, 2));
            float keep = exp2f(m[h] - high), sum = 0;
            for (int n = 0; n < 4; n++)
                for (int e = 0; e < 2; e++) sum += s[n][2 * h + e] = exp2f(s[n][2 * h + e] - high);
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            l[h] = l[h] * keep + sum;
            m[h] = high;
            for (int n = 0; n < 8; n++) acc[n][2 * h] *= keep, acc[n][2 * h + 1] *= keep;
        }
        for (int c = 0; c < 2; c++) {
            u32 a[4] = {pack(s[2 * c][0], s[2 * c][1]), pack(s[2 * c][2], s[2 * c][3]), pack(s[2 * c + 1][0], s[2 * c + 1][1]), pack(s[2 * c + 1][2], s[2 * c + 1][3])};
            for (int n = 0; n < 4; n++) {
                u32 b[4];
                load4t(b, &vs[j & 1][(c * 16 + lane % 16) * LD + n * 16 + lane / 16 * 8]);
                mma(acc[2 * n], a, b[0], b[1]);
                mma(acc[2 * n + 1], a, b[2], b[3]);
            }
        }
        __syncthreads();
    }
    for (int n = 0; n < 8; n++)
        for (int e = 0; e < 4; e++) o[(first + warp * 16 + lane / 4 + e / 2 * 8) * D + n * 8 + lane % 4 * 2 + e % 2] = acc[n][e] / l[e / 2];
}
