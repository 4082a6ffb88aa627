// A bitonic sort of 64-bit keys in shared memory, one comparison a thread and step.
extern "C" __global__ void bitonic(unsigned long long *x) {
    __shared__ unsigned long long v[256];
    int t = threadIdx.x;
    v[t] = x[blockIdx.x * 256 + t];
    v[t + 128] = x[blockIdx.x * 256 + t + 128];
    for (int size = 2; size <= 256; size <<= 1)
        for (int stride = size >> 1; stride > 0; stride >>= 1) {
            __syncthreads();
            int a = 2 * t - (t & (stride - 1)), b = a + stride;
            bool up = (a & size) == 0;
            if ((v[a] > v[b]) == up) {
                unsigned long long swap = v[a];
                v[a] = v[b];
                v[b] = swap;
            }
        }
    __syncthreads();
    x[blockIdx.x * 256 + t] = v[t];
    x[blockIdx.x * 256 + t + 128] = v[t + 128];
}
