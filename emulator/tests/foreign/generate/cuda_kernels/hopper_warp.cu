// Small instructions of sm_90: elect, stmatrix, packed conversions, register budgets, dependent launches.
#include "hopper.h"

extern "C" __global__ void __launch_bounds__(128) hopper_warp(const u32 *x, u32 *y, u32 *tiles, int n) {
    __shared__ __align__(16) unsigned short tile[2][32][8];
    int t = threadIdx.x, lane = t & 31, warp = t >> 5;
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    u32 v = x[t], w = x[(t + 1) % 128], leader, mine, r;
    asm volatile("{ .reg .pred p; elect.sync %0|p, 0xffffffff; selp.u32 %1, 1, 0, p; }" : "=r"(leader), "=r"(mine));
    u32 all = __ballot_sync(~0u, mine);  // which lane is the leader, the manual leaves open
    y[t] = __popc(all) * 2 + (leader == __ffs(all) - 1);
    asm volatile("cvt.pack.sat.s8.s32.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(v), "r"(w), "r"(v ^ w));
    y[n + t] = r;
    asm volatile("cvt.pack.sat.u16.s32 %0, %1, %2;" : "=r"(r) : "r"(v), "r"(w));
    y[2 * n + t] = r;
    if (warp == 0) {
        asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address(tile[0][lane])), "r"(v), "r"(v + 1), "r"(v + 2), "r"(v + 3) : "memory");
    } else if (warp == 1) {
        asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address(tile[1][lane])), "r"(v), "r"(v * 3), "r"(v * 5), "r"(v * 7) : "memory");
    }
    __syncthreads();
    tiles[t] = ((const u32 *)tile)[t];
    tiles[128 + t] = ((const u32 *)tile)[128 + t];
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
