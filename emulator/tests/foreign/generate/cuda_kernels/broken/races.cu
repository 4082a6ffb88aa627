// Accesses without an order between them.
extern "C" __global__ void plain_histogram(const unsigned char *x, unsigned *bins, int n) {
    __shared__ unsigned local[16];
    if (threadIdx.x < 16) local[threadIdx.x] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) local[x[i]]++;
    __syncthreads();
    if (threadIdx.x < 16) bins[threadIdx.x] = local[threadIdx.x];
}

extern "C" __global__ void plain_sum(const float *x, float *sum) {
    // Every block adds into the same elements.
    sum[threadIdx.x] += x[blockIdx.x * blockDim.x + threadIdx.x];
}

extern "C" __global__ void scan_in_place(int *y) {
    __shared__ int v[128];
    int t = threadIdx.x;
    v[t] = y[t];
    for (int d = 1; d < 128; d <<= 1) {
        __syncthreads();
        int o = t >= d ? v[t - d] : 0;
        // Here one more barrier is owed.
        v[t] += o;
    }
    __syncthreads();
    y[t] = v[t];
}
