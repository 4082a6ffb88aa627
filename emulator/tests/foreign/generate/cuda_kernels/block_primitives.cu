// CUB over a block: scans with a callback, a two-key sort, run lengths, histogram, exchange, adjacent difference, top pairs by warp merge sort.
#include <cub/cub.cuh>

struct Carry {
    int total;
    __device__ int operator()(int block) {
        int old = total;
        total += block;
        return old;
    }
};

extern "C" __global__ void block_primitives(const int *x, int *scan, unsigned *histogram, int *flags, unsigned long long *sorted, int *moved, int n) {
    using Scan = cub::BlockScan<int, 128>;
    using Histogram = cub::BlockHistogram<unsigned char, 128, 1, 32, cub::BLOCK_HISTO_ATOMIC>;
    using Difference = cub::BlockAdjacentDifference<int, 128>;
    using Merge = cub::WarpMergeSort<unsigned long long, 2, 32>;
    using Exchange = cub::BlockExchange<int, 128, 2>;
    __shared__ union {
        Scan::TempStorage scan;
        Histogram::TempStorage histogram;
        Difference::TempStorage difference;
        Merge::TempStorage merge[4];
        Exchange::TempStorage exchange;
    } space;
    __shared__ unsigned bins[32];
    int t = threadIdx.x;
    Carry carry{0};
    for (int start = 0; start < n; start += 128) {
        int v = x[start + t], out;
        Scan(space.scan).InclusiveSum(v, out, carry);
        scan[start + t] = out;
        __syncthreads();
    }
    unsigned char byte[1] = {(unsigned char)(x[t] & 31)};
    Histogram(space.histogram).Histogram(byte, bins);
    __syncthreads();
    if (t < 32) histogram[t] = bins[t];
    int one[1] = {x[t]}, difference[1];
    Difference(space.difference).SubtractLeft(one, difference, [](int a, int b) { return a - b; });
    flags[t] = difference[0];
    __syncthreads();
    unsigned long long pair[2];
    for (int k = 0; k < 2; k++) pair[k] = (unsigned long long)(unsigned)x[t * 2 + k] << 32 | (t * 2 + k);
    Merge(space.merge[t / 32]).Sort(pair, [](unsigned long long a, unsigned long long b) { return a < b; });
    for (int k = 0; k < 2; k++) sorted[t * 2 + k] = pair[k];
    __syncthreads();
    int two[2] = {x[t * 2], x[t * 2 + 1]};
    Exchange(space.exchange).BlockedToStriped(two);
    moved[t] = two[0];
    moved[128 + t] = two[1];
}
