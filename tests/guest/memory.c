// SPDX-License-Identifier: Apache-2.0
/*
 * A process that changes its address space in every way that Linux has, and looks at each byte: it
 * must find what it wrote, zeros, or a fault, as after any change of page tables (SDM 3A, 4.10.4).
 * For tests/guest/run-linux: built static, it runs in a guest, and says the same there as on the
 * host. It begins with a tenth of a second of nothing but reads and writes, after which an engine
 * knows it as a process that is worth an effort.
 *
 *     memory ROUNDS
 *
 * with so many rounds of what two threads do.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE    4096UL
#define PAGES   64UL
#define WORDS   (PAGE / 8)
#define LARGE   (2UL << 20)
#define ROUNDS  400
#define OLD     0x1111111100000000UL
#define FOREIGN 0xffffffff00000000UL

static uint64_t *region; /* of PAGES */
static uint64_t model[PAGES * WORDS];
static uint64_t random_state = 1;

static void fail(const char *what, uint64_t where, uint64_t is)
{
    printf("memory: %s: at %lx is %lx\n", what, where, is);
    fflush(stdout);
    _exit(1);
}

static uint64_t roll(uint64_t below)
{
    random_state = random_state * 6364136223846793005UL + 1442695040888963407UL;
    return (random_state >> 33) % below;
}

static void *map(void *at, size_t size, int flags, int fd)
{
    void *got = mmap(at, size, PROT_READ | PROT_WRITE, flags | (at ? MAP_FIXED : 0), fd, 0);

    if (got == MAP_FAILED)
        fail("mmap", (uint64_t)at, (uint64_t)errno);
    return got;
}

#define ANONYMOUS   (MAP_PRIVATE | MAP_ANONYMOUS)
#define CHECK(call) ((call) == 0 ? (void)0 : fail(#call, 0, (uint64_t)errno))

/* ---- faults ---- */

static volatile sig_atomic_t faults;
static _Thread_local sigjmp_buf escape;
static _Thread_local volatile bool escapes;

/* Mend the page: a new one where there is none, the right to write where that is missing. */
static void on_fault(int signal, siginfo_t *info, void *context)
{
    void *page = (void *)((uintptr_t)info->si_addr & ~(PAGE - 1));

    if (escapes)
        siglongjmp(escape, 1);
    faults++;
    if (info->si_code == SEGV_MAPERR)
        map(page, PAGE, ANONYMOUS, -1);
    else if (mprotect(page, PAGE, PROT_READ | PROT_WRITE) != 0)
        fail("a fault", (uint64_t)info->si_addr, (uint64_t)info->si_code);
}

/* Whether the word can be read. */
static bool is_legible(const volatile uint64_t *word)
{
    bool legible = false;

    escapes = true;
    if (!sigsetjmp(escape, 0)) {
        (void)*word;
        legible = true;
    }
    escapes = false;
    return legible;
}

/* ---- one thread ---- */

/* Keep memory and model the same. */
static void put(uint64_t at, uint64_t value)
{
    region[at] = model[at] = value;
}

static void verify(const char *what)
{
    for (uint64_t i = 0; i < PAGES * WORDS; i++)
        if (region[i] != model[i])
            fail(what, i, region[i]);
}

static void write_some(void)
{
    for (unsigned i = 0; i < 256; i++)
        put(roll(PAGES * WORDS), random_state);
}

static void report(const char *what)
{
    uint64_t sum = 0;

    verify(what);
    for (uint64_t i = 0; i < PAGES * WORDS; i++)
        sum = sum * 31 + region[i];
    printf("memory: %s: %016lx after %d faults\n", what, sum, (int)faults);
}

static void run_for_long(void)
{
    clock_t end = clock() + CLOCKS_PER_SEC / 10;

    while (clock() < end) {
        for (unsigned i = 0; i < 100; i++)
            for (uint64_t j = 0; j < PAGES * WORDS; j += 37)
                region[j] = ~region[j];
        if (memcmp(region, model, sizeof(model)) != 0)
            fail("run", 0, 0);
    }
}

static void protect(void)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t page = roll(PAGES), count = 1 + roll(PAGES - page);

        CHECK(mprotect(region + page * WORDS, count * PAGE, i & 1 ? PROT_READ : PROT_NONE));
        if (!(i & 1) && is_legible(&region[page * WORDS]))
            fail("protect", page, 0);
        write_some();
        if (i & 1)
            verify("protect");
    }
    CHECK(mprotect(region, PAGES * PAGE, PROT_READ | PROT_WRITE));
}

