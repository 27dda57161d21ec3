// The instructions that CUDA C++ has no words for: for tensor cores, and for waiting on other blocks. Source: the PTX ISA,
// sections on mma, ldmatrix, ld.acquire and red.release.
#ifndef XPNN_PTX_CUH
#define XPNN_PTX_CUH

// d += a b for one warp: a (16, 16) by rows, b (16, 8) by columns, both bf16, d (16, 8) float32. With g = lane / 4 and
// t = lane % 4 a lane holds
//   a[0] = a(g, 2t..2t+1)    a[1] = a(g + 8, 2t..2t+1)    a[2] = a(g, 2t+8..2t+9)    a[3] = a(g + 8, 2t+8..2t+9)
//   b0 = b(2t..2t+1, g)      b1 = b(2t+8..2t+9, g)
//   d[0..1] = d(g, 2t..2t+1) d[2..3] = d(g + 8, 2t..2t+1)
__device__ __forceinline__ void mma_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    __trap();  // older devices have no bf16 products; the host never launches this there
#endif
}

// Four matrices (8, 8) of 16-bit numbers from shared memory: lane i gives the address of row i % 8 of matrix i / 8 and
// gets, of matrix j, the numbers (lane / 4, 2 (lane % 4)) and the one right of it in r[j].
__device__ __forceinline__ void load_matrices(unsigned (&r)[4], const void* row) {
    unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

// The same of the transposed matrices.
__device__ __forceinline__ void load_matrices_transposed(unsigned (&r)[4], const void* row) {
    unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 700  // older devices have no such instructions
// Read a number so that what its writer did before it is seen.
__device__ __forceinline__ unsigned load_acquire(const unsigned* at) {
    unsigned value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
    return value;
}

// Add to a number so that who reads it sees what was done before.
__device__ __forceinline__ void add_release(unsigned* at, unsigned value) {
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" : : "l"(at), "r"(value) : "memory");
}

// Let others go first.
__device__ __forceinline__ void pause() { __nanosleep(20); }
#endif

#endif
