// libdevice in double precision.
#define ROW(expression) (y[(row++) * n + i] = (expression))

extern "C" __global__ void math_f64(const double *px, const double *pw, double *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, row = 0;
    if (i >= n) return;
    double x = px[i], w = pw[i], p = fabs(x) + 0.01, q = x / 11.0;
    ROW(exp(x));
    ROW(exp2(x));
    ROW(expm1(x));
    ROW(log(p));
    ROW(log2(p));
    ROW(log1p(p));
    ROW(pow(p, 1.7));
    ROW(pow(-2.5, floor(x)));
    ROW(sin(x));
    ROW(cos(x));
    ROW(tan(q));
    ROW(sin(w));
    ROW(cos(w));
    ROW(asin(q));
    ROW(acos(q));
    ROW(atan2(x, 2.0));
    ROW(sinh(x));
    ROW(tanh(x));
    ROW(asinh(x));
    ROW(atanh(q));
    ROW(erf(x * 0.3));
    ROW(erfc(x * 0.3));
    ROW(lgamma(p));
    ROW(tgamma(p * 0.5));
    ROW(cbrt(x));
    ROW(hypot(x, 3.0));
    ROW(rsqrt(p));
    ROW(1.0 / x);
    ROW(sqrt(p) / 3.0);
    ROW(fmod(w, 3.0));
    ROW(round(x) + rint(x) * 100.0);
}
