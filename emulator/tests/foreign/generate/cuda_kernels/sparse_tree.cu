// A binary search tree in module memory: nodes from an atomic counter, links by compare-and-swap, then walks by recursion and by a stack in local memory.
struct Node {
    int key, count;
    int child[2];
};
__device__ Node nodes[160];
__device__ int used = 1;

__device__ __noinline__ int depth(const volatile Node *tree, int at) {
    if (at == 0) return 0;
    int left = depth(tree, tree[at].child[0]), right = depth(tree, tree[at].child[1]);
    return 1 + max(left, right);
}

extern "C" __global__ void sparse_tree(const int *x, int *sorted, int *counts, int *facts, int n) {
    int t = threadIdx.x;
    if (t == 0) nodes[0].child[0] = 0;
    __syncthreads();
    if (t < n) {
        int mine = 0, key = x[t];
        int *link = &nodes[0].child[0];
        while (true) {
            int at = atomicAdd(link, 0);
            if (at == 0) {
                if (mine == 0) {
                    mine = atomicAdd(&used, 1);
                    nodes[mine].key = key;
                    nodes[mine].count = 0;
                    nodes[mine].child[0] = nodes[mine].child[1] = 0;
                    __threadfence();
                }
                at = atomicCAS(link, 0, mine);
                if (at == 0) at = mine;
            }
            __threadfence();
            int other = nodes[at].key;
            if (other == key) {
                atomicAdd(&nodes[at].count, 1);
                break;
            }
            link = &nodes[at].child[key > other];
        }
    }
    __syncthreads();
    if (t == 0) {
        int stack[64], top = 0, at = nodes[0].child[0], out = 0;
        while (top || at) {
            while (at) stack[top++] = at, at = nodes[at].child[0];
            at = stack[--top];
            sorted[out] = nodes[at].key;
            counts[out++] = nodes[at].count;
            at = nodes[at].child[1];
        }
        facts[0] = out;
        facts[1] = depth(nodes, nodes[0].child[0]) >= 7;
    }
}
