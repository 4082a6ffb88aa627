// Who am I: thread, block, grid and lane registers, lane masks, sizes of shared memory, monotone clocks.
extern __shared__ int space[];

extern "C" __global__ void special_registers(unsigned *y) {
    unsigned t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    unsigned b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    unsigned threads = blockDim.x * blockDim.y * blockDim.z, v[12];
    asm("mov.u32 %0, %%laneid;" : "=r"(v[0]));
    asm("mov.u32 %0, %%lanemask_eq;" : "=r"(v[1]));
    asm("mov.u32 %0, %%lanemask_lt;" : "=r"(v[2]));
    asm("mov.u32 %0, %%lanemask_le;" : "=r"(v[3]));
    asm("mov.u32 %0, %%lanemask_gt;" : "=r"(v[4]));
    asm("mov.u32 %0, %%lanemask_ge;" : "=r"(v[5]));
    asm("mov.u32 %0, %%dynamic_smem_size;" : "=r"(v[6]));
    v[7] = threadIdx.x | threadIdx.y << 8 | threadIdx.z << 16;
    v[8] = blockIdx.x | blockIdx.y << 8 | blockIdx.z << 16;
    v[9] = gridDim.x | gridDim.y << 8 | gridDim.z << 16;
    v[10] = blockDim.x | blockDim.y << 8 | blockDim.z << 16;
    space[t] = t;
    __syncthreads();
    long long start = clock64();
    unsigned long long ns0, ns1;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns0));
    int next = space[(t + 1) % threads];
    __threadfence_block();
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns1));
    long long end = clock64();
    v[11] = (end >= start) + 2 * (ns1 >= ns0) + 4 * next + (warpSize << 16);
    for (int k = 0; k < 12; k++) y[(b * threads + t) * 12 + k] = v[k];
}
