// Bulk copies with a pipeline of four mbarriers: producers and consumers by warp, stmatrix into a tile that a bulk store writes back, prefetches and policies.
#include <cuda_fp16.h>
#include "hopper.h"

extern "C" __global__ void __launch_bounds__(96) tma_pipeline(const __half *x, __half *y, float *sums, int chunks) {
    __shared__ __align__(128) __half tile[4][1024];
    __shared__ __align__(128) __half out[2][1024];
    __shared__ u64 full[4], empty[4];
    int t = threadIdx.x, warp = t / 32, lane = t % 32;
    if (t < 4) {
        barrier_init(&full[t], 1);
        barrier_init(&empty[t], 2);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    const __half *from = x + blockIdx.x * chunks * 1024;
    if (warp == 2) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (lane == 0) {
            u64 policy;
            asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
            asm volatile("cp.async.bulk.prefetch.L2.global [%0], 2048;" ::"l"(from) : "memory");
            for (int c = 0; c < chunks; c++) {
                if (c >= 4) barrier_wait(&empty[c & 3], (c / 4 - 1) & 1);
                barrier_expect(&full[c & 3], 2048);
                asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], 2048, [%2], %3;" ::"r"(
                                 address(tile[c & 3])), "l"(from + c * 1024), "r"(address(&full[c & 3])), "l"(policy) : "memory");
            }
        }
        return;
    }
    float sum = 0;
    for (int c = 0; c < chunks; c++) {
        barrier_wait(&full[c & 3], c / 4 & 1);
        const __half *mine = tile[c & 3] + warp * 512;
        for (int i = lane; i < 512; i += 32) sum += __half2float(mine[i]);
        // Eight matrices of 8 x 8 each, written transposed.
        u32 r[8];
        for (int k = 0; k < 8; k++) r[k] = *(const u32 *)&mine[k * 64 + lane / 4 * 8 + lane % 4 * 2];
        __syncwarp();
        if (lane == 0) barrier_arrive(&empty[c & 3]);
        __half *to = out[warp];
        if (c > 0) {
            if (lane == 0) asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
            __syncwarp();
        }
        for (int k = 0; k < 8; k += 4)
            asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address(to + k * 64 + lane * 8)), "r"(r[k]), "r"(r[k + 1]),
                         "r"(r[k + 2]), "r"(r[k + 3]) : "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        __syncwarp();
        if (lane == 0) {
            asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], 1024;" ::"l"(y + (blockIdx.x * chunks + c) * 1024 + warp * 512),
                         "r"(address(to)) : "memory");
            asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        }
    }
    for (int k = 16; k; k >>= 1) sum += __shfl_xor_sync(~0u, sum, k);
    if (lane == 0) {
        sums[blockIdx.x * 2 + warp] = sum;
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
}
