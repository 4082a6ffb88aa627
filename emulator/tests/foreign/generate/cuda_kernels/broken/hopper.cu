// Waits that are owed to the asynchronous copies of sm_90.
#include "hopper.h"

extern "C" __global__ void bulk_without_wait(const float *x, float *y) {
    __shared__ __align__(128) float in[256];
    __shared__ u64 bar;
    int t = threadIdx.x;
    if (t == 0) {
        barrier_init(&bar, 1);
        barrier_expect(&bar, 1024);
        bulk_load(in, x, 1024, &bar);
    }
    __syncthreads();
    y[t] = in[t] * 2.0f;
    barrier_wait(&bar, 0);
}

extern "C" __global__ void bulk_too_much_expected(const float *x, float *y) {
    __shared__ __align__(128) float in[256];
    __shared__ u64 bar;
    int t = threadIdx.x;
    if (t == 0) {
        barrier_init(&bar, 1);
        barrier_expect(&bar, 1040);  // 1024 will come
        bulk_load(in, x, 1024, &bar);
    }
    __syncthreads();
    barrier_wait(&bar, 0);
    y[t] = in[t] * 2.0f;
}
