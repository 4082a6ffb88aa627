// One mistake for each entry point; `y` should be x * 2 in all of them.
extern "C" __global__ void no_bounds_check(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = x[i] * 2.0f;  // without `i < n`
}

extern "C" __global__ void one_too_far(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) y[i] = (i < n ? x[i] : 0.0f) * 2.0f;  // writes y[n]
}

extern "C" __global__ void shared_too_small(const float *x, float *y, int n) {
    __shared__ float slot[64];
    int i = threadIdx.x;
    slot[i] = i < n ? x[i] : 0.0f;  // 96 threads
    __syncthreads();
    if (i < n) y[i] = slot[i] * 2.0f;
}

extern "C" __global__ void local_too_small(const float *x, float *y, int n) {
    float v[8];
    int i = threadIdx.x;
    for (int k = 0; k < 8; k++) v[k] = x[i] + k;
    if (i < n) y[i] = v[(i % 3) * 4] - (i % 3) * 4 + x[i];  // v[8] for every third thread
}

extern "C" __global__ void odd_vector(const float *x, float *y, int n) {
    int i = threadIdx.x * 4;
    float4 v = *(const float4 *)(x + 1 + (i < n - 4 ? i : 0));  // not a multiple of 16 bytes
    y[i] = x[i] * 2.0f, y[i + 1] = v.x * 2.0f, y[i + 2] = v.y * 2.0f, y[i + 3] = v.z * 2.0f;
}

extern "C" __global__ void odd_double(const float *x, float *y, int n) {
    __shared__ __align__(8) float slot[130];
    int i = threadIdx.x;
    slot[i] = x[i];
    __syncthreads();
    double d = *(volatile double *)(slot + i % 2);  // 4 bytes off in odd threads
    if (i < n) y[i] = slot[i] * 2.0f + (d == 1.25e300 ? 1.0f : 0.0f);
}

extern "C" __global__ void unwritten_shared(const float *x, float *y, int n) {
    __shared__ float slot[128];
    int i = threadIdx.x;
    if (i != 77) slot[i] = x[i];
    __syncthreads();
    if (i < n) y[i] = slot[i] * 2.0f;
}

extern "C" __global__ void unwritten_local(const float *x, float *y, int n) {
    float v[16];
    int i = threadIdx.x;
    for (int k = 0; k < i % 16; k++) v[k] = x[i];
    y[i] = (i % 16 ? v[i % 5] : x[i]) * 2.0f;  // v[i % 5] is not always below i % 16
}

extern "C" __global__ void divergent_barrier(const float *x, float *y, int n) {
    __shared__ float slot[128];
    int i = threadIdx.x;
    slot[i] = x[i];
    if (i % 32 < 20) __syncthreads();
    y[i] = slot[i] * 2.0f;
}

extern "C" __global__ void counted_too_high(const float *x, float *y, int n) {
    int i = threadIdx.x;
    // The barrier counts 128 threads and 64 come.
    if (i < 64) asm volatile("bar.sync 1, 128;" ::: "memory");
    y[i] = x[i] * 2.0f;
}

extern "C" __global__ void crossed_barriers(const float *x, float *y, int n) {
    int i = threadIdx.x;
    // Each half waits on the barrier that the other half reaches only afterwards.
    if (i < 64) {
        asm volatile("bar.sync 1, 128; bar.sync 2, 128;" ::: "memory");
    } else {
        asm volatile("bar.sync 2, 128; bar.sync 1, 128;" ::: "memory");
    }
    y[i] = x[i] * 2.0f;
}

extern "C" __global__ void half_mask(const float *x, float *y, int n) {
    int i = threadIdx.x;
    // All 32 lanes take part, the mask names 16.
    float v = __shfl_xor_sync(0x0000ffffu, x[i], 1);
    y[i] = __shfl_xor_sync(0xffffffffu, v, 1) * 2.0f;
}

extern "C" __global__ void ballot_mask(const float *x, float *y, int n) {
    int i = threadIdx.x;
    y[i] = x[i] * 2.0f;
    if (i % 32 < 24) {
        // Lane 23 votes and is not named.
        unsigned all = __ballot_sync(0x007fffffu, x[i] > -1e30f);
        if (all == 0) y[i] = 0.0f;
    }
}

extern "C" __global__ void no_syncwarp(const float *x, float *y, int n) {
    __shared__ float slot[128];
    int i = threadIdx.x;
    slot[i ^ 1] = x[i];
    y[i] = slot[i] * 0.0f + x[i] * 2.0f;  // the neighbour's write and this read have no order
}
