// The approximate instructions, whose error the manual bounds.
#define ROW(text, x) { float r_; asm volatile(text : "=f"(r_) : "f"(x)); y[(row++) * n + i] = r_; }

extern "C" __global__ void approximate(const float *pa, const float *pb, float *y, float *rough, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, row = 0;
    if (i >= n) return;
    float a = pa[i], b = pb[i], r;
    ROW("rcp.approx.f32 %0, %1;", a)
    ROW("rsqrt.approx.f32 %0, %1;", a)
    ROW("sqrt.approx.f32 %0, %1;", a)
    ROW("lg2.approx.f32 %0, %1;", a)
    ROW("ex2.approx.f32 %0, %1;", b)
    ROW("sin.approx.f32 %0, %1;", b)
    ROW("cos.approx.f32 %0, %1;", b)
    asm volatile("tanh.approx.f32 %0, %1;" : "=f"(r) : "f"(b));
    rough[i] = r;
    ROW("rsqrt.approx.ftz.f32 %0, %1;", a)
    ROW("ex2.approx.ftz.f32 %0, %1;", b)
    asm volatile("div.approx.f32 %0, %1, %2;" : "=f"(r) : "f"(b), "f"(a));
    y[(row++) * n + i] = r;
    asm volatile("div.full.f32 %0, %1, %2;" : "=f"(r) : "f"(b), "f"(a));
    y[(row++) * n + i] = r;
    y[(row++) * n + i] = __expf(b * 0.5f);
    y[(row++) * n + i] = __logf(a);
    y[(row++) * n + i] = __powf(a, 0.7f);
    y[(row++) * n + i] = __sinf(b) * __cosf(b) + __tanf(b * 0.25f);
    y[(row++) * n + i] = __fdividef(b, a);
    y[(row++) * n + i] = rsqrtf(a) + normf(2, (const float[]){a, b});
    // The corners, exact all the same.
    unsigned bits = i % 8 == 0 ? 0x7f800000u : i % 8 == 1 ? 0xff800000u : i % 8 == 2 ? 0x80000000u : i % 8 == 3 ? 0u : i % 8 == 4 ? 0x7fc00000u
                  : i % 8 == 5 ? 0x00000001u : i % 8 == 6 ? 0xbf800000u : 0x3f800000u;
    float e = __uint_as_float(bits);
    ROW("rcp.approx.ftz.f32 %0, %1;", e)
    ROW("rsqrt.approx.ftz.f32 %0, %1;", e)
    ROW("sqrt.approx.ftz.f32 %0, %1;", e)
    ROW("lg2.approx.ftz.f32 %0, %1;", e)
    ROW("ex2.approx.ftz.f32 %0, %1;", e)
    ROW("sin.approx.ftz.f32 %0, %1;", e)
    asm volatile("tanh.approx.f32 %0, %1;" : "=f"(r) : "f"(e));
    rough[n + i] = r;
}
