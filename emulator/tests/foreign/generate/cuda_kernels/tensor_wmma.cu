// The wmma interface: f16 into f32, bf16, int8, with both layouts of B, an accumulator that is scaled by element, results through shared memory.
#include <cuda_bf16.h>
#include <mma.h>
using namespace nvcuda;

extern "C" __global__ void tensor_wmma(const half *a, const half *b, const __nv_bfloat16 *ab, const __nv_bfloat16 *bb, const signed char *ai, const signed char *bi,
                                       float *c, float *cb, int *ci) {
    __shared__ float stage[4][16 * 20];
    int warp = threadIdx.x / 32, row = warp / 2 * 16, col = warp % 2 * 16;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum, brain;
    wmma::fragment<wmma::accumulator, 16, 16, 16, int> whole;
    wmma::fill_fragment(sum, 1.0f);
    wmma::fill_fragment(brain, 0.0f);
    wmma::fill_fragment(whole, 0);
    for (int k = 0; k < 64; k += 16) {
        wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> fa;
        wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::col_major> fb;
        wmma::load_matrix_sync(fa, a + row * 64 + k, 64);
        wmma::load_matrix_sync(fb, b + col * 64 + k, 64);
        wmma::mma_sync(sum, fa, fb, sum);
        wmma::fragment<wmma::matrix_a, 16, 16, 16, __nv_bfloat16, wmma::col_major> ga;
        wmma::fragment<wmma::matrix_b, 16, 16, 16, __nv_bfloat16, wmma::row_major> gb;
        wmma::load_matrix_sync(ga, ab + k * 32 + row, 32);
        wmma::load_matrix_sync(gb, bb + k * 32 + col, 32);
        wmma::mma_sync(brain, ga, gb, brain);
        wmma::fragment<wmma::matrix_a, 16, 16, 16, signed char, wmma::row_major> ha;
        wmma::fragment<wmma::matrix_b, 16, 16, 16, signed char, wmma::row_major> hb;
        wmma::load_matrix_sync(ha, ai + row * 64 + k, 64);
        wmma::load_matrix_sync(hb, bi + k * 32 + col, 32);
        wmma::mma_sync(whole, ha, hb, whole);
    }
    for (int i = 0; i < sum.num_elements; i++) sum.x[i] *= 0.5f;
    wmma::store_matrix_sync(stage[warp], sum, 20, wmma::mem_row_major);
    __syncwarp();
    for (int i = threadIdx.x % 32; i < 256; i += 32) c[(row + i / 16) * 32 + col + i % 16] = stage[warp][i / 16 * 20 + i % 16];
    wmma::store_matrix_sync(cb + col * 32 + row, brain, 32, wmma::mem_col_major);
    wmma::store_matrix_sync(ci + row * 32 + col, whole, 32, wmma::mem_row_major);
}
