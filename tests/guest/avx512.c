// SPDX-License-Identifier: Apache-2.0
/*
 * Processes and threads that keep values of their own in every register of AVX-512 while the kernel
 * switches between them, runs signal handlers that use the same registers, and forks them. Each
 * looks after every turn whether it still finds its own. For tests/guest/run-linux: built static,
 * it runs in a guest and says what it did.
 *
 *     avx512 PROCESSES
 *
 * It goes on until a line comes on its standard input.
 */
#include <immintrin.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TURNS_LEAST 1000

struct registers {
    uint8_t zmm[32][64];
    uint64_t opmask[8];
} __attribute__((aligned(64)));

static volatile sig_atomic_t signals;
static volatile bool *stop; /* shared by all processes */

#define EACH(what)                                                                                \
    what(0) what(1) what(2) what(3) what(4) what(5) what(6) what(7) what(8) what(9) what(10)      \
        what(11) what(12) what(13) what(14) what(15) what(16) what(17) what(18) what(19) what(20) \
            what(21) what(22) what(23) what(24) what(25) what(26) what(27) what(28) what(29)      \
                what(30) what(31)
#define EACH_MASK(what) what(0) what(1) what(2) what(3) what(4) what(5) what(6) what(7)
#define LOAD(n)         "vmovdqu64 " #n "*64(%0), %%zmm" #n "\n"
#define STORE(n)        "vmovdqu64 %%zmm" #n ", " #n "*64(%1)\n"
#define LOAD_MASK(n)    "kmovq 2048+" #n "*8(%0), %%k" #n "\n"
#define STORE_MASK(n)   "kmovq %%k" #n ", 2048+" #n "*8(%1)\n"
#define CLOBBER(n)      "zmm" #n,

/* Load `in`, spin for a while without C, let others run by SCHED_YIELD, store what is there then.
 */
__attribute__((target("avx512f,avx512bw"))) static void keep(const struct registers *in,
                                                             struct registers *out, unsigned spins)
{
    __asm__ volatile(EACH(LOAD) EACH_MASK(LOAD_MASK) "1: dec %k2\n"
                                                     "jnz 1b\n"
                                                     "mov $24, %%eax\n"
                                                     "syscall\n" EACH(STORE) EACH_MASK(STORE_MASK)
                     : "+&r"(in), "+&r"(out), "+&r"(spins)
                     :
                     : "rax", "rcx", "r11", "memory", "cc", EACH(CLOBBER) "k1", "k2", "k3", "k4",
                       "k5", "k6", "k7");
}

static void fill(struct registers *registers, uint64_t seed)
{
    uint64_t *word = (uint64_t *)registers;

    for (size_t i = 0; i < sizeof(*registers) / 8; i++)
        word[i] = (seed + i) * 0x9e3779b97f4a7c15;
}

static void on_signal(int number __attribute__((unused)))
{
    struct registers mine, found;

    fill(&mine, (uint64_t)signals);
    keep(&mine, &found, 1);
    if (memcmp(&mine, &found, sizeof(mine)))
        _exit(3);
    signals++;
}

/* Masked loads and stores beside a page that is not there, compares, gathers: what a library's
 * functions on strings do. */
__attribute__((target("avx512f,avx512bw,avx512vl"))) static bool compute(uint64_t seed)
{
    uint32_t from[16], to[16], doubled[16];
    __m512i indices = _mm512_set_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), value;
    __mmask16 odd;

    for (unsigned i = 0; i < 16; i++)
        from[i] = (uint32_t)(seed >> i) + i;
    value = _mm512_i32gather_epi32(indices, from, 4); /* the other way round */
    odd = _mm512_test_epi32_mask(value, _mm512_set1_epi32(1));
    memset(to, 0, sizeof(to));
    _mm512_mask_storeu_epi32(to, odd, value);
    _mm512_storeu_si512(doubled, _mm512_maskz_add_epi32(odd, value, value));
    for (unsigned i = 0; i < 16; i++) {
        uint32_t wanted = from[15 - i] & 1 ? from[15 - i] : 0;

        if (to[i] != wanted || doubled[i] != 2 * wanted)
            return false;
    }
    return true;
}

/* Turns that went well, or -1. */
static long work(uint64_t seed)
{
    struct registers mine, found;
    long turns = 0;

    while (!*stop || turns < TURNS_LEAST) {
        fill(&mine, seed + (uint64_t)turns);
        memset(&found, 0, sizeof(found));
        keep(&mine, &found, 1 + (unsigned)(turns * 37 % 5000));
        if (memcmp(&mine, &found, sizeof(mine)) || !compute(seed + (uint64_t)turns))
            return -1;
        turns++;
    }
    return turns;
}

static void *thread(void *argument)
{
    return (void *)work((uint64_t)argument * 0x1234567);
}

static int process(unsigned number)
{
    timer_t timer;
    struct itimerspec often = {.it_interval.tv_nsec = 3000000, .it_value.tv_nsec = 3000000};
    pthread_t other;
    void *result;
    long turns;

    signal(SIGALRM, on_signal);
    if (timer_create(CLOCK_MONOTONIC, NULL, &timer) || timer_settime(timer, 0, &often, NULL) ||
        pthread_create(&other, NULL, thread, (void *)(uintptr_t)(number + 1)))
        return 2;
    turns = work((uint64_t)(number + 1) << 32);
    pthread_join(other, &result);
    if (turns < 0 || (long)result < 0) {
        printf("process %u lost its registers\n", number);
        return 1;
    }
    printf("process %u: %ld turns, %d signals\n", number, turns + (long)result, (int)signals);
    return signals ? 0 : 2;
}

int main(int argc, char **argv)
{
    int processes = argc > 1 ? atoi(argv[1]) : 4, failed = 0;

    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl")) {
        printf("avx512: this processor has it not\n");
        return 77;
    }
    stop = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (stop == MAP_FAILED)
        return 2;
    for (int i = 0; i < processes; i++)
        if (fork() == 0) {
            int status = process((unsigned)i);

            fflush(stdout);
            _exit(status);
        }
    printf("avx512: at work\n");
    fflush(stdout);
    for (int byte = 0; processes && byte != '\n' && byte != EOF;)
        byte = getchar();
    *stop = true;
    for (int i = 0, status; i < processes; i++) {
        wait(&status);
        failed |= !WIFEXITED(status) || WEXITSTATUS(status);
    }
    printf("avx512: %s\n", failed ? "failed" : "every process kept its registers");
    return failed;
}
