// A bitonic sort of key and value across the lanes of each warp, and a segmented scan by flags.
extern "C" __global__ void warp_sort(float *key, int *value, const int *flag, int *scan) {
    int t = blockIdx.x * blockDim.x + threadIdx.x, lane = t & 31;
    float k = key[t];
    int v = value[t];
    for (int size = 2; size <= 32; size <<= 1)
        for (int stride = size >> 1; stride; stride >>= 1) {
            float ok = __shfl_xor_sync(~0u, k, stride);
            int ov = __shfl_xor_sync(~0u, v, stride);
            bool lower = !(lane & stride), up = !(lane & size);
            bool take = lower == up ? ok < k : ok > k;
            if (take) k = ok, v = ov;
        }
    key[t] = k;
    value[t] = v;
    int head = flag[t], sum = v & 255;
    unsigned heads = __ballot_sync(~0u, head) | 1;
    int first = 31 - __clz(heads & (0xffffffffu >> (31 - lane)));
    for (int d = 1; d < 32; d <<= 1) {
        int o = __shfl_up_sync(~0u, sum, d);
        if (lane - d >= first) sum += o;
    }
    scan[t] = sum;
}
