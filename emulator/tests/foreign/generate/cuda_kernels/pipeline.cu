// The pipeline and barrier objects of the CUDA headers: memcpy_async in two stages, a barrier with a token.
#include <cooperative_groups.h>
#include <cooperative_groups/memcpy_async.h>
#include <cuda/barrier>
#include <cuda_pipeline.h>
namespace cg = cooperative_groups;

extern "C" __global__ void pipeline(const int4 *x, int4 *y, int *z, int stages) {
    __shared__ int4 slot[2][64];
    __shared__ int copied[128];
    __shared__ cuda::barrier<cuda::thread_scope_block> bar;
    int t = threadIdx.x;
    cg::thread_block block = cg::this_thread_block();
    if (t == 0) init(&bar, blockDim.x);
    __pipeline_memcpy_async(&slot[0][t], &x[t], 16);
    __pipeline_commit();
    for (int s = 0; s < stages; s++) {
        if (s + 1 < stages) __pipeline_memcpy_async(&slot[(s + 1) & 1][t], &x[(s + 1) * 64 + t], 16, s == 1 ? 8 : 0);
        __pipeline_commit();
        __pipeline_wait_prior(1);
        __syncthreads();
        int4 v = slot[s & 1][63 - t];
        y[s * 64 + t] = make_int4(v.w, v.z, v.y, v.x);
        __syncthreads();
    }
    cg::memcpy_async(block, copied, (const int *)x, sizeof(int) * 128);
    cg::wait(block);
    auto token = bar.arrive();
    int sum = copied[t] + copied[127 - t];
    bar.wait(std::move(token));
    copied[t] = sum;
    bar.arrive_and_wait();
    z[t] = copied[(t + 1) % 64] - copied[127 - t];
}
