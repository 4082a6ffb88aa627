// An indirect branch through a table of labels, different for each lane; nvcc itself lowers a switch to a tree.
extern "C" __global__ void branch_table(const unsigned *x, unsigned *y, int rounds) {
    unsigned i = threadIdx.x, v = i + 1;
    for (int k = 0; k < rounds; k++) {
        unsigned op = (x[i] >> (2 * k)) & 3;
        asm volatile(
            "{\n\t"
            "targets: .branchtargets add_it, square_it, flip_it, keep_it;\n\t"
            "brx.idx %1, targets;\n\t"
            "add_it: add.u32 %0, %0, 17;\n\t"
            "bra.uni done;\n\t"
            "flip_it: not.b32 %0, %0;\n\t"
            "square_it: mul.lo.u32 %0, %0, %0;\n\t"
            "keep_it:\n\t"
            "done:\n\t"
            "}"
            : "+r"(v)
            : "r"(op));
    }
    y[i] = v;
}
