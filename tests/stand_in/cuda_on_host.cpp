// The threads of a launch as fibers: they take turns on one thread of the operating system and meet at barriers.
//
// This file is never compiled with a sanitizer, so that its own bookkeeping is not taken for the kernel's. With
// XPNN_THREAD_SANITIZER every fiber is a thread to ThreadSanitizer, and only barriers and atomics order their accesses.
#include "cuda_on_host.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <string>
#include <vector>

#ifdef XPNN_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#define ORDERED(...) __VA_ARGS__
#else
#define ORDERED(...)
#endif
#if defined(XPNN_THREAD_SANITIZER) || defined(XPNN_ADDRESS_SANITIZER)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

// Switching stacks

#if defined(__x86_64__) && !defined(XPNN_UCONTEXT)

// Pushes what a function must keep, and pops it from the other stack.
extern "C" __attribute__((visibility("hidden"))) void host_switch(void** from, void* to);
asm(R"(
    .text
    .hidden host_switch
    .globl host_switch
    .type host_switch, @function
host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size host_switch, .-host_switch
)");

static void* first_frame(char* stack, size_t size, void (*function)()) {
    void** top = (void**)((uintptr_t)(stack + size) & ~uintptr_t(15));
    *--top = nullptr;           // where a function's caller would be: keeps the stack aligned as after a call
    *--top = (void*)function;   // where host_switch returns to
    return top - 6;             // the registers, whatever they are
}

#else

#include <ucontext.h>

static void host_switch(void** from, void* to) {
    ucontext_t mine;
    *from = &mine;
    swapcontext(&mine, (ucontext_t*)to);
}

static void* first_frame(char* stack, size_t size, void (*function)()) {
    ucontext_t* context = (ucontext_t*)stack;  // at its far end; the canary is above it
    getcontext(context);
    context->uc_stack.ss_sp = stack + 4096;
    context->uc_stack.ss_size = size - 4096;
    makecontext(context, function, 0);
    return context;
}

#endif

namespace host {

const Place* here;
dim3 grid_size, block_size;

namespace {

constexpr int lanes = 32;
constexpr int rounds_of_pauses = 1000;           // after so many in which nothing else happens, nothing will
constexpr int loads_without_pause = 10'000'000;  // more is a spin that never lets another thread run
// Not a power of two, so that the tops of the stacks do not share the sets of the cache.
constexpr size_t stack_size = (sanitized ? 256 << 10 : 64 << 10) + 7 * 64;
constexpr int stacks_at_once = 32;
constexpr size_t canary_at = 4096 - 64, canary_size = 64, room_end = 64;
constexpr unsigned char garbage = 0xFF;  // NaN as a float, and what CUDA's memory is before it is written: anything

enum State : unsigned char { ready, paused, at_barrier, at_warp, done };

struct Cursor {
    int at, step;

