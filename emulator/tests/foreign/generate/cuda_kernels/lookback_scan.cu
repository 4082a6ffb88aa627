// A scan over the whole grid in one pass: blocks take tickets and look back at their predecessors' published prefix.
__device__ int next_ticket;

extern "C" __global__ void lookback_scan(const int *x, int *y, volatile int *prefix, volatile int *state) {
    __shared__ int ticket, before;
    __shared__ int sums[4];
    int t = threadIdx.x, lane = t & 31, warp = t >> 5;
    if (t == 0) ticket = atomicAdd(&next_ticket, 1);
    __syncthreads();
    int at = ticket * 128 + t, v = x[at], s = v;
    for (int d = 1; d < 32; d <<= 1) {
        int o = __shfl_up_sync(~0u, s, d);
        if (lane >= d) s += o;
    }
    if (lane == 31) sums[warp] = s;
    __syncthreads();
    for (int w = 0; w < warp; w++) s += sums[w];
    if (t == 127) {
        int sum = 0;
        if (ticket > 0) {
            while (state[ticket - 1] == 0) {}
            __threadfence();
            sum = prefix[ticket - 1];
        }
        prefix[ticket] = sum + s;
        __threadfence();
        state[ticket] = 1;
        before = sum;
    }
    __syncthreads();
    y[at] = s + before;
}
