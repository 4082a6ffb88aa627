// The older wmma interface of mma.h: f16 with f32 sums, column-major operand, bf16 and int8.
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <mma.h>
using namespace nvcuda;

extern "C" __global__ void wmma(const __half *a, const __half *b, const float *c, float *d, const signed char *ai, const signed char *bi, int *di, int k) {
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::col_major> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> acc;
    wmma::load_matrix_sync(acc, c, 16, wmma::mem_row_major);
    for (int s = 0; s < k; s += 16) {
        wmma::load_matrix_sync(fa, a + s, k);
        wmma::load_matrix_sync(fb, b + s, k);
        wmma::mma_sync(acc, fa, fb, acc);
    }
    for (int i = 0; i < acc.num_elements; i++) acc.x[i] = acc.x[i] * 0.5f + 1.0f;
    wmma::store_matrix_sync(d, acc, 16, wmma::mem_col_major);
    wmma::fragment<wmma::matrix_a, 32, 8, 16, signed char, wmma::col_major> ia;
    wmma::fragment<wmma::matrix_b, 32, 8, 16, signed char, wmma::row_major> ib;
    wmma::fragment<wmma::accumulator, 32, 8, 16, int> sum;
    wmma::fill_fragment(sum, -5);
    wmma::load_matrix_sync(ia, ai, 32);
    wmma::load_matrix_sync(ib, bi, 16);
    wmma::mma_sync(sum, ia, ib, sum);
    wmma::store_matrix_sync(di, sum, 8, wmma::mem_row_major);
}
