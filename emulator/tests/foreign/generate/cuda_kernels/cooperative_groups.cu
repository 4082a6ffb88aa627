// Cooperative groups: tiles of a warp, coalesced threads, reductions, labelled partitions, block synchronisation.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>
namespace cg = cooperative_groups;

extern "C" __global__ void cooperative(const int *x, int *y, int n) {
    __shared__ int total;
    cg::thread_block block = cg::this_thread_block();
    auto warp = cg::tiled_partition<32>(block);
    auto tile = cg::tiled_partition<8>(block);
    int t = block.thread_rank(), v = x[t];
    if (t == 0) total = 0;
    block.sync();
    int *row = y + t;
    row[0 * n] = cg::reduce(warp, v, cg::plus<int>());
    row[1 * n] = cg::reduce(tile, v, cg::greater<int>());
    row[2 * n] = cg::inclusive_scan(tile, v);
    row[3 * n] = cg::exclusive_scan(warp, v & 15, cg::plus<int>());
    row[4 * n] = tile.shfl_down(v, 2) + tile.meta_group_rank() * 1000;
    row[5 * n] = row[6 * n] = -1;
    if (v > 0) {
        auto live = cg::coalesced_threads();
        row[5 * n] = live.thread_rank() * 100 + live.size();
        row[6 * n] = live.shfl(v, 0);
        if (live.thread_rank() == 0) atomicAdd(&total, (int)live.size());
    }
    block.sync();
    row[7 * n] = total;
}
