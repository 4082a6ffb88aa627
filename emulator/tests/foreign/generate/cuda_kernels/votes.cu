// Votes, ballots, matches, active masks, redux, in full and partial warps.
extern "C" __global__ void votes(const int *x, unsigned *y, int n) {
    int t = threadIdx.x, lane = t & 31, v = x[t];
    unsigned *row = y + t;
    row[0 * n] = __ballot_sync(~0u, v > 0);
    row[1 * n] = __all_sync(~0u, v > -50) * 2 + __any_sync(~0u, v > 49);
    int uni;
    asm volatile("{ .reg .pred p, q; setp.gt.s32 p, %1, -20; vote.sync.uni.pred q, p, -1; selp.s32 %0, 1, 0, q; }" : "=r"(uni) : "r"(v));
    row[2 * n] = uni;
    row[3 * n] = __match_any_sync(~0u, v & 3);
    int same;
    row[4 * n] = __match_all_sync(~0u, v >> 31, &same);
    row[5 * n] = same;
    row[6 * n] = __match_any_sync(~0u, (unsigned long long)(v & 1) << 40);
    row[7 * n] = __reduce_add_sync(~0u, v);
    row[8 * n] = __reduce_min_sync(~0u, v);
    row[9 * n] = __reduce_max_sync(~0u, (unsigned)v);
    row[10 * n] = __reduce_and_sync(~0u, (unsigned)v | 0x80);
    row[11 * n] = __reduce_or_sync(~0u, (unsigned)v & 0x3c);
    row[12 * n] = __reduce_xor_sync(~0u, (unsigned)v);
    for (int k = 13; k < 18; k++) row[k * n] = 0;
    if (lane >= 10 && lane < 27) {
        unsigned mine = 0x07fffc00u;
        row[13 * n] = __activemask() == mine;
        row[14 * n] = __ballot_sync(mine, v & 1);
        row[15 * n] = __reduce_max_sync(mine, v);
        row[16 * n] = __match_any_sync(mine, v & 7);
        row[17 * n] = __any_sync(mine, v == 3) | __all_sync(mine, v < 50) << 1;
    }
    __syncwarp();
    // Lanes by turns: the leader of those that are left takes its whole group out.
    unsigned left = ~0u;
    int turns = 0;
    while (left >> lane & 1) {
        int leader = __ffs(left) - 1;
        int key = __shfl_sync(left, v & 3, leader);
        unsigned group = __ballot_sync(left, key == (v & 3));
        turns++;
        left &= ~group;
        if (key == (v & 3)) break;
    }
    row[18 * n] = turns;
}
