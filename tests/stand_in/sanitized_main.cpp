// Runs a file of launches and writes the buffers back: a program of its own, since a sanitizer must start with it.
#include "cuda_on_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

extern "C" const host::Kernel* const host_kernels[];
extern "C" const char* host_launch(
    const host::Kernel*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, size_t, int, const char*
);

static FILE* file;

static void read_bytes(void* to, size_t size) {
    if (fread(to, 1, size, file) != size) {
        perror("the file of launches");
        exit(2);
    }
}

static long long read_number() {
    long long number;
    read_bytes(&number, sizeof number);
    return number;
}

int main(int, char** paths) {
    file = fopen(paths[1], "rb");
    if (!file) return perror(paths[1]), 2;
    std::vector<char*> buffers(read_number());
    std::vector<size_t> sizes;
    for (char*& buffer : buffers) {
        sizes.push_back(read_number());
        void* memory;
        if (posix_memalign(&memory, 512, sizes.back())) return perror("a buffer"), 2;
        buffer = (char*)memory;
        read_bytes(buffer, sizes.back());
    }
    for (long long launches = read_number(); launches-- > 0;) {
        const host::Kernel* kernel = host_kernels[read_number()];
        unsigned sizes[6];
        for (unsigned& size : sizes) size = read_number();
        const size_t shared_bytes = read_number();
        const int cooperative = read_number();
        std::vector<long long> arguments(read_number());
        for (long long& argument : arguments) {
            const long long buffer = read_number();
            argument = read_number();
            if (buffer >= 0) argument += (long long)buffers[buffer];
        }
        const char* error = host_launch(
            kernel, sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], shared_bytes, cooperative,
            (const char*)arguments.data()
        );
        if (error) {  // its threads stand where they were: nothing is cleared away
            fprintf(stderr, "%s\n", error);
            _Exit(3);
        }
    }
    fclose(file);
    file = fopen(paths[2], "wb");
    if (!file) return perror(paths[2]), 2;
    for (size_t k = 0; k < buffers.size(); k++) fwrite(buffers[k], 1, sizes[k], file);
    return fclose(file);
}
