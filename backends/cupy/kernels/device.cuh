// What every kernel builds on: number types, the network's shape, shared memory, and sums over a warp.
//
// The host compiles the kernels for one training and says by macros what it is:
//   REAL              float32 or float64: weights and arithmetic
//   PIXEL             type of the images' numbers as they came
//   SCALE             what integer pixels are multiplied by; 1 for floating ones
//   LAYERS            dense layers; layer l = 1, 2, ... has SIZES[l - 1] inputs and SIZES[l] outputs
//   LAYER_SIZES       SIZES, with commas between them
//   FEATURES, UNITS   SIZES[0] and SIZES[1], where the compiler must know them
//   WEIGHTS_AT        for each layer and the end: where its weights begin in the parameters, with commas
//   OUTPUTS_AT        for each l: sum of SIZES[1], ..., SIZES[l - 1], with commas; of l = 0 it is 0
//   ACTIVATION        of the hidden layers: a function of activations.cuh
//   THREADS           of a block
//   PARTS             bf16 parts into which a number is split for the tensor cores; 0 for none
// and by more where they are used. A layer's parameters are one matrix, (inputs + 1, outputs): its last row is the
// bias, the weights of an input that is always 1.
#pragma once

typedef signed char int8;
typedef unsigned char uint8;
typedef short int16;
typedef unsigned short uint16;
typedef int int32;
typedef unsigned int uint32;
typedef long long int64;
typedef unsigned long long uint64;
typedef float float32;
typedef double float64;

__constant__ const int SIZES[LAYERS + 1] = {LAYER_SIZES};
__constant__ const int WEIGHT_AT[LAYERS + 1] = {WEIGHTS_AT};
__constant__ const int OUTPUT_AT[LAYERS + 2] = {OUTPUTS_AT};

// One room for a block, whose size the launch gives: tests that run on a processor define it in their own way.
#ifndef SHARED_MEMORY
extern __shared__ __align__(16) unsigned char shared_memory[];
#define SHARED_MEMORY(name) unsigned char* name = shared_memory
#endif

__device__ __forceinline__ constexpr int padded(int count, int unit) { return (count + unit - 1) / unit * unit; }

__device__ __forceinline__ constexpr int larger(int a, int b) { return a > b ? a : b; }

// The sum over the first `lanes` lanes of each group of them, a power of two, in each of them.
template <class T>
__device__ __forceinline__ T sum_over(T x, int lanes) {
    for (int lane = 1; lane < lanes; lane *= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, lane);
    return x;
}

// Four pixels that stand side by side in a row of images, from `first` on, as numbers; 0 beyond the row's end.
struct Pixels {
    REAL x[4];
};

__device__ __forceinline__ Pixels four_pixels(const PIXEL* row, int first) {
    Pixels four;
    if (sizeof(PIXEL) == 1 && sizeof(REAL) == 4 && FEATURES % 4 == 0) {  // one load, and a float32 without a conversion:
        const unsigned word = first < FEATURES ? *reinterpret_cast<const unsigned*>(row + first) : 0;
        for (int i = 0; i < 4; ++i) {  // the byte in the last bits of 2^23 makes 2^23 + byte
            const unsigned byte = word >> 8 * i & 255;
            four.x[i] = REAL(__uint_as_float(0x4B000000u | byte) - 8388608.0f);
        }
    } else {
        for (int i = 0; i < 4; ++i) four.x[i] = first + i < FEATURES ? REAL(row[first + i]) : REAL(0);
    }
    return four;
}
