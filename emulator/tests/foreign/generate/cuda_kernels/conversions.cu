// Between integers and floats, in every rounding, over the edges of every range.
#define CVT(type, reg, text, x, in) { type r_; asm volatile(text : reg(r_) : in(x)); *out++ = (long long)r_; }

extern "C" __global__ void conversions(const float *pf, const double *pd, const long long *pl, long long *ints, float *fs, double *ds, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float f = pf[i];
    double d = pd[i];
    long long l = pl[i];
    int w = (int)l;
    long long *out = ints + i * 30;
    CVT(int, "=r", "cvt.rni.s32.f32 %0, %1;", f, "f")
    CVT(int, "=r", "cvt.rzi.s32.f32 %0, %1;", f, "f")
    CVT(int, "=r", "cvt.rmi.s32.f32 %0, %1;", f, "f")
    CVT(int, "=r", "cvt.rpi.s32.f32 %0, %1;", f, "f")
    CVT(unsigned, "=r", "cvt.rni.u32.f32 %0, %1;", f, "f")
    CVT(unsigned, "=r", "cvt.rzi.ftz.u32.f32 %0, %1;", f, "f")
    CVT(long long, "=l", "cvt.rni.s64.f32 %0, %1;", f, "f")
    CVT(unsigned long long, "=l", "cvt.rzi.u64.f32 %0, %1;", f, "f")
    CVT(short, "=h", "cvt.rzi.s16.f32 %0, %1;", f, "f")
    CVT(unsigned short, "=h", "cvt.rni.u16.f32 %0, %1;", f, "f")
    CVT(int, "=r", "{ .reg .b16 t; .reg .b32 w; cvt.rzi.s8.f32 w, %1; cvt.s32.s8 %0, w; }", f, "f")
    CVT(unsigned, "=r", "{ .reg .b32 w; cvt.rni.sat.u8.f32 w, %1; cvt.u32.u8 %0, w; }", f, "f")
    CVT(int, "=r", "cvt.rni.s32.f64 %0, %1;", d, "d")
    CVT(int, "=r", "cvt.rmi.s32.f64 %0, %1;", d, "d")
    CVT(unsigned, "=r", "cvt.rpi.u32.f64 %0, %1;", d, "d")
    CVT(long long, "=l", "cvt.rzi.s64.f64 %0, %1;", d, "d")
    CVT(long long, "=l", "cvt.rni.s64.f64 %0, %1;", d, "d")
    CVT(unsigned long long, "=l", "cvt.rzi.u64.f64 %0, %1;", d, "d")
    CVT(int, "=r", "cvt.s32.s64 %0, %1;", l, "l")
    CVT(int, "=r", "cvt.sat.s32.s64 %0, %1;", l, "l")
    CVT(unsigned, "=r", "cvt.sat.u32.s64 %0, %1;", l, "l")
    CVT(unsigned, "=r", "cvt.sat.u32.u64 %0, %1;", l, "l")
    CVT(short, "=h", "cvt.sat.s16.s32 %0, %1;", w, "r")
    CVT(unsigned short, "=h", "cvt.sat.u16.s64 %0, %1;", l, "l")
    CVT(int, "=r", "{ .reg .b32 t; cvt.sat.s8.s32 t, %1; cvt.s32.s8 %0, t; }", w, "r")
    CVT(int, "=r", "{ .reg .b32 t; cvt.sat.u8.u32 t, %1; cvt.u32.u8 %0, t; }", w, "r")
    CVT(int, "=r", "cvt.s32.s8 %0, %1;", w, "r")
    CVT(unsigned, "=r", "cvt.u32.u16 %0, %1;", (short)w, "h")
    CVT(long long, "=l", "cvt.s64.s32 %0, %1;", w, "r")
    CVT(long long, "=l", "cvt.u64.u32 %0, %1;", w, "r")
    float *fo = fs + i * 12;
#define F(text, x, in) { float r_; asm volatile(text : "=f"(r_) : in(x)); *fo++ = r_; }
    F("cvt.rn.f32.s32 %0, %1;", w, "r")
    F("cvt.rz.f32.s32 %0, %1;", w, "r")
    F("cvt.rm.f32.u32 %0, %1;", w, "r")
    F("cvt.rp.f32.u32 %0, %1;", w, "r")
    F("cvt.rn.f32.s64 %0, %1;", l, "l")
    F("cvt.rz.f32.u64 %0, %1;", l, "l")
    F("cvt.rp.f32.s64 %0, %1;", l, "l")
    F("cvt.rn.f32.f64 %0, %1;", d, "d")
    F("cvt.rz.f32.f64 %0, %1;", d, "d")
    F("cvt.rm.f32.f64 %0, %1;", d, "d")
    F("cvt.rp.ftz.f32.f64 %0, %1;", d, "d")
    F("cvt.rn.sat.f32.f64 %0, %1;", d, "d")
    double *dd = ds + i * 5;
#define D(text, x, in) { double r_; asm volatile(text : "=d"(r_) : in(x)); *dd++ = r_; }
    D("cvt.rn.f64.s64 %0, %1;", l, "l")
    D("cvt.rz.f64.u64 %0, %1;", l, "l")
    D("cvt.rn.f64.u32 %0, %1;", w, "r")
    D("cvt.f64.f32 %0, %1;", f, "f")
    D("cvt.rni.f64.f64 %0, %1;", d, "d")
}
