// Half-precision functions: ex2, tanh, and what the headers build from them.
#include <cuda_fp16.h>
#include <cuda_bf16.h>

extern "C" __global__ void half_approximate(const __half *ph, const __nv_bfloat16 *pb, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, row = 0;
    if (i >= n) return;
    __half h = ph[i];
    __nv_bfloat16 b = pb[i];
    unsigned short r;
#define ROW(expression) (y[(row++) * n + i] = (expression))
    asm volatile("ex2.approx.f16 %0, %1;" : "=h"(r) : "h"(__half_as_ushort(h)));
    ROW(__half2float(__ushort_as_half(r)));
    asm volatile("tanh.approx.f16 %0, %1;" : "=h"(r) : "h"(__half_as_ushort(h)));
    ROW(__half2float(__ushort_as_half(r)));
    ROW(__half2float(hexp(h)));
    ROW(__half2float(hlog(__habs(h))));
    ROW(__half2float(hsqrt(__habs(h))));
    ROW(__half2float(hrcp(h)));
    ROW(__half2float(hrsqrt(__habs(h))));
    ROW(__half2float(hsin(h)));
    ROW(__half2float(__hdiv(h, __float2half(3.0f))));
    ROW(__half2float(hrint(h)) + __half2float(hfloor(h)));
    ROW(__bfloat162float(__hadd(b, b)));
    ROW(__bfloat162float(__hmul(b, __float2bfloat16(1.5f))));
    ROW(__bfloat162float(hexp(b)));
    ROW(__bfloat162float(__hmax(b, __float2bfloat16(0.25f))));
    ROW(__hgt(b, __float2bfloat16(0.0f)) ? 1.0f : 2.0f);
    __half2 h2 = __halves2half2(h, __hneg(h));
    ROW(__low2float(h2exp2(h2)) - __high2float(__hmul2_sat(h2, h2)));
}
