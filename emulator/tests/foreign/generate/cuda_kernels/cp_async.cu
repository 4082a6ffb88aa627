// A pipeline of cp.async groups over four slots: 16, 8 and 4 bytes, zero-fill by source size, exact waits.
__device__ __forceinline__ void copy16(void *to, const void *from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copy8(void *to, const void *from, int bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copy4(void *to, const void *from, bool ignore) {
    asm volatile("{ .reg .pred p; setp.ne.s32 p, %2, 0; cp.async.ca.shared.global [%0], [%1], 4, p; }" ::"r"(
                     (unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"((int)ignore) : "memory");
}

extern "C" __global__ void cp_async(const float *x, float *y, float *tail, int n, int steps) {
    __shared__ __align__(16) float slot[4][256];
    __shared__ __align__(16) float extra[64 * 3];
    int t = threadIdx.x;
    for (int s = 0; s < 3; s++) {
        int at = s * 256 + t * 4, left = max(0, min(16, (n - at) * 4));
        copy16(&slot[s][t * 4], left ? x + at : x, left);
        asm volatile("cp.async.commit_group;" ::: "memory");
    }
    for (int s = 0; s < steps; s++) {
        asm volatile("cp.async.wait_group 2;" ::: "memory");
        __syncthreads();
        for (int k = 0; k < 4; k++) y[s * 256 + k * 64 + t] = slot[s & 3][(k * 64 + t) ^ 5] * 2.0f;
        int next = s + 3;
        if (next < steps) {
            int at = next * 256 + t * 4, left = max(0, min(16, (n - at) * 4));
            copy16(&slot[next & 3][t * 4], left ? x + at : x, left);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    }
    copy8(&extra[t * 2], x + t * 2, t & 1 ? 4 : 8);
    copy4(&extra[128 + t], x + t, t % 3 == 0);
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();
    for (int k = 0; k < 3; k++) tail[k * 64 + t] = extra[k * 64 + (t ^ 1)];
}
