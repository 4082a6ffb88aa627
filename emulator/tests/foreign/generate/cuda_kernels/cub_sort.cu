// CUB: a radix sort of a block, a scan, a reduction, run together.
#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>

extern "C" __global__ void cub_sort(unsigned *keys, int *values, int *scan, int *largest) {
    using Sort = cub::BlockRadixSort<unsigned, 64, 4, int>;
    using Scan = cub::BlockScan<int, 64>;
    using Reduce = cub::BlockReduce<int, 64>;
    __shared__ union {
        typename Sort::TempStorage sort;
        typename Scan::TempStorage scan;
        typename Reduce::TempStorage reduce;
    } temp;
    unsigned k[4];
    int v[4], base = blockIdx.x * 256 + threadIdx.x * 4;
    for (int i = 0; i < 4; i++) k[i] = keys[base + i], v[i] = values[base + i];
    Sort(temp.sort).SortBlockedToStriped(k, v, 0, 16);
    __syncthreads();
    for (int i = 0; i < 4; i++) {
        keys[blockIdx.x * 256 + i * 64 + threadIdx.x] = k[i];
        values[blockIdx.x * 256 + i * 64 + threadIdx.x] = v[i];
    }
    int total, s;
    Scan(temp.scan).InclusiveSum(v[0], s, total);
    scan[blockIdx.x * 64 + threadIdx.x] = s + total;
    __syncthreads();
    int best = Reduce(temp.reduce).Reduce(v[3], [](int a, int b) { return a > b ? a : b; });
    if (threadIdx.x == 0) atomicMax(largest, best);
}
