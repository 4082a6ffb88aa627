// The atomics of libcu++: orders and scopes, compare and exchange, fetch_max, a queue with tickets.
#include <cuda/atomic>

extern "C" __global__ void libcxx_atomics(const int *x, int *y, int *counters, float *sum, int n) {
    __shared__ int head, tail, queue[256];
    int t = threadIdx.x;
    cuda::atomic_ref<int, cuda::thread_scope_block> h(head), e(tail);
    if (t == 0) head = tail = 0;
    __syncthreads();
    // Even numbers enter the queue; every thread takes from it while there is something.
    for (int i = t; i < n; i += blockDim.x)
        if (x[i] % 2 == 0) queue[e.fetch_add(1, cuda::memory_order_relaxed)] = x[i];
    __syncthreads();
    int mine = 0;
    for (;;) {
        int at = h.load(cuda::memory_order_relaxed);
        while (at < tail && !h.compare_exchange_weak(at, at + 1, cuda::memory_order_acq_rel, cuda::memory_order_relaxed)) {}
        if (at >= tail) break;
        mine++;
        cuda::atomic_ref<int, cuda::thread_scope_device>(counters[1]).fetch_add(queue[at], cuda::memory_order_relaxed);
    }
    cuda::atomic_ref<int, cuda::thread_scope_device> c(counters[0]);
    c.fetch_add(mine, cuda::memory_order_release);
    cuda::atomic_ref<int, cuda::thread_scope_system>(counters[2]).fetch_max(x[t], cuda::memory_order_seq_cst);
    cuda::atomic_ref<float, cuda::thread_scope_device> f(*sum);
    f.fetch_add((float)(x[t] & 7), cuda::memory_order_acquire);
    // Pass a baton from warp to warp, over shared memory.
    __shared__ int baton, value;
    if (t == 0) baton = 0, value = 1;
    __syncthreads();
    cuda::atomic_ref<int, cuda::thread_scope_block> b(baton);
    if (t % 32 == 0) {
        while (b.load(cuda::memory_order_acquire) != t / 32) {}
        value = value * 3 + t;
        b.store(t / 32 + 1, cuda::memory_order_release);
    }
    __syncthreads();
    y[t] = value + t;
}
