// The instructions of sm_90 that the headers do not wrap.
#pragma once
typedef unsigned u32;
typedef unsigned long long u64;

__device__ __forceinline__ u32 address(const void *p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void barrier_init(u64 *bar, int count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address(bar)), "r"(count) : "memory");
}
__device__ __forceinline__ void barrier_arrive(u64 *bar) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address(bar)) : "memory");
}
__device__ __forceinline__ void barrier_expect(u64 *bar, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address(bar)), "r"(bytes) : "memory");
}
__device__ __forceinline__ void barrier_wait(u64 *bar, int parity) {
    asm volatile(
        "{\n\t"
        ".reg .pred done;\n\t"
        "again:\n\t"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n\t"
        "@done bra finished;\n\t"
        "bra again;\n\t"
        "finished:\n\t"
        "}" ::"r"(address(bar)), "r"(parity) : "memory");
}
__device__ __forceinline__ void bulk_load(void *to, const void *from, int bytes, u64 *bar) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(address(to)), "l"(from),
                 "r"(bytes), "r"(address(bar)) : "memory");
}

// Swizzles of the tensor core: 3 is 32 bytes, 2 is 64, 1 is 128, 0 is none; `lead` and `stride` in bytes.
__device__ __forceinline__ u64 descriptor(const void *p, int lead, int stride, int swizzle) {
    return (u64)((address(p) & 0x3ffff) >> 4) | (u64)(lead >> 4) << 16 | (u64)(stride >> 4) << 32 | (u64)swizzle << 62;
}

#define WGMMA_FENCE() asm volatile("wgmma.fence.sync.aligned;" ::: "memory")
#define WGMMA_COMMIT() asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory")
#define WGMMA_WAIT(n) asm volatile("wgmma.wait_group.sync.aligned " #n ";" ::: "memory")
#define D8(d, k) "+f"(d[k]), "+f"(d[k + 1]), "+f"(d[k + 2]), "+f"(d[k + 3]), "+f"(d[k + 4]), "+f"(d[k + 5]), "+f"(d[k + 6]), "+f"(d[k + 7])
#define D32(d) D8(d, 0), D8(d, 8), D8(d, 16), D8(d, 24)
#define REGISTERS32 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, " \
                    "%25, %26, %27, %28, %29, %30, %31}"

// 64 x 64 x 16; `trans` is 1 where the operand is contiguous along m or n.
template <int transA, int transB, int signA = 1>
__device__ __forceinline__ void wgmma64(float (&d)[32], u64 a, u64 b, int accumulate) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %34, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 " REGISTERS32
                 ", %32, %33, p, %37, 1, %35, %36; }" : D32(d) : "l"(a), "l"(b), "r"(accumulate), "n"(transA), "n"(transB), "n"(signA));
}
template <int transB>
__device__ __forceinline__ void wgmma64(float (&d)[32], const u32 (&a)[4], u64 b, int accumulate) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %37, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 " REGISTERS32
                 ", {%32, %33, %34, %35}, %36, p, 1, 1, %38; }" : D32(d) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(transB));
}
