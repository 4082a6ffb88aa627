// A barrier over the whole grid made of an atomic counter, three rounds of a stencil; then a block-wide radix split by ballots.
extern "C" __global__ void grid_sync(float *a, float *b, unsigned *arrived, unsigned *sorted, int n, int rounds) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    for (int r = 0; r < rounds; r++) {
        float *from = r & 1 ? b : a, *to = r & 1 ? a : b;
        to[i] = from[(i + n - 1) % n] + 2 * from[i] + from[(i + 1) % n];
        __syncthreads();
        if (threadIdx.x == 0) {
            __threadfence();
            atomicAdd(arrived, 1);
            while (atomicAdd(arrived, 0) < gridDim.x * (r + 1)) __nanosleep(64);
            __threadfence();
        }
        __syncthreads();
    }
    __shared__ unsigned keys[128], counts[4];
    int t = threadIdx.x, lane = t & 31, warp = t >> 5;
    unsigned key = sorted[blockIdx.x * 128 + t];
    for (int bit = 0; bit < 8; bit++) {
        bool one = key >> bit & 1;
        unsigned zeros = __ballot_sync(~0u, !one);
        if (lane == 0) counts[warp] = __popc(zeros);
        __syncthreads();
        int before = 0, all = 0;
        for (int w = 0; w < 4; w++) before += w < warp ? counts[w] : 0, all += counts[w];
        before += __popc(zeros & ((1u << lane) - 1));
        keys[one ? all + t - before : before] = key;
        __syncthreads();
        key = keys[t];
    }
    sorted[blockIdx.x * 128 + t] = key;
}
