// SPDX-License-Identifier: Apache-2.0
/*
 * What a program asks of its kernel: system calls, files, pipes, signals, page faults, mappings,
 * processes, threads.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "programs.h"

static uint64_t run_getppid(void)
{
    long sum = 0;

    for (int i = 0; i < 20000; i++)
        sum |= syscall(SYS_getppid);
    return sum >= 0;
}

/* Files: open, stat, write, read, close, unlink, in memory. */
static uint64_t run_files(void)
{
    uint64_t sum = 0;
    char name[64], data[1024];
    struct stat status;

    memset(data, 'x', sizeof(data));
    snprintf(name, sizeof(name), "/dev/shm/cpu-programs-%d", getpid());
    for (int i = 0; i < 300; i++) {
        int file = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        if (file < 0 || write(file, data, sizeof(data)) != sizeof(data) || fstat(file, &status) ||
            pread(file, data, 100, 50) != 100)
            fail(name);
        close(file);
        unlink(name);
        sum += status.st_size;
    }
    return sum;
}

static uint64_t run_read(void)
{
    static char data[4096];
    uint64_t sum = 0;
    int file = open("/dev/zero", O_RDONLY | O_CLOEXEC);

    if (file < 0)
        fail("/dev/zero");
    for (int i = 0; i < 8000; i++)
        sum += read(file, data, sizeof(data));
    close(file);
    return sum;
}

/* A byte to a child and back. */
static uint64_t run_pipe(void)
{
    int there[2], back[2];
    uint64_t sum = 0;
    char byte = 1;

    if (pipe2(there, O_CLOEXEC) || pipe2(back, O_CLOEXEC))
        fail("pipe");
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (!child) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1)
            ;
        _exit(0);
    }
    for (int i = 0; i < 300; i++) {
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
            fail("pipe");
        sum += byte;
    }
    close(there[1]);
    close(there[0]);
    close(back[0]);
    close(back[1]);
    waitpid(child, NULL, 0);
    return sum;
}

static volatile sig_atomic_t signals;
static void count_signal(int number)
{
    signals = signals + 1;
}

static uint64_t run_signal(void)
{
    struct sigaction action = {.sa_handler = count_signal};

    signals = 0;
    if (sigaction(SIGUSR1, &action, NULL))
        fail("sigaction");
    for (int i = 0; i < 1500; i++)
        raise(SIGUSR1);
    return signals;
}

#define PAGES 512
static void *map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        fail("mmap");
    return memory;
}

static uint64_t run_faults(void)
{
    uint64_t sum = 0;

    for (int round = 0; round < 4; round++) {
        volatile uint8_t *memory = map(PAGES * 4096);

        for (int i = 0; i < PAGES; i++) {
            memory[i * 4096] = i;
            sum += memory[i * 4096];
        }
        munmap((void *)memory, PAGES * 4096);
    }
    return sum;
}

static uint64_t run_mmap(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < 800; i++) {
        uint8_t *memory = map(16384);

        memory[4096] = i;
        if (mprotect(memory, 8192, PROT_READ))
            fail("mprotect");
        sum += memory[4096];
        munmap(memory, 16384);
    }
    return sum;
}

/* A fault that a handler repairs, as a garbage collector does. */
static uint8_t *guarded;
static void unprotect(int number)
{
    signals = signals + 1;
    mprotect(guarded, 4096, PROT_READ | PROT_WRITE);
}

static uint64_t run_segv(void)
{
    struct sigaction action = {.sa_handler = unprotect}, before;

    guarded = map(4096);
    signals = 0;
    if (sigaction(SIGSEGV, &action, &before))
        fail("sigaction");
    for (int i = 0; i < 1000; i++) {
        mprotect(guarded, 4096, PROT_READ);
        *(volatile uint8_t *)guarded = i;
    }
    sigaction(SIGSEGV, &before, NULL);
    munmap(guarded, 4096);
    return signals;
}

static uint64_t run_fork(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < 12; i++) {
        int status;
        pid_t child = fork();

        if (child < 0)
            fail("fork");
        if (!child)
            _exit(i);
        waitpid(child, &status, 0);
        sum += WEXITSTATUS(status);
    }
    return sum;
}

static uint64_t run_exec(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < 8; i++) {
        int status;
        pid_t child = fork();

        if (child < 0)
            fail("fork");
        if (!child) {
            execl("/proc/self/exe", "cpu-programs", "--nothing", NULL);
            _exit(1);
        }
        waitpid(child, &status, 0);
        sum += status == 0;
    }
    return sum;
}

/* Two threads that wake each other. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static int turns;

static void take_turns(int mine)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < 400; i++) {
        while (turns % 2 != mine)
            pthread_cond_wait(&turned, &lock);
        turns++;
        pthread_cond_signal(&turned);
    }
    pthread_mutex_unlock(&lock);
}

static void *other_thread(void *unused)
{
    take_turns(1);
    return NULL;
}

static uint64_t run_threads(void)
{
    pthread_t other;

    turns = 0;
    if ((errno = pthread_create(&other, NULL, other_thread, NULL)))
        fail("pthread_create");
    take_turns(0);
    pthread_join(other, NULL);
    return turns;
}

const struct program system_programs[] = {
    {"getppid", "system", NULL, run_getppid}, {"read-4k", "system", NULL, run_read},
    {"files", "system", NULL, run_files},     {"pipe", "system", NULL, run_pipe},
    {"signal", "system", NULL, run_signal},   {"segv", "system", NULL, run_segv},
    {"faults", "system", NULL, run_faults},   {"mmap", "system", NULL, run_mmap},
    {"threads", "system", NULL, run_threads}, {"fork", "system", NULL, run_fork},
    {"exec", "system", NULL, run_exec},       {NULL, NULL, NULL, NULL},
};
