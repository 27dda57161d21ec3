// What a warp does together, with the layouts of fragments of the PTX ISA (mma.m16n8k16, ldmatrix.x4).
#include "cuda_on_host.h"

namespace host {

namespace {

float low(unsigned pair) { return __uint_as_float(pair << 16); }
float high(unsigned pair) { return __uint_as_float(pair & 0xFFFF0000u); }

using Row = float __attribute__((vector_size(32)));  // of the 8 columns of B and D

// Lane 8 i + j brought row j of matrix i.
template <bool transposed> void distribute_rows(void* const* lanes) {
    for (int lane = 0; lane < 32; lane++)
        for (int matrix = 0; matrix < 4; matrix++) {
            auto at = [&](int row, int column) { return ((const Matrices*)lanes[8 * matrix + row])->row[column]; };
            const int g = lane / 4, t = 2 * (lane % 4);
            const unsigned first = transposed ? at(t, g) : at(g, t), second = transposed ? at(t + 1, g) : at(g, t + 1);
            ((const Matrices*)lanes[lane])->r[matrix] = first | second << 16;
        }
}

}  // namespace

// Half of the time where there are vectors of eight; as their resolver cannot run under a sanitizer, not there.
#if defined(__x86_64__) && !defined(XPNN_THREAD_SANITIZER) && !defined(XPNN_ADDRESS_SANITIZER)
__attribute__((target_clones("avx2", "default")))
#endif
void multiply(void* const* lanes) {
    float a[16][16];
    Row b[16], d[16];
    for (int lane = 0; lane < 32; lane++) {
        const Product& mine = *(const Product*)lanes[lane];
        const int g = lane / 4, t = lane % 4;
        for (int k = 0; k < 4; k++) {  // the register: of the rows g or g + 8, of the columns 2t or 2t + 8
            a[g + k % 2 * 8][2 * t + k / 2 * 8] = low(mine.a[k]);
            a[g + k % 2 * 8][2 * t + k / 2 * 8 + 1] = high(mine.a[k]);
            d[g + k / 2 * 8][2 * t + k % 2] = mine.d[k];
        }
        b[2 * t][g] = low(mine.b0), b[2 * t + 1][g] = high(mine.b0);
        b[2 * t + 8][g] = low(mine.b1), b[2 * t + 9][g] = high(mine.b1);
    }
    for (int m = 0; m < 16; m++) {
        Row sum = d[m];
        for (int k = 0; k < 16; k++) sum += a[m][k] * b[k];
        d[m] = sum;
    }
    for (int lane = 0; lane < 32; lane++) {
        float* mine = ((const Product*)lanes[lane])->d;
        for (int k = 0; k < 4; k++) mine[k] = d[lane / 4 + k / 2 * 8][2 * (lane % 4) + k % 2];
    }
}

void distribute(void* const* lanes) { distribute_rows<false>(lanes); }
void distribute_transposed(void* const* lanes) { distribute_rows<true>(lanes); }

void shuffle(void* const* lanes) {
    for (int lane = 0; lane < 32; lane++) {
        Shuffled& mine = *(Shuffled*)lanes[lane];
        mine.result = ((const Shuffled*)lanes[mine.from])->value;
    }
}

}  // namespace host
