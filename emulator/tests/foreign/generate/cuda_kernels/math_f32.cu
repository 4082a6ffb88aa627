// libdevice in single precision.
#define ROW(expression) (y[(row++) * n + i] = (expression))

extern "C" __global__ void math_f32(const float *px, const float *pw, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, row = 0;
    if (i >= n) return;
    float x = px[i], w = pw[i], p = fabsf(x) + 0.01f, q = x / 11.0f;
    ROW(expf(x));
    ROW(exp2f(x));
    ROW(exp10f(x * 0.5f));
    ROW(expm1f(x));
    ROW(logf(p));
    ROW(log2f(p));
    ROW(log10f(p));
    ROW(log1pf(p));
    ROW(powf(p, 1.7f));
    ROW(powf(-floorf(p) - 1.0f, 3.0f));
    ROW(sinf(x));
    ROW(cosf(x));
    ROW(tanf(q));
    ROW(sinf(w));  // up to 1e30: the slow path of the reduction
    ROW(cosf(w));
    ROW(sinpif(x));
    ROW(cospif(x));
    ROW(asinf(q));
    ROW(acosf(q));
    ROW(atanf(x));
    ROW(atan2f(x, w));
    ROW(sinhf(x));
    ROW(coshf(x));
    ROW(tanhf(x));
    ROW(asinhf(x));
    ROW(acoshf(p + 1.0f));
    ROW(atanhf(q));
    ROW(erff(x * 0.3f));
    ROW(erfcf(x * 0.3f));
    ROW(normcdff(x * 0.3f));
    ROW(lgammaf(p));
    ROW(tgammaf(p * 0.5f));
    ROW(cbrtf(x));
    ROW(hypotf(x, 3.0f));
    ROW(rhypotf(x, 3.0f));
    ROW(rsqrtf(p));
    ROW(logbf(w) + ilogbf(p));
    ROW(roundf(x) + rintf(x) * 100.0f + truncf(x) * 1000.0f);
    float s, c, whole;
    sincosf(x, &s, &c);
    ROW(s - c);
    ROW(modff(x, &whole) + whole * 8.0f);
    int e;
    ROW(frexpf(x, &e) + e);
}
