// Objects with virtual functions built in the kernel, function pointers from a constant table, recursion with a local array, variable-sized alloca.
struct Shape {
    __device__ virtual int area(int scale) const = 0;
    __device__ virtual int edges() const { return 4; }
};
struct Square : Shape {
    int side;
    __device__ Square(int s) : side(s) {}
    __device__ int area(int scale) const override { return side * side * scale; }
};
struct Box : Shape {
    int a, b;
    __device__ Box(int p, int q) : a(p), b(q) {}
    __device__ int area(int scale) const override { return a * b + scale; }
};
struct Triangle : Box {
    __device__ Triangle(int p, int q) : Box(p, q) {}
    __device__ int area(int scale) const override { return a * b / 2 - scale; }
    __device__ int edges() const override { return 3; }
};

typedef long long (*Step)(long long, int);
__device__ __noinline__ long long add(long long v, int k) { return v + k; }
__device__ __noinline__ long long times(long long v, int k) { return v * k % 1000003; }
__device__ __noinline__ long long turn(long long v, int k) { return (v << (k & 7) | v >> 3) & 0xffffff; }
__device__ __noinline__ long long divide(long long v, int k) { return v / (k + 1) + v % (k + 1); }
__constant__ Step steps[4] = {add, times, turn, divide};

// Permutations of `left` items in lexicographic order; returns the number-th.
__device__ __noinline__ int permute(int *items, int left, int number) {
    if (left == 0) return 0;
    int block = 1;
    for (int i = 2; i < left; i++) block *= i;
    int at = number / block, item = items[at];
    int rest[6];
    for (int i = 0, j = 0; i < left; i++)
        if (i != at) rest[j++] = items[i];
    return item + 10 * permute(rest, left - 1, number % block);
}

extern "C" __global__ void virtuals(const int *x, int *y, long long *z, int n) {
    int t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= n) return;
    Square square(x[t]);
    Box box(x[t], 3);
    Triangle triangle(5, x[t]);
    const Shape *shapes[3] = {&square, &box, &triangle};
    const Shape *mine = shapes[t % 3];
    y[t] = mine->area(t) * 10 + mine->edges();
    long long v = t;
    for (int i = 0; i < 6; i++) v = steps[x[(t + i) % n] & 3](v, i + 2);
    z[t] = v;
    int items[6] = {1, 2, 3, 4, 5, 6};
    y[n + t] = permute(items, 6, t * 7 % 720);
    int size = 1 + (x[t] & 15);
    int *space = (int *)__builtin_alloca(size * 4);
    for (int i = 0; i < size; i++) space[i] = i * i + t;
    int sum = 0;
    for (int i = size; i-- > 0;) sum = sum * 3 + space[i];
    y[2 * n + t] = sum;
}
