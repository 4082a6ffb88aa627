// Constant memory with initialisers: scalars, arrays, structs, bytes.
struct Rule {
    float scale;
    int shift;
    unsigned char tag;
};

__constant__ float weights[9] = {1, 2, 1, 2, 4, 2, 1, 2, 1};
__constant__ Rule rules[3] = {{0.5f, 3, 'a'}, {-2.0f, -1, 'b'}, {1e10f, 0, 255}};
__constant__ unsigned char letters[] = "constant memory";
__constant__ double third = 1.0 / 3.0;
__constant__ long long big = -1234567890123456789ll;
__constant__ int zeroed[4];

extern "C" __global__ void constants(const int *x, float *blurred, double *y, long long *z, int width) {
    int i = threadIdx.x, j = threadIdx.y;
    float sum = 0;
    for (int dj = -1; dj <= 1; dj++)
        for (int di = -1; di <= 1; di++) {
            int a = min(max(i + di, 0), width - 1), b = min(max(j + dj, 0), (int)blockDim.y - 1);
            sum += weights[(dj + 1) * 3 + di + 1] * x[b * width + a];
        }
    int at = j * width + i;
    blurred[at] = sum / 16.0f;
    const Rule &rule = rules[x[at] % 3];
    y[at] = (double)rule.scale * third + rule.shift;
    z[at] = big + rule.tag * 1000 + letters[at % 15] + zeroed[at % 4];
}
