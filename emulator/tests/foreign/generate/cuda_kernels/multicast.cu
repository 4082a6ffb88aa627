// A cluster of two: one block loads a tile for both by multicast, each waits at its own barrier; remote arrivals free the slot; st.async back.
#include "hopper.h"

extern "C" __global__ void __cluster_dims__(2, 1, 1) multicast(const int *x, int *y, int *z, int rounds) {
    __shared__ __align__(128) int tile[2][128];
    __shared__ u64 full[2], empty[2], echo;
    __shared__ __align__(16) int back[64];
    int t = threadIdx.x;
    unsigned rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    if (t == 0) {
        for (int s = 0; s < 2; s++) {
            barrier_init(&full[s], 1);
            barrier_init(&empty[s], 128);
        }
        barrier_init(&echo, 1);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        barrier_expect(&echo, 256);
    }
    asm volatile("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory");
    int sum = 0;
    for (int r = 0; r < rounds; r++) {
        int s = r & 1;
        if (t == 0) {
            barrier_expect(&full[s], 512);
            if (rank == 0) {
                if (r >= 2) barrier_wait(&empty[s], (r / 2 - 1) & 1);
                asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], 512, [%2], %3;" ::"r"(
                                 address(tile[s])), "l"(x + (blockIdx.x / 2 * rounds + r) * 128), "r"(address(&full[s])), "h"((unsigned short)3) : "memory");
            }
        }
        barrier_wait(&full[s], r / 2 & 1);
        sum += tile[s][rank * 64 + t] * (r + 1);
        asm volatile("{ .reg .b32 far; mapa.shared::cluster.u32 far, %0, 0; mbarrier.arrive.release.cluster.shared::cluster.b64 _, [far]; }" ::"r"(address(&empty[s])) : "memory");
        // The barrier of the next but one round must not be armed before this one is over for all threads.
        __syncthreads();
    }
    asm volatile("{ .reg .b32 far, bar; mapa.shared::cluster.u32 far, %0, %2; mapa.shared::cluster.u32 bar, %1, %2;\n\t"
                 "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [far], %3, [bar]; }" ::"r"(address(&back[63 - t])), "r"(address(&echo)), "r"(rank ^ 1), "r"(sum) : "memory");
    barrier_wait(&echo, 0);
    y[blockIdx.x * 64 + t] = sum;
    z[blockIdx.x * 64 + t] = back[t];
    asm volatile("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory");
}
