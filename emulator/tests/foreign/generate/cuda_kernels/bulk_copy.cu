// Bulk copies in both directions: loads that complete an mbarrier, stores and additions in bulk groups, prefetch.
#include "hopper.h"

extern "C" __global__ void bulk_copy(const float *x, float *y, float *sums, int chunks) {
    __shared__ __align__(128) float in[2][256], out[256];
    __shared__ u64 bar[2];
    int t = threadIdx.x;
    if (t == 0) {
        barrier_init(&bar[0], 1);
        barrier_init(&bar[1], 1);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        for (int s = 0; s < 2; s++) {
            barrier_expect(&bar[s], 1024);
            bulk_load(in[s], x + (blockIdx.x * chunks + s) * 256, 1024, &bar[s]);
        }
    }
    __syncthreads();
    for (int k = 0; k < chunks; k++) {
        int s = k & 1, at = blockIdx.x * chunks + k;
        barrier_wait(&bar[s], k >> 1 & 1);
        for (int i = t; i < 256; i += blockDim.x) out[i] = in[s][i ^ 1] * 2.0f;
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        __syncthreads();
        if (t == 0) {
            asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], 1024;" ::"l"(y + at * 256), "r"(address(out)) : "memory");
            asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], 1024;" ::"l"(sums), "r"(address(out)) : "memory");
            asm volatile("cp.async.bulk.commit_group;" ::: "memory");
            if (k + 2 < chunks) {
                barrier_expect(&bar[s], 1024);
                bulk_load(in[s], x + (at + 2) * 256, 1024, &bar[s]);
            }
            asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
        }
        __syncthreads();
    }
    if (t == 0) asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}