    // The next of `count` that may run, back and forth: each phase goes through the threads the other way round.
    template <class MayRun> int choose(int count, MayRun may_run) {
        while (!may_run(at)) {
            at += step;
            if (at < 0 || at == count) step = -step, at += step;
        }
        return at;
    }
    void start(int count, bool backwards) { at = backwards ? count - 1 : 0, step = backwards ? -1 : 1; }
};

struct Warp;
struct Block;

struct Thread : Place {
    State state;
    int lane;
    Warp* warp;
    Block* of;
    char* stack;
    void* stack_pointer;
    const char* what;  // the call in which it waits, and where that stands
    Site site;
    ORDERED(void* fiber;)
};

struct Warp {
    Thread* threads;
    int size, runnable, arrived;
    Cursor cursor;
    void* brought[lanes];
    ORDERED(char meetings[2]; int phase;)
};

struct Block {
    Thread* threads;
    Warp* warps;
    int runnable, arrived, finished;
    Cursor cursor;
    char* room;
    ORDERED(char barriers[2]; int phase;)
};

const Kernel* kernel;
const char* arguments;
int threads_of_block, warps_of_block, living_blocks;
size_t room_size;
std::vector<Thread> threads;  // of the blocks that live at once, as the two below
std::vector<Warp> warps;
std::vector<Block> blocks;
Cursor block_cursor;
int runnable, idle_rounds, loads;
bool happened;  // since the last round of pauses
std::vector<Thread*> pausing;
std::vector<char*> free_stacks, all_stacks;
void* main_stack_pointer;
unsigned launches;
std::string message;  // what went wrong
ORDERED(void* main_fiber; char begin, end;)

const char* file_of(Site site) {
    const char* slash = strrchr(site.file_name(), '/');
    return slash ? slash + 1 : site.file_name();
}

Thread* current() { return (Thread*)here; }

char* take_stack() {
    if (free_stacks.empty()) {
        const int how = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        void* memory = mmap(nullptr, stacks_at_once * stack_size, PROT_READ | PROT_WRITE, how, -1, 0);
        if (memory == MAP_FAILED) {
            perror("stacks for the threads of a kernel");
            abort();
        }
        all_stacks.push_back((char*)memory);
        for (int k = stacks_at_once; k-- > 0;) free_stacks.push_back((char*)memory + k * stack_size);
    }
    char* stack = free_stacks.back();
    free_stacks.pop_back();
    if (!sanitized) memset(stack + canary_at, garbage, canary_size);
    return stack;
}

// Runs `next` until it gives way to the caller; nullptr is the launch's own stack.
void run_threads();
void go_to(void** from, Thread* next) {
    if (!next) {
        here = nullptr;
        ORDERED(__tsan_switch_to_fiber(main_fiber, __tsan_switch_to_fiber_no_sync);)
        host_switch(from, main_stack_pointer);
        return;
    }
    if (!next->stack) {
        next->stack = take_stack();
        next->stack_pointer = first_frame(next->stack, stack_size, run_threads);
    }
    here = next;
    ORDERED(__tsan_switch_to_fiber(next->fiber, __tsan_switch_to_fiber_no_sync);)
    host_switch(from, next->stack_pointer);
}

void tell(const char* format, va_list values) {
    char text[1000];
    vsnprintf(text, sizeof text, format, values);
    message += text;
}

__attribute__((format(printf, 1, 2))) void tell(const char* format, ...) {
    va_list values;
    va_start(values, format);
    tell(format, values);
    va_end(values);
}

// Ends the launch for what the running thread did.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...) {
    const uint3 &b = here->block, &t = here->thread;
    tell("kernel %s, block (%u, %u, %u), thread (%u, %u, %u): ", kernel->name, b.x, b.y, b.z, t.x, t.y, t.z);
    va_list values;
    va_start(values, format);
    tell(format, values);
    va_end(values);
    ORDERED(__tsan_release(&end);)
    void* abandoned;
    go_to(&abandoned, nullptr);
    abort();
}

// Nothing can run any more: tells what each group of a block's threads waits for.
void tell_deadlock() {
    tell("kernel %s: deadlock", kernel->name);
    for (const Block& at : blocks) {
        if (at.finished == threads_of_block) continue;
        const uint3& index = at.threads[0].block;
        const char* separator = ": ";
        tell(", block (%u, %u, %u)", index.x, index.y, index.z);
        std::vector<bool> told(threads_of_block);
        for (int t = 0; t < threads_of_block; t++) {
            const Thread& one = at.threads[t];
            int count = 0;
            for (int u = t; u < threads_of_block && !told[t]; u++) {
                const Thread& other = at.threads[u];
                const bool waits_there = one.site.line() == other.site.line() && one.what == other.what;
                if (one.state != other.state || (one.state != done && !waits_there)) continue;
                count++;
                if (u > t) told[u] = true;
            }
            if (told[t]) continue;
            tell("%s%d of %d threads ", separator, count, threads_of_block);
            if (one.state == done) tell("have returned");
            else tell("wait at %s (%s:%d)", one.what, file_of(one.site), one.site.line());
            separator = ", ";
        }
        if (message.size() > 1000) break;
    }
    ORDERED(__tsan_release(&end);)
}

void set_ready(Thread* thread) {
    thread->state = ready;
    thread->warp->runnable++;
    thread->of->runnable++;
    runnable++;
}

void set_waiting(Thread* thread, State state) {
    thread->state = state;
    thread->warp->runnable--;
    thread->of->runnable--;
    runnable--;
}

// The thread to go on with: of the same warp if one can run, else of the same block; nullptr at the end or a deadlock.
Thread* choose() {
    if (!runnable) {
        idle_rounds = happened ? 0 : idle_rounds + 1;
        happened = false;
        if (pausing.empty() || idle_rounds > rounds_of_pauses) {
            int finished = 0;
            for (int b = 0; b < living_blocks; b++) finished += blocks[b].finished;
            if (finished < living_blocks * threads_of_block) tell_deadlock();
            return nullptr;
        }
        for (Thread* thread : pausing) set_ready(thread);
        pausing.clear();
    }
    Block* of = &blocks[block_cursor.choose(living_blocks, [](int k) { return blocks[k].runnable > 0; })];
    Warp* warp = &of->warps[of->cursor.choose(warps_of_block, [=](int k) { return of->warps[k].runnable > 0; })];
    return &warp->threads[warp->cursor.choose(warp->size, [=](int k) { return warp->threads[k].state == ready; })];
}

// Lets others run until this thread is chosen again.
void give_way() {
    Thread* me = current();
    Thread* next = choose();
    if (next != me) go_to(&me->stack_pointer, next);
}

// What a stack runs: a thread, and on the same stack the next one if that has not begun.
void run_threads() {
    for (;;) {
        Thread* me = current();
        ORDERED(__tsan_acquire(&begin);)
        kernel->call(arguments);
        ORDERED(__tsan_release(&end);)
        set_waiting(me, done);
        me->of->finished++;
        happened = true;
        for (size_t k = 0; k < canary_size && !sanitized; k++)
            if ((unsigned char)me->stack[canary_at + k] != garbage) fail("%zu bytes of stack are too few", stack_size);
        char* stack = me->stack;
        me->stack = nullptr;
        Thread* next = choose();
        // A sanitizer remembers who wrote to a stack, so that under one it is not used again before the block's end.
        if (sanitized || !next || next->stack) {
            if (!sanitized) free_stacks.push_back(stack);
            go_to(&me->stack_pointer, next);
            abort();  // a thread that has returned is not chosen again
        }
        next->stack = stack;
        here = next;
    }
}

void set_up(Block& at, unsigned index, bool backwards) {
    at.runnable = threads_of_block;
    at.arrived = at.finished = 0;
    at.cursor.start(warps_of_block, backwards);
    ORDERED(at.phase = 0;)
    if (!sanitized) memset(at.room, garbage, room_size + room_end);
    const uint3 block_index{index % grid_size.x, index / grid_size.x % grid_size.y, index / grid_size.x / grid_size.y};
    uint3 thread_index{0, 0, 0};
    for (int t = 0; t < threads_of_block; t++) {
        Thread& thread = at.threads[t];
        Warp& warp = at.warps[t / lanes];
        if (t % lanes == 0) {
            warp.threads = &thread;
            warp.size = warp.runnable = threads_of_block - t < lanes ? threads_of_block - t : lanes;
            warp.arrived = 0;
            warp.cursor.start(warp.size, backwards);
            ORDERED(warp.phase = 0;)
        }
        thread.thread = thread_index;
        thread.block = block_index;
        thread.room = (unsigned char*)at.room;
        thread.state = ready;
        thread.lane = t % lanes;
        thread.warp = &warp;
        thread.of = &at;
        thread.stack = nullptr;
        ORDERED(thread.fiber = __tsan_create_fiber(0);)
        if (++thread_index.x == block_size.x) {
            thread_index.x = 0;
            if (++thread_index.y == block_size.y) thread_index.y = 0, thread_index.z++;
        }
    }
}

// Runs the blocks that were set up to their end, or to an error.
void run_blocks(bool backwards) {
    runnable = living_blocks * threads_of_block;
    idle_rounds = loads = 0;
    happened = true;
    block_cursor.start(living_blocks, backwards);
    go_to(&main_stack_pointer, choose());
    pausing.clear();
    for (int t = 0; t < living_blocks * threads_of_block; t++) {
        Thread& thread = threads[t];
        if (thread.stack && !sanitized) free_stacks.push_back(thread.stack);
        thread.stack = nullptr;
        ORDERED(if (message.empty()) __tsan_destroy_fiber(thread.fiber);)
    }
    if (sanitized) {
        for (char* memory : all_stacks) munmap(memory, stacks_at_once * stack_size);
        all_stacks.clear();
        free_stacks.clear();
    }
    for (const Block& each : blocks) {
        if (sanitized || !message.empty()) return;
        size_t written = 0;
        for (size_t k = 0; k < room_end; k++)
            if ((unsigned char)each.room[room_size + k] != garbage) written = k + 1;
        if (!written) continue;
        const uint3& b = each.threads[0].block;
        tell("kernel %s, block (%u, %u, %u): wrote %zu bytes ", kernel->name, b.x, b.y, b.z, written);
        tell("beyond its %zu of shared memory", room_size);
    }
}

void arrive(Thread* me, const char* what, Site site) {
    me->what = what;
    me->site = site;
    happened = true;
}

}  // namespace

