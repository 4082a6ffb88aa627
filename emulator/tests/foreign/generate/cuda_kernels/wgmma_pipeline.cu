// A producer warp fills two slots by bulk copies; a consumer warpgroup multiplies, one wgmma group in flight.
#include <cuda_fp16.h>
#include "hopper.h"

// Both operands lie packed in memory: for each 64 along k, 64 rows of 128 bytes, already swizzled.
extern "C" __global__ void __launch_bounds__(160) wgmma_pipeline(const __half *a, const __half *b, float *c, int steps) {
    __shared__ __align__(1024) unsigned char slot[2][2][8192];
    __shared__ u64 full[2], empty[2];
    int t = threadIdx.x, warp = t >> 5, lane = t & 31;
    if (t == 0) {
        for (int s = 0; s < 2; s++) {
            barrier_init(&full[s], 1);
            barrier_init(&empty[s], 128);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async;" ::: "memory");
    }
    __syncthreads();
    if (warp == 4) {
        if (lane == 0)
            for (int k = 0; k < steps; k++) {
                int s = k & 1;
                barrier_wait(&empty[s], (k >> 1 & 1) ^ 1);  // the first round passes at once
                barrier_expect(&full[s], 16384);
                bulk_load(slot[s][0], a + k * 4096, 8192, &full[s]);
                bulk_load(slot[s][1], b + k * 4096, 8192, &full[s]);
            }
        return;
    }
    float d[32];
    for (int i = 0; i < 32; i++) d[i] = 0;
    for (int k = 0; k < steps; k++) {
        int s = k & 1;
        barrier_wait(&full[s], k >> 1 & 1);
        WGMMA_FENCE();
        for (int j = 0; j < 4; j++)
            wgmma64<0, 0>(d, descriptor(slot[s][0] + j * 32, 16, 1024, 1), descriptor(slot[s][1] + j * 32, 16, 1024, 1), 1);
        WGMMA_COMMIT();
        if (k > 0) {
            WGMMA_WAIT(1);  // the step before has read its slot
            barrier_arrive(&empty[s ^ 1]);
        }
    }
    WGMMA_WAIT(0);
    for (int i = 0; i < 32; i++) {
        int row = warp * 16 + lane / 4 + i / 2 % 2 * 8, col = i / 4 * 8 + lane % 4 * 2 + i % 2;
        c[row * 64 + col] = d[i];
    }
}