/* Pages that go, and are zero when they come again. */
static void unmap(void)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t page = roll(PAGES), count = 1 + roll(8) % (PAGES - page);

        if (i % 3 == 0)
            CHECK(munmap(region + page * WORDS, count * PAGE));
        else if (i % 3 == 1)
            CHECK(madvise(region + page * WORDS, count * PAGE, MADV_DONTNEED));
        else
            map(region + page * WORDS, count * PAGE, ANONYMOUS, -1);
        if (i % 3 == 0 && is_legible(&region[page * WORDS]))
            fail("unmap", page, 0);
        memset(model + page * WORDS, 0, count * PAGE);
        write_some();
        verify("unmap");
    }
}

/* As one mapping of the kernel's, which mremap asks for. */
static void move(void)
{
    uint64_t *other = region;

    region = map(NULL, PAGES * PAGE, ANONYMOUS, -1);
    memcpy(region, model, sizeof(model));
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t *from = region;

        if (mremap(region, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other) !=
            other)
            fail("mremap", 0, (uint64_t)errno);
        region = other;
        other = from;
        if (is_legible(&other[roll(PAGES) * WORDS]))
            fail("move", 0, 0);
        write_some();
        verify("move");
    }
}

/* Each writes to pages that it has in common with the other. */
static void fork_often(void)
{
    for (unsigned i = 0; i < 12; i++) {
        pid_t child;
        int status;

        fflush(stdout);
        child = fork();
        if (child == 0)
            random_state ^= i;
        for (unsigned j = 0; j < 8; j++) {
            write_some();
            verify(child ? "parent" : "child");
        }
        if (child == 0)
            _exit(0);
        if (waitpid(child, &status, 0) != child || status != 0)
            fail("fork", i, (uint64_t)status);
    }
}

/* Transparent huge pages: they come, are split, and come again. */
static void use_large(void)
{
    uint8_t *all = map(NULL, 5 * LARGE, ANONYMOUS, -1);
    uint8_t *large = (uint8_t *)(((uintptr_t)all + LARGE - 1) & ~(LARGE - 1));

    madvise(large, 4 * LARGE, MADV_HUGEPAGE);
    for (unsigned i = 0; i < 24; i++) {
        uint64_t at = roll(4 * LARGE / PAGE) * PAGE, byte = 1 + i;
        bool gone = i & 1;

        memset(large, (int)byte, 4 * LARGE);
        if (gone)
            CHECK(madvise(large + at, PAGE, MADV_DONTNEED));
        else
            CHECK(mprotect(large + at, PAGE, PROT_READ));
        large[at + 8] = 0xff; /* faults, or is the first write to a new page */
        for (uint64_t j = 0; j < 4 * LARGE; j += 8) {
            uint64_t wanted = j - at < PAGE && gone ? 0 : byte * 0x0101010101010101UL, is;

            memcpy(&is, large + j, 8);
            if (is != (j == at + 8 ? (wanted & ~0xffUL) | 0xff : wanted))
                fail("large", j, is);
        }
        if (i % 8 == 7)
            CHECK(madvise(large, 4 * LARGE, MADV_DONTNEED));
    }
    CHECK(munmap(all, 5 * LARGE));
}

/* A file at two addresses, which gets shorter. */
static void share(void)
{
    int fd = memfd_create("memory", MFD_CLOEXEC);
    volatile uint64_t *one, *two;

    CHECK(ftruncate(fd, 4 * (off_t)PAGE));
    one = map(NULL, 4 * PAGE, MAP_SHARED, fd);
    two = map(NULL, 4 * PAGE, MAP_SHARED, fd);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t at = roll(4 * WORDS);

        one[at] = random_state;
        if (two[at] != one[at])
            fail("share", at, two[at]);
        CHECK(ftruncate(fd, (off_t)PAGE));
        if (is_legible(&two[WORDS]) || is_legible(&one[3 * WORDS]))
            fail("truncate", at, 0);
        CHECK(ftruncate(fd, 4 * (off_t)PAGE));
        if (one[WORDS] | two[3 * WORDS])
            fail("extend", at, one[WORDS]);
    }
    close(fd);
}