void sync_threads(Site site) {
    Thread* me = current();
    Block* at = me->of;
    arrive(me, "__syncthreads", site);
    ORDERED(char* barrier = &at->barriers[at->phase % 2]; __tsan_release(barrier);)
    set_waiting(me, at_barrier);
    if (++at->arrived == threads_of_block) {
        at->arrived = 0;
        ORDERED(at->phase++;)
        for (int t = 0; t < threads_of_block; t++) {
            const Site other = at->threads[t].site;
            if (other.line() != site.line())
                fail(
                    "is at __syncthreads in %s:%d while another of its block is at that in %s:%d", file_of(site),
                    site.line(), file_of(other), other.line()
                );
            set_ready(&at->threads[t]);
        }
    } else {
        give_way();
    }
    ORDERED(__tsan_acquire(barrier);)
}

static void meet_in_warp(const char* what, Site site, void* brought, void (*work)(void* const*), bool whole) {
    Thread* me = current();
    Warp* at = me->warp;
    if (whole && at->size != lanes)
        fail("%s in a warp of %d threads (%s:%d)", what, at->size, file_of(site), site.line());
    arrive(me, what, site);
    at->brought[me->lane] = brought;
    ORDERED(char* meeting = &at->meetings[at->phase % 2]; __tsan_release(meeting);)
    set_waiting(me, at_warp);
    if (++at->arrived == at->size) {
        at->arrived = 0;
        ORDERED(at->phase++;)
        for (int t = 0; t < at->size; t++) {
            const Thread& other = at->threads[t];
            if (other.site.line() != site.line() || strcmp(other.what, what))
                fail(
                    "is at %s in %s:%d while another of its warp is at %s in %s:%d", what, file_of(site), site.line(),
                    other.what, file_of(other.site), other.site.line()
                );
            set_ready(&at->threads[t]);
        }
        ORDERED(__tsan_acquire(meeting);)
        if (work) work(at->brought);
        ORDERED(__tsan_release(meeting);)
    } else {
        give_way();
    }
    ORDERED(__tsan_acquire(meeting);)
}

