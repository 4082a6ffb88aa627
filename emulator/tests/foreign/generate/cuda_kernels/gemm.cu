// A product by hand: cp.async into three swizzled slots, ldmatrix, mma, 64 x 64 tile, four warps. B is k x n, read with .trans.
#include <cuda_bf16.h>
typedef unsigned u32;

__device__ __forceinline__ u32 address(const void *p) { return (u32)__cvta_generic_to_shared(p); }

extern "C" __global__ void __launch_bounds__(128) gemm(const __nv_bfloat16 *a, const __nv_bfloat16 *b, float *c, int n, int k) {
    __shared__ __align__(128) __nv_bfloat16 sa[3][64 * 32], sb[3][32 * 64];
    int t = threadIdx.x, lane = t & 31, warp = t >> 5, wm = warp >> 1 << 5, wn = (warp & 1) << 5;
    const __nv_bfloat16 *ga = a + blockIdx.y * 64 * k, *gb = b + blockIdx.x * 64;
    auto copy = [&](int step) {
        int s = step % 3;
        for (int j = 0; j < 2; j++) {
            int i = t + j * 128;
            int row = i >> 2, q = i & 3;
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address(&sa[s][row * 32 + (q ^ (row >> 1 & 3)) * 8])),
                         "l"(ga + row * k + step * 32 + q * 8) : "memory");
            row = i >> 3, q = i & 7;
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address(&sb[s][row * 64 + (q ^ (row & 7)) * 8])),
                         "l"(gb + (step * 32 + row) * n + q * 8) : "memory");
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };
    float acc[2][4][4] = {};
    int steps = k / 32;
    copy(0);
    copy(1);
    for (int step = 0; step < steps; step++) {
        asm volatile("cp.async.wait_group 1;" ::: "memory");
        __syncthreads();
        if (step + 2 < steps) copy(step + 2);
        else asm volatile("cp.async.commit_group;" ::: "memory");
        const __nv_bfloat16 *ta = sa[step % 3], *tb = sb[step % 3];
        for (int kk = 0; kk < 32; kk += 16) {
            u32 fa[2][4], fb[2][4];
            for (int i = 0; i < 2; i++) {
                int row = wm + i * 16 + (lane & 15), q = kk / 8 + (lane >> 4);
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                             : "=r"(fa[i][0]), "=r"(fa[i][1]), "=r"(fa[i][2]), "=r"(fa[i][3]) : "r"(address(&ta[row * 32 + (q ^ (row >> 1 & 3)) * 8])));
            }
            for (int j = 0; j < 2; j++) {
                int row = kk + (lane & 15), q = (wn + j * 16) / 8 + (lane >> 4);
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                             : "=r"(fb[j][0]), "=r"(fb[j][1]), "=r"(fb[j][2]), "=r"(fb[j][3]) : "r"(address(&tb[row * 64 + (q ^ (row & 7)) * 8])));
            }
            for (int i = 0; i < 2; i++)
                for (int j = 0; j < 4; j++)
                    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                                 : "+f"(acc[i][j][0]), "+f"(acc[i][j][1]), "+f"(acc[i][j][2]), "+f"(acc[i][j][3])
                                 : "r"(fa[i][0]), "r"(fa[i][1]), "r"(fa[i][2]), "r"(fa[i][3]), "r"(fb[j / 2][j % 2 * 2]), "r"(fb[j / 2][j % 2 * 2 + 1]));
        }
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++)
            for (int h = 0; h < 2; h++) {
                int row = blockIdx.y * 64 + wm + i * 16 + h * 8 + (lane >> 2), col = blockIdx.x * 64 + wn + j * 8 + (lane & 3) * 2;
                *(float2 *)&c[row * n + col] = make_float2(acc[i][j][h * 2], acc[i][j][h * 2 + 1]);
            }
}
