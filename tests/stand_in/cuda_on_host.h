// What a kernel's source needs to be compiled by g++ and run on the host: included before its first line.
//
// Every CUDA thread is a fiber with a stack of its own, all on one thread of the operating system, so that a run is
// reproducible and a switch costs a few nanoseconds. The fibers are in cuda_on_host.cpp, the work of a warp in
// ptx_on_host.cpp. There is no `__shared__`: kernels take their shared memory by SHARED_MEMORY, as large as launched.
#pragma once

#include <math.h>  // before the words below are defined: the library uses some of them as names of attributes
#include <stddef.h>

#include <source_location>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __CUDA_ARCH__ 900

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };
struct __align__(8) float2 { float x, y; };

namespace host {

// What kernels see of the thread that is running.
struct Place {
    uint3 thread, block;
    unsigned char* room;  // the block's shared memory
};
extern const Place* here;
extern dim3 grid_size, block_size;

// Where a call stands in the kernel: it is told in errors, and threads that meet must come from the same line.
using Site = std::source_location;

void sync_threads(Site at);
void sync_warp(Site at);
void fence();

void pause(Site at);
void note_load(Site at);
void note_change();
void check_row(const void* row, const char* what, Site at);

// Waits for all 32 lanes; the last one calls work(lanes) with what each of them brought, then all go on.
void meet(const char* what, Site at, void* brought, void (*work)(void* const* lanes));

// What lanes bring to a meeting, and what is done there: ptx_on_host.cpp, which no sanitizer sees.
struct Product {
    float* d;
    const unsigned* a;
    unsigned b0, b1;
};
struct Matrices {
    unsigned short row[8];
    unsigned* r;
};
struct Shuffled {
    unsigned long long value, result;  // four or eight bytes of them
    int from;
};
void multiply(void* const* lanes);
void distribute(void* const* lanes);
void distribute_transposed(void* const* lanes);
void shuffle(void* const* lanes);

}  // namespace host

#define threadIdx (::host::here->thread)
#define blockIdx (::host::here->block)
#define blockDim (::host::block_size)
#define gridDim (::host::grid_size)
#define warpSize 32
#define SHARED_MEMORY(name) unsigned char* name = ::host::here->room

inline void __syncthreads(host::Site at = host::Site::current()) { host::sync_threads(at); }
inline void __syncwarp(unsigned = ~0u, host::Site at = host::Site::current()) { host::sync_warp(at); }
inline void __threadfence() { host::fence(); }
inline void __threadfence_block() { host::fence(); }

// The functions of ptx.cuh, whose guard is defined here so that its inline PTX is left out.
#define XPNN_PTX_CUH
inline void mma_bf16(
    float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, host::Site at = host::Site::current()
) {
    host::Product mine{d, a, b0, b1};
    host::meet("mma_bf16", at, &mine, host::multiply);
}
// Each lane reads the row that it points to, here, where a sanitizer sees it.
inline host::Matrices host_row(unsigned (&r)[4], const void* row, const char* what, host::Site at) {
    host::check_row(row, what, at);
    host::Matrices mine{{}, r};
    for (int k = 0; k < 8; k++) mine.row[k] = ((const unsigned short*)row)[k];
    return mine;
}
inline void load_matrices(unsigned (&r)[4], const void* row, host::Site at = host::Site::current()) {
    host::Matrices mine = host_row(r, row, "load_matrices", at);
    host::meet("load_matrices", at, &mine, host::distribute);
}
inline void load_matrices_transposed(unsigned (&r)[4], const void* row, host::Site at = host::Site::current()) {
    host::Matrices mine = host_row(r, row, "load_matrices_transposed", at);
    host::meet("load_matrices_transposed", at, &mine, host::distribute_transposed);
}
inline unsigned load_acquire(const unsigned* number, host::Site at = host::Site::current()) {
    host::note_load(at);
    return __atomic_load_n(number, __ATOMIC_ACQUIRE);
}
inline void add_release(unsigned* number, unsigned value) {
    host::note_change();
    __atomic_fetch_add(number, value, __ATOMIC_RELEASE);
}
inline void pause(host::Site at = host::Site::current()) { host::pause(at); }

