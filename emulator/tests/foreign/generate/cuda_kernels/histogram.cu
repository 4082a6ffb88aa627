// Private bins in shared memory by atomics, then one global addition for each bin.
extern "C" __global__ void histogram(const unsigned char *x, unsigned *bins, unsigned long long *squares, int n) {
    __shared__ unsigned local[256];
    for (int b = threadIdx.x; b < 256; b += blockDim.x) local[b] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&local[x[i]], 1u);
    __syncthreads();
    for (int b = threadIdx.x; b < 256; b += blockDim.x)
        if (local[b]) {
            atomicAdd(&bins[b], local[b]);
            atomicAdd(squares, (unsigned long long)local[b] * b);
        }
}
