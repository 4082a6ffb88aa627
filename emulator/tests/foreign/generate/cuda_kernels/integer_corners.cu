// 64-bit and 128-bit division, funnel shifts, byte permutes, dp2a/dp4a with mixed signs, carries through 256 bits, saturated conversions, CRC by table.
typedef unsigned long long u64;
__constant__ unsigned table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                   0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};

extern "C" __global__ void integer_corners(const u64 *x, const u64 *d, u64 *q, unsigned *w, u64 *big, int n) {
    int t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= n) return;
    u64 a = x[t], b = d[t], c = x[(t + 1) % n];
    q[t] = a / b;
    q[n + t] = a % b;
    q[2 * n + t] = (long long)a / (long long)(b | 1);
    q[3 * n + t] = (long long)a % (long long)(b | 1);
    unsigned __int128 wide = (unsigned __int128)a << 64 | c;
    unsigned __int128 quotient = wide / b;
    q[4 * n + t] = (u64)quotient;
    q[5 * n + t] = (u64)(quotient >> 64);
    q[6 * n + t] = (u64)(wide % b);
    q[7 * n + t] = __umul64hi(a, c) ^ (u64)__mul64hi((long long)a, (long long)c);
    unsigned lo = (unsigned)a, hi = (unsigned)(a >> 32);
    w[t] = __funnelshift_l(lo, hi, (unsigned)b) ^ __funnelshift_rc(lo, hi, (unsigned)c & 63);
    w[n + t] = __byte_perm(lo, hi, (unsigned)c & 0x7777);
    w[2 * n + t] = __dp4a((int)lo, (int)hi, 77) ^ __dp4a(lo, hi, 99u) ^ __dp2a_lo((int)lo, (int)hi, -5) ^ __dp2a_hi(lo, hi, 5u);
    w[3 * n + t] = __vaddss2(lo, hi) ^ __vabsdiffu4(lo, hi) ^ __vcmpgts4(lo, hi) ^ __vmaxu2(lo, hi) ^ __vsads4(lo, hi);
    w[4 * n + t] = __float2uint_rz(__ull2float_rn(a) * 1e-9f) ^ __double2int_rn((double)(long long)a * 1e-10) ^ (unsigned)__float2int_rd(-(float)hi);
    unsigned crc = ~0u;
    for (int i = 0; i < 8; i++) {
        crc ^= (unsigned)(a >> (8 * i)) & 255;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    w[5 * n + t] = ~crc;
    w[6 * n + t] = __clzll(a >> (b & 63)) | __ffsll(c) << 8 | __popcll(a ^ c) << 16;
    w[7 * n + t] = (unsigned)(__brevll(a) >> 17) ^ (unsigned)__rhadd((int)lo, (int)hi) ^ (unsigned)__hadd((int)hi, (int)lo) ^ __usad(lo, hi, 3u);
    // 256-bit a^4 by schoolbook.
    u64 s0 = a * a, s1 = __umul64hi(a, a);
    u64 r[4] = {};
    u64 s[2] = {s0, s1};
    for (int i = 0; i < 2; i++) {
        u64 carry = 0;
        for (int j = 0; j < 2; j++) {
            unsigned __int128 m = (unsigned __int128)s[i] * s[j] + r[i + j] + carry;
            r[i + j] = (u64)m;
            carry = (u64)(m >> 64);
        }
        r[i + 2] += carry;
    }
    for (int i = 0; i < 4; i++) big[i * n + t] = r[i];
}
