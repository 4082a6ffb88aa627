// Atomics that the hardware lacks, as CUDA's guide builds them: an ordinary first read, then compare-and-swap until it held.
__device__ float maximum(float *p, float v) {
    int *word = (int *)p;
    int old = *word, seen;
    do {
        seen = old;
        if (__int_as_float(seen) >= v) break;
        old = atomicCAS(word, seen, __float_as_int(v));
    } while (old != seen);
    return __int_as_float(old);
}
__device__ double product(double *p, double v) {
    unsigned long long *word = (unsigned long long *)p, old = *word, seen;
    do {
        seen = old;
        old = atomicCAS(word, seen, __double_as_longlong(v * __longlong_as_double(seen)));
    } while (old != seen);
    return __longlong_as_double(old);
}
__device__ void saturate(unsigned char *bytes, int i, int v) {
    unsigned *word = (unsigned *)bytes + i / 4;
    unsigned shift = i % 4 * 8, old = *word, seen;
    do {
        seen = old;
        unsigned byte = min(255u, (seen >> shift & 255) + v);
        old = atomicCAS(word, seen, (seen & ~(255u << shift)) | byte << shift);
    } while (old != seen);
}
__device__ unsigned short halves(unsigned short *p, unsigned short v) {
    unsigned short old = *p, seen;
    do {
        seen = old;
        old = atomicCAS(p, seen, (unsigned short)(seen + v));
    } while (old != seen);
    return old;
}

extern "C" __global__ void guess_and_swap(const float *x, float *high, double *all, unsigned char *bytes, unsigned short *count, int *inside, int n) {
    __shared__ float best[4];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (threadIdx.x < 4) best[threadIdx.x] = -1e30f;
    __syncthreads();
    if (i < n) {
        maximum(&high[i % 3], x[i]);
        maximum(&best[i % 4], x[i] * 2);
        product(&all[i % 2], i % 16 == 5 ? 2.0 : 1.0);
        saturate(bytes, i % 8, 3);
        halves(&count[i & 1], 5);
    }
    __syncthreads();
    if (threadIdx.x < 4) inside[blockIdx.x * 4 + threadIdx.x] = best[threadIdx.x];
}
