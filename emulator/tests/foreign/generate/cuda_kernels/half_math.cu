// half2 and bfloat162 as people write them: packed softmax, dot products, comparisons, conversions to integers, atomics of pairs.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

extern "C" __global__ void half_math(const __half2 *x, const __nv_bfloat162 *b, __half2 *y, __nv_bfloat162 *z, int *i, __half2 *hsum,
                                     __nv_bfloat162 *bsum, double *dsum, unsigned long long *usum, int n) {
    int t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= n) return;
    __half2 v = x[t], w = x[(t + 1) % n];
    __nv_bfloat162 p = b[t], q = b[(t + 1) % n];
    y[t] = __hfma2(v, w, __hneg2(v));
    y[n + t] = __hmax2(__hmin2(v, w), __float2half2_rn(-0.5f));
    y[2 * n + t] = __hsub2(__habs2(v), __lowhigh2highlow(w));
    y[3 * n + t] = __halves2half2(__hadd(__low2half(v), __high2half(w)), __hmul(__high2half(v), __low2half(w)));
    z[t] = __hfma2(p, q, p);
    z[n + t] = __hmax2(p, q);
    z[2 * n + t] = __floats2bfloat162_rn(__low2float(p) * 3.0f, __high2float(q) + __low2float(p));
    i[t] = __half2int_rn(__low2half(v)) + 1000 * __half2int_rz(__high2half(v));
    i[n + t] = __hgt(__low2half(v), __low2half(w)) + 2 * __hbeq2(v, v) + 4 * __hble2(p, q) + 8 * __hisnan(__high2half(w));
    i[2 * n + t] = __bfloat162int_rd(__low2bfloat16(p)) * 7 + __bfloat162int_ru(__high2bfloat16(p));
    atomicAdd(hsum + (t & 3), __floats2half2_rn(t & 7, 1));
    atomicAdd(bsum + (t & 3), __floats2bfloat162_rn(1, t & 3));
    atomicAdd(dsum + (t & 1), (double)t * 0.5);
    atomicAdd(usum, 0x100000001ull * t);
    atomicMax(usum + 1, (unsigned long long)t << 40 | t);
}
