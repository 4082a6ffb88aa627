// One atomic for all lanes with the same key, found by __match_any_sync; elections by ffs; stream compaction; __reduce_*_sync; nibble packing.
extern "C" __global__ void warp_aggregate(const int *x, int *counts, int *kept, int *total, unsigned *words, int n) {
    __shared__ int base[4];
    int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int v = i < n ? x[i] : -1;
    unsigned peers = __match_any_sync(~0u, v);
    if (lane == __ffs(peers) - 1 && v >= 0) atomicAdd(&counts[v], __popc(peers));
    bool keep = v >= 0 && v % 3 == 0;
    unsigned votes = __ballot_sync(~0u, keep);
    if (lane == 0) base[warp] = atomicAdd(total, __popc(votes));
    __syncwarp();
    if (keep) kept[base[warp] + __popc(votes & ((1u << lane) - 1))] = v;
    int same;
    unsigned all = __match_all_sync(~0u, v / 100, &same);
    words[i] = __reduce_add_sync(~0u, (unsigned)(v & 15)) | __reduce_max_sync(~0u, v & 63) << 12 | (same ? all & 1 : 0) << 20 | (__any_sync(~0u, v == 7) ? 1u << 21 : 0);
    words[gridDim.x * blockDim.x + i] = __reduce_xor_sync(~0u, (unsigned)v * 2654435761u) ^ __reduce_and_sync(~0u, (unsigned)v | 1) ^ __reduce_min_sync(0xffffffffu, v);
}
