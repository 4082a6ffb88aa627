// Variables at module scope: initialised, zeroed, holding addresses, shared by all blocks.
__device__ int ticket;
__device__ int primes[8] = {2, 3, 5, 7, 11, 13, 17, 19};
__device__ int *middle = primes + 4;
__device__ const char *words[3] = {"alpha", "beta", "gamma"};
__device__ double accumulator = 0.5;
__device__ struct {
    short a;
    long long b;
    float c[3];
} mixed = {-3, 1ll << 40, {1.5f, 2.5f, -0.0f}};

extern "C" __global__ void module_variables(int *order, int *values, float *floats, double *total) {
    __shared__ int mine;
    int i = threadIdx.x;
    if (i == 0) mine = atomicAdd(&ticket, 1) % 1000;
    __syncthreads();
    if (i < 8) atomicAdd(&order[mine * 8 + i], middle[i - 4] * 10);
    const char *word = words[i % 3];
    int length = 0;
    while (word[length]) length++;
    if (mine == 0) {
        values[i] = length * 100 + word[i % length] + mixed.a;
        floats[i] = mixed.c[i % 3] + (float)(mixed.b >> 36);
    }
    if (i == 0) {
        atomicAdd(&accumulator, 0.25);
        __threadfence();
        if (atomicAdd(&ticket, 1000) / 1000 == gridDim.x - 1) *total = *(volatile double *)&accumulator;
    }
}
