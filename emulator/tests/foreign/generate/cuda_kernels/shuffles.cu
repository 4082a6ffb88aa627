// shfl.sync in all four modes, with widths, with its predicate, on part of a warp, with 64-bit values.
template <class T> __device__ T up(T v, int by, int clamp_mask, bool &ok) {
    T out;
    int in;
    asm volatile("{ .reg .pred p; shfl.sync.up.b32 %0|p, %2, %3, %4, 0xffffffff; selp.s32 %1, 1, 0, p; }"
                 : "=r"(out), "=r"(in) : "r"(v), "r"(by), "r"(clamp_mask));
    ok = in;
    return out;
}

extern "C" __global__ void shuffles(const int *x, int *y, int *ok, double *d, int n) {
    int t = threadIdx.x, lane = t & 31, v = x[t];
    int *row = y + t;
    row[0 * n] = __shfl_sync(~0u, v, 31 - lane);
    row[1 * n] = __shfl_sync(~0u, v, lane + 3, 8);
    row[2 * n] = __shfl_up_sync(~0u, v, 5);
    row[3 * n] = __shfl_up_sync(~0u, v, 3, 16);
    row[4 * n] = __shfl_down_sync(~0u, v, 7);
    row[5 * n] = __shfl_down_sync(~0u, v, 1, 4);
    row[6 * n] = __shfl_xor_sync(~0u, v, 21);
    row[7 * n] = __shfl_xor_sync(~0u, v, 12, 8);
    bool in;
    row[8 * n] = up(v, lane & 7, 0, in);
    ok[t] = in;
    int p, q;
    asm volatile("{ .reg .pred p; shfl.sync.down.b32 %0|p, %2, 9, 0x1f, -1; selp.s32 %1, 1, 0, p; }" : "=r"(p), "=r"(q) : "r"(v));
    row[9 * n] = p;
    ok[n + t] = q;
    asm volatile("{ .reg .pred p; shfl.sync.bfly.b32 %0|p, %2, 16, 0x100f, -1; selp.s32 %1, 1, 0, p; }" : "=r"(p), "=r"(q) : "r"(v));
    row[10 * n] = p;
    ok[2 * n + t] = q;
    asm volatile("{ .reg .pred p; shfl.sync.idx.b32 %0|p, %2, %3, 0x1c1f, -1; selp.s32 %1, 1, 0, p; }"
                 : "=r"(p), "=r"(q) : "r"(v), "r"(lane * 5));
    row[11 * n] = p;
    ok[3 * n + t] = q;
    // Odd lanes only, then a triangle of them.
    row[12 * n] = -1;
    if (lane & 1) row[12 * n] = __shfl_sync(0xaaaaaaaau, v, (lane + 2) & 31);
    double sum = v * 0.5;
    for (int m = 16; m; m >>= 1) sum += __shfl_xor_sync(~0u, sum, m);
    d[t] = sum;
}
