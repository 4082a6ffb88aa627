// mbarrier as sm_80 has it: arrivals with state, test_wait, parity, counts, arrivals by cp.async.
typedef unsigned u32;
typedef unsigned long long u64;
__device__ __forceinline__ u32 address(const void *p) { return (u32)__cvta_generic_to_shared(p); }

extern "C" __global__ void mbarrier(const int *x, int *y, u32 *counts, int rounds) {
    __shared__ u64 bar, ready, loaded;
    __shared__ int data[64];
    __shared__ __align__(16) int copied[256];
    int t = threadIdx.x;
    if (t == 0) {
        asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(address(&bar)), "r"(64) : "memory");
        asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(address(&ready)), "r"(32) : "memory");
        asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(address(&loaded)), "r"(64) : "memory");
    }
    __syncthreads();
    // Everybody arrives and waits for the phase that the arrival was part of.
    for (int r = 0; r < rounds; r++) {
        data[t] = x[t] + r;
        u64 state;
        asm volatile("mbarrier.arrive.shared.b64 %0, [%1];" : "=l"(state) : "r"(address(&bar)) : "memory");
        int done = 0;
        while (!done)
            asm volatile("{ .reg .pred p; mbarrier.test_wait.shared.b64 p, [%1], %2; selp.s32 %0, 1, 0, p; }"
                         : "=r"(done) : "r"(address(&bar)), "l"(state) : "memory");
        y[r * 64 + t] = data[63 - t];
        __syncthreads();
    }
    // One warp arrives, the other only waits, by parity.
    for (int r = 0; r < 2; r++) {
        if (t < 32) {
            data[t] = x[t] * (r + 2);
            u64 state;
            asm volatile("mbarrier.arrive.shared.b64 %0, [%1];" : "=l"(state) : "r"(address(&ready)) : "memory");
        } else {
            int done = 0;
            while (!done)
                asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.s32 %0, 1, 0, p; }"
                             : "=r"(done) : "r"(address(&ready)), "r"(r & 1) : "memory");
            y[(rounds + r) * 64 + t] = data[t - 32];
        }
        __syncthreads();
    }
    // The copies of a thread arrive for it.
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address(&copied[t * 4])), "l"(x + t * 4) : "memory");
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(address(&loaded)) : "memory");
    int done = 0;
    while (!done)
        asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.s32 %0, 1, 0, p; }"
                     : "=r"(done) : "r"(address(&loaded)), "r"(0) : "memory");
    y[(rounds + 2) * 64 + t] = copied[255 - t];
    __syncthreads();
    if (t == 0) {
        u64 state;
        u32 left;
        asm volatile("mbarrier.inval.shared.b64 [%0];" ::"r"(address(&bar)) : "memory");
        asm volatile("mbarrier.init.shared.b64 [%0], 7;" ::"r"(address(&bar)) : "memory");
        asm volatile("mbarrier.arrive.noComplete.shared.b64 %0, [%1], 3;" : "=l"(state) : "r"(address(&bar)) : "memory");
        asm volatile("mbarrier.arrive.shared.b64 %0, [%1];" : "=l"(state) : "r"(address(&bar)) : "memory");
        asm volatile("mbarrier.pending_count.b64 %0, %1;" : "=r"(left) : "l"(state));
        counts[0] = left;  // before its own arrival: 7 - 3
        asm volatile("mbarrier.arrive_drop.shared.b64 %0, [%1];" : "=l"(state) : "r"(address(&bar)) : "memory");
        asm volatile("mbarrier.pending_count.b64 %0, %1;" : "=r"(left) : "l"(state));
        counts[1] = left;  // 3
    }
}
