// Clusters through cooperative groups: a histogram spread over four blocks, a ring by map_shared_rank, atomics of other blocks' shared memory.
#include <cooperative_groups.h>
namespace cg = cooperative_groups;

extern "C" __global__ void __cluster_dims__(4, 1, 1) cluster_reduce(const unsigned *x, unsigned *bins, float *sums, int n) {
    __shared__ unsigned part[16];
    __shared__ float mine[64], total;
    cg::cluster_group cluster = cg::this_cluster();
    int t = threadIdx.x, rank = cluster.block_rank();
    if (t < 16) part[t] = 0;
    if (t == 0) total = 0;
    cluster.sync();
    for (int i = cluster.thread_rank(); i < n; i += cluster.num_threads()) {
        unsigned bin = x[blockIdx.x / 4 * n + i] % 64;
        atomicAdd(cluster.map_shared_rank(part, bin / 16) + bin % 16, 1u);
    }
    mine[t] = rank * 100 + t;
    cluster.sync();
    float sum = 0;
    for (int k = 0; k < 4; k++) sum = sum * 2 + cluster.map_shared_rank(mine, (rank + k) & 3)[63 - t];
    atomicAdd(cluster.map_shared_rank(&total, rank ^ 3), sum);
    if (t < 16) bins[blockIdx.x / 4 * 64 + rank * 16 + t] = part[t];
    cluster.sync();
    if (t == 0) sums[blockIdx.x] = total;
}
