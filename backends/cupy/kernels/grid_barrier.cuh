// A barrier of all blocks of a cooperative launch, which are all on the device at once.
#pragma once

// `arrived` counts from 0, in all the launch; `phase` is the number of this barrier, from 1. What any thread wrote
// before is seen by every thread behind.
__device__ __forceinline__ void grid_barrier(unsigned* arrived, unsigned phase) {
    __syncthreads();
    if (threadIdx.x == 0) {
        add_release(arrived, 1);
        while (load_acquire(arrived) < phase * gridDim.x) pause();
    }
    __syncthreads();
}
