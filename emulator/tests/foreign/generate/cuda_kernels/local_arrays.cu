// Arrays indexed at run time live in local memory; their addresses go to a function as generic pointers.
__device__ __noinline__ void insertion_sort(int *v, int n) {
    for (int i = 1; i < n; i++) {
        int key = v[i], j = i - 1;
        while (j >= 0 && v[j] > key) {
            v[j + 1] = v[j];
            j--;
        }
        v[j + 1] = key;
    }
}

extern "C" __global__ void local_arrays(const int *x, int *y, unsigned char *digits) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    int v[17];
    for (int k = 0; k < 17; k++) v[k] = x[at * 17 + k];
    insertion_sort(v, 3 + at % 15);
    for (int k = 0; k < 17; k++) y[at * 17 + k] = v[k];
    char text[12];
    int n = 0;
    unsigned value = (unsigned)v[at % 17];
    do {
        text[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    for (int k = 0; k < 12; k++) digits[at * 12 + k] = k < n ? (unsigned char)text[n - 1 - k] : (unsigned char)' ';
}