// Shuffles of all 32 lanes.
template <class T> T host_shuffle(const char* what, host::Site at, T value, int from) {
    host::Shuffled mine{0, 0, from};
    T result;
    __builtin_memcpy(&mine.value, &value, sizeof(T));
    host::meet(what, at, &mine, host::shuffle);
    __builtin_memcpy(&result, &mine.result, sizeof(T));
    return result;
}
inline int host_lane() {
    const uint3& thread = threadIdx;
    return ((thread.z * blockDim.y + thread.y) * blockDim.x + thread.x) % 32;
}
template <class T> T __shfl_sync(unsigned, T value, int from, host::Site at = host::Site::current()) {
    return host_shuffle("__shfl_sync", at, value, from % 32);
}
template <class T> T __shfl_xor_sync(unsigned, T value, int mask, host::Site at = host::Site::current()) {
    return host_shuffle("__shfl_xor_sync", at, value, host_lane() ^ mask);
}
template <class T> T __shfl_down_sync(unsigned, T value, int by, host::Site at = host::Site::current()) {
    const int lane = host_lane();
    return host_shuffle("__shfl_down_sync", at, value, lane + by < 32 ? lane + by : lane);
}

template <class T> T __ldg(const T* number) { return *number; }
inline unsigned __float_as_uint(float value) { return __builtin_bit_cast(unsigned, value); }
inline float __uint_as_float(unsigned bits) { return __builtin_bit_cast(float, bits); }

// As CUDA's: of a NaN and a number the number.
template <class A, class B> auto max(A a, B b) -> decltype(a + b) {
    if constexpr (decltype(a + b)(0.5) != 0) return ::fmax(decltype(a + b)(a), decltype(a + b)(b));
    else return a < b ? b : a;
}
template <class A, class B> auto min(A a, B b) -> decltype(a + b) {
    if constexpr (decltype(a + b)(0.5) != 0) return ::fmin(decltype(a + b)(a), decltype(a + b)(b));
    else return b < a ? b : a;
}

// Atomic although one thread of the operating system runs them all: so that ThreadSanitizer knows that they are.
template <class T, class V> T atomicAdd(T* at, V value) {
    T before, after;
    __atomic_load(at, &before, __ATOMIC_RELAXED);
    do after = before + T(value);
    while (!__atomic_compare_exchange(at, &before, &after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return before;
}

// What a launch needs of a kernel; KERNEL(name) comes after the source, once for each kernel.
namespace host {

struct Kernel {
    const char* name;
    void (*call)(const char* arguments);  // eight bytes for each
    const char* pointers;                 // for each argument * or a space
    const char* types;                    // for each, or what it points to, a letter of Python's struct, else V
    int most_threads;                     // of a block
};

template <class T> constexpr char letter = 'V';
template <> inline constexpr char letter<bool> = '?';
template <> inline constexpr char letter<char> = 'b';
template <> inline constexpr char letter<signed char> = 'b';
template <> inline constexpr char letter<unsigned char> = 'B';
template <> inline constexpr char letter<short> = 'h';
template <> inline constexpr char letter<unsigned short> = 'H';
template <> inline constexpr char letter<int> = 'i';
template <> inline constexpr char letter<unsigned> = 'I';
template <> inline constexpr char letter<long> = 'q';
template <> inline constexpr char letter<unsigned long> = 'Q';
template <> inline constexpr char letter<long long> = 'q';
template <> inline constexpr char letter<unsigned long long> = 'Q';
template <> inline constexpr char letter<float> = 'f';
template <> inline constexpr char letter<double> = 'd';
template <class T> constexpr char letter<const T> = letter<T>;
template <class T> constexpr char letter<volatile T> = letter<T>;

template <class T> struct Argument { static constexpr char pointer = ' ', type = letter<T>; };
template <class T> struct Argument<T*> { static constexpr char pointer = '*', type = letter<T>; };

template <class... A> struct Arguments {
    static constexpr char pointers[] = {Argument<A>::pointer..., 0};
    static constexpr char types[] = {Argument<A>::type..., 0};

    template <void (*kernel)(A...)> static void call(const char* arguments) {
        call_with<kernel>(arguments, std::index_sequence_for<A...>());
    }
    template <void (*kernel)(A...), size_t... k> static void call_with(
        [[maybe_unused]] const char* arguments, std::index_sequence<k...>
    ) {
        kernel(*(const A*)(arguments + 8 * k)...);
    }
    template <void (*kernel)(A...)>
    static constexpr Kernel describe(const char* name, int most_threads = 1024, int = 0) {
        return {name, call<kernel>, pointers, types, most_threads};
    }
};
template <class... A> Arguments<A...> arguments_of(void (*)(A...));

}  // namespace host

// KERNEL(name, ...) with the arguments of __launch_bounds__ where it has them.
#define KERNEL(kernel, ...) \
    extern "C" const host::Kernel host_kernel_##kernel = \
        decltype(host::arguments_of(kernel))::describe<kernel>(#kernel __VA_OPT__(,) __VA_ARGS__);