/* Code that is written where it runs, and by another address. */
static void modify_code(void)
{
    int fd = memfd_create("code", MFD_CLOEXEC);
    static const uint8_t code[] = {0xb8, 0, 0, 0, 0, 0xc3}; /* MOV EAX, n; RET */
    uint8_t *write, *run;
    uint32_t sum = 0;

    CHECK(ftruncate(fd, (off_t)PAGE));
    write = map(NULL, PAGE, MAP_SHARED, fd);
    run = map(NULL, PAGE, MAP_SHARED, fd);
    CHECK(mprotect(run, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
    memcpy(write, code, sizeof(code));
    for (uint32_t i = 1; i < 2000; i++) {
        uint32_t got;

        memcpy((i & 1 ? write : run) + 1, &i, sizeof(i));
        got = ((uint32_t(*)(void))(uintptr_t)run)();
        if (got != i)
            fail("code", i, got);
        write[64 + i % 64]++; /* data beside code */
        sum += got + run[64 + i % 64];
    }
    printf("memory: code: %x\n", sum);
    close(fd);
}

/* ---- two threads ---- */

static atomic_bool over;
static _Atomic bool reading; /* the reader has read */

/* The word, or `otherwise` where it faults. */
static uint64_t read_or(const volatile uint64_t *word, uint64_t otherwise)
{
    volatile uint64_t value = otherwise;

    escapes = true;
    if (!sigsetjmp(escape, 0))
        value = *word;
    escapes = false;
    return value;
}

/* Each page is as it was filled, or absent. */
static void *read_all(void *opaque)
{
    const volatile uint64_t *volatile shared = opaque;

    while (!atomic_load(&over)) {
        for (uint64_t i = 0; i < PAGES; i++) {
            uint64_t value = read_or(&shared[i * WORDS], UINT64_MAX);

            if (value != UINT64_MAX && value != (OLD | i))
                fail("another thread's page", i, value);
            if (value != UINT64_MAX)
                atomic_store(&reading, true);
        }
    }
    return NULL;
}

static void fill(uint64_t *pages, uint64_t with)
{
    for (uint64_t i = 0; i < PAGES * WORDS; i++)
        pages[i] = with | i / WORDS;
}

/* What is unmapped here is used for something else at once, then is there again. */
static void unmap_from_threads(unsigned rounds)
{
    uint64_t *shared = map(NULL, PAGES * PAGE, ANONYMOUS, -1), *foreign, *again;
    pthread_t reader;

    fill(shared, OLD);
    if (pthread_create(&reader, NULL, read_all, shared) != 0)
        fail("pthread_create", 0, 0);
    while (!atomic_load(&reading)) /* a busy host begins threads late */
        sched_yield();
    for (unsigned i = 0; i < rounds; i++) {
        CHECK(mprotect(shared, PAGES * PAGE, PROT_NONE)); /* nobody else gets the place */
        CHECK(madvise(shared, PAGES * PAGE, MADV_DONTNEED));
        foreign = map(NULL, PAGES * PAGE, ANONYMOUS, -1);
        fill(foreign, FOREIGN);
        again = map(NULL, PAGES * PAGE, ANONYMOUS, -1);
        fill(again, OLD);
        if (mremap(again, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, shared) !=
            shared)
            fail("mremap", i, (uint64_t)errno);
        CHECK(munmap(foreign, PAGES * PAGE));
    }
    atomic_store(&over, true);
    pthread_join(reader, NULL);
    printf("memory: threads: old pages or none\n");
    CHECK(munmap(shared, PAGES * PAGE));
}

/* A page that another thread writes, until it may not. */
static void *write_one(void *opaque)
{
    volatile uint64_t *word = opaque;

    while (!atomic_load(&over)) {
        escapes = true;
        if (!sigsetjmp(escape, 0))
            for (unsigned i = 0; i < 1000; i++)
                ++*word;
        escapes = false;
    }
    return NULL;
}

static void protect_from_threads(unsigned rounds)
{
    volatile uint64_t *word = map(NULL, PAGE, ANONYMOUS, -1);
    uint64_t start = 0;
    pthread_t writer;

    atomic_store(&over, false);
    if (pthread_create(&writer, NULL, write_one, (void *)word) != 0)
        fail("pthread_create", 0, 0);
    for (unsigned i = 0; i < rounds; i++) {
        uint64_t before;

        while (*word == start) /* it writes */
            sched_yield();
        CHECK(mprotect((void *)word, PAGE, PROT_READ));
        before = *word;
        for (unsigned j = 0; j < 1000; j++)
            if (*word != before)
                fail("a page that may not be written", i, *word);
        start = before;
        CHECK(mprotect((void *)word, PAGE, PROT_READ | PROT_WRITE));
    }
    atomic_store(&over, true);
    pthread_join(writer, NULL);
    printf("memory: writer: stops when it must\n");
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 200;
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {{"protect", protect}, {"unmap", unmap}, {"move", move},       {"fork", fork_often},
                 {"large", use_large}, {"share", share}, {"code", modify_code}};

    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    region = map(NULL, PAGES * PAGE, ANONYMOUS, -1);
    write_some();
    run_for_long();
    for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        parts[i].run();
        report(parts[i].name);
    }
    unmap_from_threads(rounds);
    protect_from_threads(rounds);
    printf("memory: all is where it was put\n");
    return 0;
}
