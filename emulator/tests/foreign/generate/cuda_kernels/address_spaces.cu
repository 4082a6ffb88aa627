// Generic pointers into every space, what isspacep says of them, and the way back with cvta.
__constant__ int constant_data[4] = {100, 200, 300, 400};
__device__ int global_data[4] = {1, 2, 3, 4};

__device__ __noinline__ int peek(const int *p, int i) { return p[i]; }

extern "C" __global__ void address_spaces(const int *x, int *values, unsigned *spaces) {
    __shared__ int shared_data[64];
    int local_data[4], t = threadIdx.x;
    shared_data[t] = t * 3;
    for (int k = 0; k < 4; k++) local_data[k] = x[t] + k;
    __syncthreads();
    const int *pointers[5] = {x + t, shared_data + (t ^ 1), local_data + (t & 1), constant_data + 1, global_data + 1};
    const int *p = pointers[t % 5];
    values[t] = peek(p, t & 1 ? 0 : 1);
    values[64 + t] = peek(pointers[(t + 1) % 5], 0);
    spaces[t] = __isGlobal(p) | __isShared(p) << 1 | __isLocal(p) << 2 | __isConstant(p) << 3;
    __syncthreads();
    *(int *)(t % 2 ? (void *)(shared_data + t) : (void *)(values + 128 + t)) = t;
    __syncthreads();
    if (t % 2) values[128 + t] = shared_data[t] + 1000;
}
