// The dynamic-programming instructions: a local alignment by anti-diagonals (Smith-Waterman) and each intrinsic alone.
extern "C" __global__ void dpx(const int *pa, const int *pb, const int *pc, int *y, const unsigned char *left, const unsigned char *right, int *best, int n) {
    int t = threadIdx.x, row = 0, a = pa[t], b = pb[t], c = pc[t];
#define ROW(expression) (y[(row++) * n + t] = (int)(expression))
    bool high, low;
    ROW(__viaddmax_s32(a, b, c));
    ROW(__viaddmin_s32_relu(a, b, c));
    ROW(__viaddmax_u32(a, b, c));
    ROW(__vimax3_s32(a, b, c));
    ROW(__vimin3_s32_relu(a, b, c));
    ROW(__vimax_s32_relu(a, b));
    ROW(__vibmax_s32(a, b, &high) * 2 + high);
    ROW(__vibmin_s16x2(a, b, &high, &low));
    ROW(high * 2 + low);
    ROW(__viaddmax_s16x2(a, b, c));
    ROW(__viaddmin_u16x2(a, b, c));
    ROW(__viaddmax_s16x2_relu(a, b, c));
    ROW(__vimax3_u16x2(a, b, c));
    ROW(__vimin_s16x2_relu(a, b));
    // Thread t owns row t of the matrix; step s fills column s - t.
    __shared__ int edge[2][33];
    int h = 0, diagonal = 0, top = 0;
    if (t < 32) edge[0][t + 1] = edge[1][t + 1] = 0;
    if (t == 0) edge[0][0] = edge[1][0] = 0;
    __syncthreads();
    for (int s = 0; s < 63; s++) {
        int col = s - t;
        if (t < 32 && col >= 0 && col < 32) {
            int up = edge[(s + 1) & 1][t];
            int score = left[t] == right[col] ? 3 : -2;
            int gap = __vimax_s32_relu(h - 1, up - 1);
            h = __viaddmax_s32(diagonal, score, gap);
            diagonal = up;
            edge[s & 1][t + 1] = h;
            top = max(top, h);
        }
        __syncthreads();
    }
    if (t < 32) best[t] = top;
}
