// Two blocks of a cluster read, write and add in each other's shared memory.
#include "hopper.h"

extern "C" __global__ void __cluster_dims__(2, 1, 1) cluster(const int *x, int *y, u32 *ranks) {
    __shared__ int data[64], inbox[64], count;
    __shared__ u64 bar;
    int t = threadIdx.x;
    u32 rank, size, id;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    asm("mov.u32 %0, %%clusterid.x;" : "=r"(id));
    data[t] = x[blockIdx.x * 64 + t];
    if (t == 0) count = 0;
    asm volatile("barrier.cluster.arrive.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
    u32 theirs, slot, counter;
    int v;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(theirs) : "r"(address(&data[63 - t])), "r"(rank ^ 1));
    asm volatile("ld.shared::cluster.s32 %0, [%1];" : "=r"(v) : "r"(theirs) : "memory");
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(slot) : "r"(address(&inbox[t])), "r"(rank ^ 1));
    asm volatile("st.shared::cluster.s32 [%0], %1;" ::"r"(slot), "r"(v * 2 + (int)rank) : "memory");
    asm volatile("mapa.shared::cluster.u32 %0, %1, 0;" : "=r"(counter) : "r"(address(&count)));
    asm volatile("red.relaxed.cluster.shared::cluster.add.u32 [%0], 1;" ::"r"(counter) : "memory");
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
    y[blockIdx.x * 64 + t] = inbox[t] + (rank == 0 ? count * 100000 : 0);
    if (t == 0) ranks[blockIdx.x] = rank | size << 8 | id << 16;
}