void meet(const char* what, Site site, void* brought, void (*work)(void* const* lanes)) {
    meet_in_warp(what, site, brought, work, true);
}

void sync_warp(Site site) { meet_in_warp("__syncwarp", site, nullptr, nullptr, false); }

// To ThreadSanitizer a fence comes after all fences before it: some races are missed, none is invented.
void fence() {
    ORDERED(static char fences; __tsan_acquire(&fences); __tsan_release(&fences);)
}

void check_row(const void* row, const char* what, Site site) {
    const size_t at = (const char*)row - current()->of->room;
    if ((uintptr_t)row % 16) 
        fail("%s of a row that is not at a multiple of 16 bytes (%s:%d)", what, file_of(site), site.line());
    if (at >= room_size || room_size - at < 16)
        fail("%s of a row outside the block's %zu bytes (%s:%d)", what, room_size, file_of(site), site.line());
}

void note_load(Site site) {
    if (++loads > loads_without_pause) 
        fail("spins at load_acquire without pause() (%s:%d)", file_of(site), site.line());
}

void note_change() { happened = true; }

void pause(Site site) {
    Thread* me = current();
    me->what = "pause";
    me->site = site;
    loads = 0;
    set_waiting(me, paused);
    pausing.push_back(me);
    give_way();
}

}  // namespace host

// Runs a kernel; returns what went wrong, or nullptr. Blocks of a cooperative launch live at once, others in turn.
extern "C" const char* host_launch(
    const host::Kernel* kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
    unsigned block_z, size_t shared_bytes, int cooperative, const char* arguments
) {
    using namespace host;
    host::kernel = kernel;
    host::arguments = arguments;
    grid_size = {grid_x, grid_y, grid_z};
    block_size = {block_x, block_y, block_z};
    threads_of_block = block_x * block_y * block_z;
    warps_of_block = (threads_of_block + lanes - 1) / lanes;
    room_size = shared_bytes;
    message.clear();
    if (threads_of_block > kernel->most_threads) {
        tell(
            "kernel %s: %d threads a block, its __launch_bounds__ are %d", kernel->name, threads_of_block,
            kernel->most_threads
        );
        return message.c_str();
    }
    const int count = grid_x * grid_y * grid_z;
    const bool backwards = ++launches % 2 == 0;
    living_blocks = cooperative ? count : 1;
    threads.resize(living_blocks * threads_of_block);
    warps.resize(living_blocks * warps_of_block);
    blocks.resize(living_blocks);
    // Large enough beforehand: a sanitizer would take their growth for accesses of the running thread.
    pausing.reserve(threads.size());
    free_stacks.reserve(threads.size() + stacks_at_once);
    all_stacks.reserve(threads.size() / stacks_at_once + 1);
    std::vector<void*> rooms(sanitized ? count : living_blocks);  // a sanitizer remembers who wrote to a room, too
    for (void*& room : rooms) {
        if (posix_memalign(&room, 1024, room_size + (sanitized ? 0 : room_end))) abort();
        if (sanitized) memset(room, garbage, room_size);
    }
    ORDERED(main_fiber = __tsan_get_current_fiber(); __tsan_release(&begin);)
    for (int b = 0; b < count && message.empty(); b += living_blocks) {
        for (int k = 0; k < living_blocks; k++) {
            const int index = backwards ? count - 1 - b - k : b + k;
            blocks[k].threads = &threads[k * threads_of_block];
            blocks[k].warps = &warps[k * warps_of_block];
            blocks[k].room = (char*)rooms[sanitized ? b + k : k];
            set_up(blocks[k], index, (index + launches) % 2 == 0);
        }
        run_blocks(backwards);
    }
    ORDERED(__tsan_acquire(&end);)
    for (void* room : rooms) free(room);
    return message.empty() ? nullptr : message.c_str();
}
