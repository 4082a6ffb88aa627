// A dense switch, which nvcc lowers to a tree of branches; every thread takes its own case.
extern "C" __global__ void switch_table(const int *x, int *y, int rounds) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int op = x[i], v = i;
    for (int k = 0; k < rounds; k++) {
        switch (op) {
        case 0: v = (int)((unsigned)v * 3u + 1u); op = 5; break;
        case 1: v ^= 0x5555; op = v & 7; break;
        case 2: v = (v >> 1) - 7; op = 9; break;
        case 3: v += 100;
        case 4: v -= op; op = (op + 3) % 11; break;
        case 5: v = (int)((unsigned)v * (unsigned)v); op = v % 10 < 0 ? 6 : v % 10; break;
        case 6: v = -v; op = 2; break;
        case 7: v |= 64; op = 8; break;
        case 8: v &= 0xffff; op = (v >> 3) & 15; break;
        case 9: v = ~v; op = 0; break;
        default: op = 3; v++; break;
        }
    }
    y[i] = v;
}
