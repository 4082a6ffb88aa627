// Loads and stores of every width and cache hint.
#include <cuda_fp16.h>

extern "C" __global__ void vector_memory(const int4 *a, const double2 *b, const short4 *c, const uchar4 *d, const long long *e,
                                         int4 *ya, double2 *yb, short4 *yc, uchar4 *yd, longlong2 *ye, float *yf) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int4 va = __ldg(a + i);
    ya[i] = make_int4(va.w, va.z, va.y, va.x);
    double2 vb = __ldcg(b + i);
    __stcs(yb + i, make_double2(vb.y + vb.x, vb.x - vb.y));
    short4 vc = __ldcs(c + i);
    __stcg(yc + i, make_short4(vc.y, vc.x, (short)(vc.z + 1), (short)-vc.w));
    uchar4 vd = __ldca(d + i);
    __stwt(yd + i, make_uchar4(vd.x + 1, vd.y + 2, vd.z + 3, vd.w + 4));
    long long ve = __ldlu(e + i);
    longlong2 pair = make_longlong2(ve >> 3, ve << 3);
    ye[i] = pair;
    volatile const int *spy = (volatile const int *)(a + i);
    float4 f = make_float4((float)spy[0], (float)spy[1], (float)spy[2], (float)spy[3]);
    asm volatile("prefetch.global.L2 [%0];" ::"l"(a + i));
    ((float4 *)yf)[i] = f;
    float lo, hi;
    asm volatile("ld.global.L1::no_allocate.L2::128B.v2.f32 {%0, %1}, [%2];" : "=f"(lo), "=f"(hi) : "l"(yf + 4 * i));
    asm volatile("st.global.L1::evict_last.f32 [%0+8], %1;" ::"l"(yf + 4 * i), "f"(lo + hi) : "memory");
    short s;
    asm volatile("ld.global.s8 %0, [%1+3];" : "=h"(s) : "l"(d + i));
    asm volatile("{ .reg .u64 p; cvta.to.global.u64 p, %0; st.global.b16 [p+4], %1; }" ::"l"(yc + i), "h"(s) : "memory");
}
