// ldmatrix in every count, straight and transposed, from swizzled rows; movmatrix.
extern "C" __global__ void ldmatrix(const unsigned short *x, unsigned *y) {
    __shared__ __align__(16) unsigned short tile[32][64];
    int t = threadIdx.x, lane = t & 31;
    // Eight chunks of 16 bytes a row, their places exclusive-or the row.
    for (int k = t; k < 32 * 8; k += blockDim.x)
        *(uint4 *)&tile[k / 8][((k % 8) ^ (k / 8 % 8)) * 8] = *(const uint4 *)&x[k * 8];
    __syncthreads();
    int row = lane, chunk = (lane >> 3) + (t >> 5);  // of this lane's row address
    unsigned at = (unsigned)__cvta_generic_to_shared(&tile[row][(chunk ^ (row & 7)) * 8]);
    unsigned r[18];
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(at));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[1]), "=r"(r[2]) : "r"(at));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[3]), "=r"(r[4]), "=r"(r[5]), "=r"(r[6]) : "r"(at));
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(r[7]) : "r"(at));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(r[8]), "=r"(r[9]) : "r"(at));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared::cta.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[10]), "=r"(r[11]), "=r"(r[12]), "=r"(r[13]) : "r"(at));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[14]), "=r"(r[15]), "=r"(r[16]), "=r"(r[17]) : "l"(&tile[31 - row][0]));
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %0;" : "+r"(r[14]));
    for (int k = 0; k < 18; k++) y[k * blockDim.x + t] = r[k];
}
