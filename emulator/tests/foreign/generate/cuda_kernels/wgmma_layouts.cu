// One 64 x 64 x 32 product through every layout that a descriptor can name: no swizzle and all three, both orders of
// each operand, the first operand in registers, a negated operand.
#include <cuda_fp16.h>
#include "hopper.h"

__device__ __forceinline__ int twist(int offset, int mask) { return offset ^ ((offset >> 7 & mask) << 4); }

template <class Place> __device__ void fill(unsigned char *to, const __half *x, int mask, Place place) {
    // x: 64 rows (m or n) of 32 values along k.
    for (int i = threadIdx.x; i < 64 * 32; i += blockDim.x) *(__half *)(to + twist(place(i / 32, i % 32), mask)) = x[i];
}

__device__ void store(signed char *out, const float (&d)[32]) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    for (int i = 0; i < 32; i++) {
        int row = warp * 16 + lane / 4 + i / 2 % 2 * 8, col = i / 4 * 8 + lane % 4 * 2 + i % 2;
        out[row * 64 + col] = (signed char)d[i];
    }
}

extern "C" __global__ void __launch_bounds__(128) wgmma_layouts(const __half *a, const __half *b, signed char *out) {
    __shared__ __align__(1024) unsigned char sa[8192], sb[8192];
    float d[32] = {};
#define CASE(at, placeA, placeB, mask, ...) \
    __syncthreads(); \
    fill(sa, a, mask, [](int m, int k) { return placeA; }); \
    fill(sb, b, mask, [](int m, int k) { return placeB; }); \
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); \
    __syncthreads(); \
    WGMMA_FENCE(); \
    for (int s = 0; s < 2; s++) { __VA_ARGS__; } \
    WGMMA_COMMIT(); \
    WGMMA_WAIT(0); \
    store(out + at * 4096, d);
    // Along k: cores of 8 rows by 16 bytes; then rows of 32, 64 and 128 bytes.
    CASE(0, k / 8 * 1024 + m * 16 + k % 8 * 2, k / 8 * 1024 + m * 16 + k % 8 * 2, 0,
         wgmma64<0, 0>(d, descriptor(sa + s * 2048, 1024, 128, 0), descriptor(sb + s * 2048, 1024, 128, 0), s))
    CASE(1, k / 16 * 2048 + m * 32 + k % 16 * 2, k / 16 * 2048 + m * 32 + k % 16 * 2, 1,
         wgmma64<0, 0>(d, descriptor(sa + s * 2048, 16, 256, 3), descriptor(sb + s * 2048, 16, 256, 3), s))
    CASE(2, m * 64 + k * 2, m * 64 + k * 2, 3,
         wgmma64<0, 0>(d, descriptor(sa + s * 32, 16, 512, 2), descriptor(sb + s * 32, 16, 512, 2), s))
    CASE(3, m * 128 + k * 2, m * 128 + k * 2, 7,
         wgmma64<0, 0, -1>(d, descriptor(sa + s * 32, 16, 1024, 1), descriptor(sb + s * 32, 16, 1024, 1), s))
    // Along m and n: the transposed operands.
    CASE(4, m / 8 * 128 + k / 8 * 1024 + k % 8 * 16 + m % 8 * 2, m / 8 * 128 + k / 8 * 1024 + k % 8 * 16 + m % 8 * 2, 0,
         wgmma64<1, 1>(d, descriptor(sa + s * 2048, 1024, 128, 0), descriptor(sb + s * 2048, 1024, 128, 0), s))
    CASE(5, m / 32 * 2048 + k * 64 + m % 32 * 2, m / 32 * 2048 + k * 64 + m % 32 * 2, 3,
         wgmma64<1, 1>(d, descriptor(sa + s * 1024, 2048, 512, 2), descriptor(sb + s * 1024, 2048, 512, 2), s))
    CASE(6, m * 128 + k * 2, k * 128 + m * 2, 7,
         wgmma64<0, 1>(d, descriptor(sa + s * 32, 16, 1024, 1), descriptor(sb + s * 2048, 4096, 1024, 1), s))
    int lane = threadIdx.x & 31, row = threadIdx.x / 32 * 16 + lane / 4;
    u32 fragment[2][4];
    for (int s = 0; s < 2; s++)
        for (int r = 0; r < 4; r++) fragment[s][r] = *(const u32 *)&a[(row + r % 2 * 8) * 32 + s * 16 + r / 2 * 8 + lane % 4 * 2];
    CASE(7, m * 128 + k * 2, m * 128 + k * 2, 7, wgmma64<0>(d, fragment[s], descriptor(sb + s * 32, 16, 1024, 1), s))
}
