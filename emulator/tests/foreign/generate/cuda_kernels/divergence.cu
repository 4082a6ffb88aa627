// Threads part and meet: early returns, loops with break and continue, nested conditions, a grid-stride loop.
extern "C" __global__ void divergence(const int *x, int *y, int *lengths, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        int v = x[i], sum = 0, steps = 0;
        if (v < 0) {
            y[i] = -1;
            lengths[i] = 0;
            if (v < -90) return;  // leaves the later strides of this thread untouched
            continue;
        }
        for (int a = 1; a <= v; a++) {
            if (a % 3 == 0) continue;
            int b = a;
            while (b > 1) {
                b = b & 1 ? 3 * b + 1 : b / 2;
                if (++steps > 200) break;
            }
            sum += b * a;
            if (steps > 200) break;
        }
        y[i] = sum;
        lengths[i] = steps;
    }
}
