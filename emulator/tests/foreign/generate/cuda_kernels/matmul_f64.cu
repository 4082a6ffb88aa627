// A tiled product in double precision on the FMA units.
extern "C" __global__ void matmul_f64(const double *a, const double *b, double *c, int m, int n, int k) {
    __shared__ double ta[16][17], tb[16][17];
    int tx = threadIdx.x, ty = threadIdx.y, row = blockIdx.y * 16 + ty, col = blockIdx.x * 16 + tx;
    double sum = 0;
    for (int s = 0; s < k; s += 16) {
        ta[ty][tx] = row < m && s + tx < k ? a[row * k + s + tx] : 0.0;
        tb[ty][tx] = col < n && s + ty < k ? b[(s + ty) * n + col] : 0.0;
        __syncthreads();
#pragma unroll
        for (int j = 0; j < 16; j++) sum = fma(ta[ty][j], tb[j][tx], sum);
        __syncthreads();
    }
    if (row < m && col < n) c[row * n + col] = sum;
}
