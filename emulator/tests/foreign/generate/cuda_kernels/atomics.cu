// Atomics of all operations and types, in global and shared memory, with scopes and orders.
#include <cuda_fp16.h>
#include <cuda_bf16.h>

extern "C" __global__ void atomics(const unsigned *x, unsigned *u, unsigned long long *l, float *f, double *d, __half2 *h,
                                   unsigned short *s, unsigned *old) {
    __shared__ unsigned su[10];
    __shared__ unsigned long long sl[4];
    __shared__ float sf;
    int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    if (t < 10) su[t] = t == 3 ? ~0u : t == 6 ? ~0u : 0;
    if (t < 4) sl[t] = t == 1 ? ~0ull : 0;
    if (t == 0) sf = 0;
    __syncthreads();
    unsigned v = x[i];
    atomicAdd(&u[0], v);
    atomicSub(&u[1], v);
    atomicMax(&u[2], v);
    atomicMin(&u[3], v);
    atomicMax((int *)&u[4], (int)v);
    atomicMin((int *)&u[5], (int)v);
    atomicAnd(&u[6], v | 0xff);
    atomicOr(&u[7], v & 0xf0f0);
    atomicXor(&u[8], v);
    atomicInc(&u[9], 99);
    atomicDec(&u[10], 1000);
    unsigned seen = *(volatile unsigned *)&u[11], want;
    do {
        want = seen;
        seen = atomicCAS(&u[11], want, want * 2 + 1 > 1000000007u ? want - 500000003u : want + (v & 7));
    } while (seen != want);
    atomicAdd(&l[0], (unsigned long long)v << 8);
    atomicMax(&l[1], (unsigned long long)v * v);
    atomicMin((long long *)&l[2], -(long long)v);
    atomicXor(&l[3], (unsigned long long)v << 20);
    atomicAdd(f, (float)(v & 255));
    atomicAdd(d, (double)v);
    atomicAdd(h, __floats2half2_rn((float)(v & 3), -(float)(v & 1)));
    old[i] = atomicExch(&u[16 + i], v ^ 1);
    atomicAdd(&su[0], v);
    atomicInc(&su[1], 70);
    atomicMax(&su[2], v);
    atomicMin(&su[3], v);
    atomicXor(&su[4], v);
    atomicOr(&su[5], v);
    atomicAnd(&su[6], v | 0x10001);
    atomicDec(&su[7], 5);
    atomicAdd_block(&su[8], 1u);
    atomicAdd(&sl[0], (unsigned long long)v * 3);
    atomicMin(&sl[1], (unsigned long long)v * 5);
    atomicCAS(&sl[2], 0ull, 77ull);
    atomicAdd(&sf, 0.5f);
    unsigned got;
    asm volatile("atom.acq_rel.sys.global.add.u32 %0, [%1], %2;" : "=r"(got) : "l"(&u[12]), "r"(2) : "memory");
    asm volatile("red.relaxed.cta.shared.add.u32 [%0], %1;" ::"r"((unsigned)__cvta_generic_to_shared(&su[9])), "r"(3) : "memory");
    asm volatile("red.release.gpu.global.max.s32 [%0], %1;" ::"l"(&u[13]), "r"((int)(got & 1) + i) : "memory");
    atomicCAS(&s[t & 3], (unsigned short)(t & 3), (unsigned short)(100 + (t & 3)));
    __syncthreads();
    if (t < 10) atomicAdd(&u[16 + gridDim.x * blockDim.x + t], su[t]);
    if (t < 4) l[4 + blockIdx.x * 4 + t] = sl[t];
    if (t == 0) atomicAdd(f + 1, sf);
}
