// One dynamic shared buffer carved into a padded tile and a row of sums.
extern __shared__ __align__(16) unsigned char memory[];

extern "C" __global__ void transpose(const float *x, float *y, double *sums, int rows, int cols) {
    float(*tile)[33] = (float(*)[33])memory;
    double *sum = (double *)(memory + 32 * 33 * 4);
    int c = blockIdx.x * 32 + threadIdx.x, r0 = blockIdx.y * 32;
    for (int k = threadIdx.y; k < 32; k += blockDim.y)
        tile[k][threadIdx.x] = c < cols && r0 + k < rows ? x[(r0 + k) * cols + c] : 0.0f;
    __syncthreads();
    if (threadIdx.y == 0) {
        double s = 0;
        for (int k = 0; k < 32; k++) s += tile[k][threadIdx.x];
        sum[threadIdx.x] = s;
    }
    __syncthreads();
    int r = r0 + threadIdx.x;
    for (int k = threadIdx.y; k < 32; k += blockDim.y)
        if (r < rows && blockIdx.x * 32 + k < cols) y[(blockIdx.x * 32 + k) * rows + r] = tile[threadIdx.x][k];
    if (threadIdx.y == 1 && c < cols) atomicAdd(&sums[c], sum[threadIdx.x]);
}
