// Each lane spins until the lane before it has written: right wherever threads of a warp make progress independently.
extern "C" __global__ void lane_baton(unsigned *y) {
    __shared__ unsigned value;
    __shared__ int turn;
    int lane = threadIdx.x;
    if (lane == 0) value = 1, turn = 0;
    __syncwarp();
    unsigned at = (unsigned)__cvta_generic_to_shared(&turn);
    int now;
    do asm volatile("ld.acquire.cta.shared.s32 %0, [%1];" : "=r"(now) : "r"(at) : "memory");
    while (now != lane);
    value = value * 5 + lane;
    y[lane] = value;
    asm volatile("st.release.cta.shared.s32 [%0], %1;" ::"r"(at), "r"(lane + 1) : "memory");
}
