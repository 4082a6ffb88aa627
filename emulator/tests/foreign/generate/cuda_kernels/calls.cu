// Functions that are not inlined: recursion, a struct by value, an indirect call through a table.
struct Pair {
    long long wide;
    float x;
    short s;
};

__device__ __noinline__ int ackermann(int m, int n) {
    if (m == 0) return n + 1;
    if (n == 0) return ackermann(m - 1, 1);
    return ackermann(m - 1, ackermann(m, n - 1));
}

__device__ __noinline__ int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

__device__ __noinline__ Pair mix(Pair p, float *out) {
    *out = p.x * 2.0f;
    p.wide = p.wide * 3 + p.s;
    p.s = (short)(p.s - 1);
    return p;
}

typedef float (*Unary)(float);
__device__ __noinline__ float plus_one(float x) { return x + 1.0f; }
__device__ __noinline__ float doubled(float x) { return x * 2.0f; }
__device__ __noinline__ float negated(float x) { return -x; }
__device__ Unary table[3] = {plus_one, doubled, negated};

extern "C" __global__ void calls(const float *x, int *fib, int *ack, long long *wide, float *y) {
    int i = threadIdx.x;
    fib[i] = fibonacci(i % 13);
    ack[i] = ackermann(i % 3, i % 4);
    Pair p = {i * 1000000007ll, x[i], (short)(i - 20)};
    float twice;
    p = mix(p, &twice);
    wide[i] = p.wide * 10 + p.s;
    y[i] = table[i % 3](twice) + p.x;
}
