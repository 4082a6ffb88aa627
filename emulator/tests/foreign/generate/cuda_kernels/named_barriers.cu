// Warps 0 and 1 produce, warps 2 and 3 consume through two slots with bar.arrive and bar.sync on counted barriers;
// barriers with reductions; barriers of part of the block.
#define BAR_SYNC(id, count) asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(count) : "memory")
#define BAR_ARRIVE(id, count) asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(count) : "memory")

extern "C" __global__ void named_barriers(const int *x, int *y, int *votes, int *halves, int steps) {
    __shared__ int slot[2][64];
    __shared__ int part[4][32];
    int t = threadIdx.x, lane = t & 63;
    if (t < 64) {
        for (int s = 0; s < steps; s++) {
            int k = s & 1;
            if (s >= 2) BAR_SYNC(3 + k, 128);  // until the slot is free
            slot[k][lane] = x[s * 64 + lane] * 2;
            BAR_ARRIVE(1 + k, 128);  // the slot is full
        }
    } else {
        for (int s = 0; s < steps; s++) {
            int k = s & 1;
            BAR_SYNC(1 + k, 128);
            y[s * 64 + lane] = slot[k][lane ^ 63] + 1;
            if (s + 2 < steps) BAR_ARRIVE(3 + k, 128);
        }
    }
    int count = __syncthreads_count(x[t] > 0);
    int all = __syncthreads_and(x[t] > -1000);
    int any = __syncthreads_or(x[t] == 12345);
    votes[t] = count * 4 + (all ? 2 : 0) + (any ? 1 : 0);
    // Each pair of warps meets on a barrier of its own.
    part[t >> 5][t & 31] = x[t];
    asm volatile("barrier.sync %0, 64;" ::"r"(5 + (t >> 6)) : "memory");
    halves[t] = part[(t >> 5) ^ 1][31 - (t & 31)];
    asm volatile("bar.sync 0;" ::: "memory");
    asm volatile("barrier.cta.sync 9;" ::: "memory");
}
