// Release and acquire between the warps of one block: a ring of mailboxes in shared memory, no barrier in the loop.
__device__ __forceinline__ int load_acquire(const int *p) {
    int v;
    asm volatile("ld.acquire.cta.shared.u32 %0, [%1];" : "=r"(v) : "r"((unsigned)__cvta_generic_to_shared(p)) : "memory");
    return v;
}
__device__ __forceinline__ void store_release(int *p, int v) {
    asm volatile("st.release.cta.shared.u32 [%0], %1;" ::"r"((unsigned)__cvta_generic_to_shared(p)), "r"(v) : "memory");
}

extern "C" __global__ void message_passing(int *y, int rounds) {
    __shared__ int box[4][32];
    __shared__ int flag[4];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    if (lane == 0) flag[warp] = 0;
    __syncthreads();
    int v = lane * 10;
    for (int r = 1; r <= rounds; r++) {
        int next = (warp + 1) & 3;
        if (warp == 0) {
            box[next][lane] = v + 1;
            __syncwarp();
            if (lane == 0) store_release(&flag[next], r);
        }
        while (load_acquire(&flag[warp]) < r) {}
        v = box[warp][lane ^ 1];
        if (warp != 0) {
            box[next][lane] = v + warp + 1;
            __syncwarp();
            if (lane == 0) store_release(&flag[next], r);
        }
    }
    y[threadIdx.x] = v;
}
