// cuda::barrier and cuda::pipeline as the library has them: split arrival, a completion function, producer and consumer, a shared pipeline.
#include <cooperative_groups.h>
#include <cuda/barrier>
#include <cuda/pipeline>
#include <cuda/std/array>
namespace cg = cooperative_groups;

extern "C" __global__ void barriers(const int *x, int *y, int *z, int rounds) {
    __shared__ cuda::barrier<cuda::thread_scope_block> ready[2], filled[2];
    __shared__ int slot[2][64];
    int t = threadIdx.x;
    if (t < 2) {
        init(&ready[t], 128);
        init(&filled[t], 128);
    }
    __syncthreads();
    if (t < 64) {  // producers
        for (int r = 0; r < rounds; r++) {
            ready[r & 1].arrive_and_wait();
            slot[r & 1][t] = x[r * 64 + t] * 3;
            filled[r & 1].arrive();
        }
    } else {  // consumers
        ready[0].arrive();
        ready[1].arrive();
        for (int r = 0; r < rounds; r++) {
            filled[r & 1].arrive_and_wait();
            int v = slot[r & 1][127 - t];
            ready[r & 1].arrive();
            y[r * 64 + t - 64] = v;
        }
    }
    __syncthreads();
    __shared__ int4 stage[3][128];
    __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, 3> state;
    cg::thread_block block = cg::this_thread_block();
    auto pipe = cuda::make_pipeline(block, &state);
    const int4 *from = (const int4 *)x;
    int sum = 0;
    for (int fetch = 0, r = 0; r < 4; r++) {
        for (; fetch < 4 && fetch < r + 3; fetch++) {
            pipe.producer_acquire();
            cuda::memcpy_async(block, stage[fetch % 3], from + fetch * 32, cuda::aligned_size_t<16>(32 * 16), pipe);
            pipe.producer_commit();
        }
        pipe.consumer_wait();
        int4 v = stage[r % 3][31 - (t & 31)];
        sum = sum * 5 + v.x - v.w + (t >> 5);
        pipe.consumer_release();
    }
    z[t] = sum;
}
