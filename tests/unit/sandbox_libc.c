// SPDX-License-Identifier: Apache-2.0
/*
 * What a vmm asks of the C library and of GLib works under the filter of each kind of thread, with
 * the libraries that this host has: they choose which system calls they make of it, and another
 * version may choose others. A row is a function and the threads that use it; a child enters the
 * sandbox, makes a thread of each kind and calls there what its kind calls.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vmm/monitor/sandbox.h"
#include "vmm/util/log.h"
#include "vmm/util/thread.h"

#define KINDS(kind) (1U << (kind))
#define MAIN        KINDS(THREAD_MAIN)
#define IO          KINDS(THREAD_IO)
#define CHARDEV     KINDS(THREAD_CHARDEV)
#define SAVE        KINDS(THREAD_SAVE)
#define ALL         (KINDS(THREAD_KINDS) - 1)
#define BLOCKS      4096
#define BLOCK_SIZE  4000
#define SHOWN_MAX   500 /* characters of what was said */

/* Opened before the sandbox closes. */
static int file_fd, socket_fds[2], epoll_fd;

/* ---- what is called; false when it does not do what it is for ---- */

/* Grows the heap of the thread's arena and trims it, for which the allocator looks into /proc. */
static bool use_heap(void)
{
    static _Thread_local void *blocks[BLOCKS];
    bool good = true;

    for (unsigned i = 0; i < BLOCKS; i++)
        good &= (blocks[i] = malloc(BLOCK_SIZE)) != NULL;
    for (unsigned i = BLOCKS; i > 0; i--)
        free(blocks[i - 1]);
    malloc_trim(0);
    return good;
}

static bool use_large_blocks(void)
{
    char *block = malloc(8 << 20), *grown = realloc(block, 64 << 20);
    void *aligned = NULL;
    bool good = grown && posix_memalign(&aligned, 4096, 1 << 20) == 0;

    free(grown);
    free(aligned);
    return good;
}

static int compare(const void *one, const void *other)
{
    return *(const int *)one - *(const int *)other;
}

/* For much it asks how much memory there is. */
static bool sort(void)
{
    int *numbers = g_new(int, 100000);

    for (int i = 0; i < 100000; i++)
        numbers[i] = (i * 7919) % 100000;
    qsort(numbers, 100000, sizeof(int), compare);
    bool good = numbers[0] == 0 && numbers[99999] == 99999;
    g_free(numbers);
    return good;
}

static bool print(void)
{
    char text[64], *end;

    snprintf(text, sizeof(text), "%d %.3f", 42, 1.5);
    return strtol(text, &end, 10) == 42 && strtod(end, NULL) > 1 &&
           fprintf(stderr, "%s", "") == 0 && fflush(stderr) == 0;
}

static bool log_line(void)
{
    volatile int number = EXDEV;

    g_message("%s, %s", g_strerror(number), g_strsignal(SIGTERM));
    return true;
}

static bool tell_time(void)
{
    struct timespec now;

    return clock_gettime(CLOCK_MONOTONIC, &now) == 0 && clock_gettime(CLOCK_BOOTTIME, &now) == 0 &&
           g_get_monotonic_time() > 0 && g_get_real_time() > 0 && time(NULL) > 0;
}

static bool wait_a_moment(void)
{
    const struct timespec moment = {.tv_nsec = 1000};
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    pthread_mutex_lock(&lock);
    int result = pthread_cond_clockwait(&changed, &lock, CLOCK_MONOTONIC, &until);
    pthread_mutex_unlock(&lock);
    return result == ETIMEDOUT && nanosleep(&moment, NULL) == 0 &&
           clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL) == 0 && sched_yield() == 0;
}

static bool draw_random_numbers(void)
{
    char bytes[16];

    (void)g_random_int();
    return getrandom(bytes, sizeof(bytes), GRND_NONBLOCK) == sizeof(bytes);
}

static bool map_memory(void)
{
    char *page = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return page != MAP_FAILED && mprotect(page, 4096, PROT_READ) == 0 &&
           madvise(page, 1 << 20, MADV_DONTNEED) == 0 && munmap(page, 1 << 20) == 0;
}

static void on_signal(int number)
{
}

static bool take_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return sigaction(SIGUSR2, &action, NULL) == 0 && sigaction(SIGRTMIN, &action, NULL) == 0 &&
           sigaction(SIGRTMAX, &action, NULL) == 0 &&
           pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0 &&
           pthread_kill(pthread_self(), SIGUSR2) == 0 && raise(SIGUSR2) == 0;
}

static bool wake_another(void)
{
    uint64_t one = 1;
    int fd = socket_fds[0];

    return write(fd, &one, sizeof(one)) == sizeof(one) && syscall(SYS_membarrier, 0, 0, 0) > 0;
}

static bool look_at_the_host(void)
{
    return sysconf(_SC_PAGESIZE) == 4096 && sysconf(_SC_NPROCESSORS_ONLN) > 0 &&
           sysconf(_SC_PHYS_PAGES) > 0;
}

static void *nothing(void *opaque)
{
    return opaque;
}

static bool make_threads(void)
{
    GThread *thread = g_thread_try_new("thread", nothing, &file_fd, NULL);
    pthread_t other;

    return thread && g_thread_join(thread) == &file_fd &&
           pthread_create(&other, NULL, nothing, NULL) == 0 && pthread_join(other, NULL) == 0;
}

static gboolean quit(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

static bool run_a_main_loop(void)
{
    GMainContext *context = g_main_context_new();
    GMainLoop *loop = g_main_loop_new(context, FALSE);
    GSource *timer = g_timeout_source_new(1);

    g_source_set_callback(timer, quit, loop, NULL);
    g_source_attach(timer, context);
    g_main_loop_run(loop);
    g_source_unref(timer);
    g_main_loop_unref(loop);
    g_main_context_unref(context);
    return true;
}

static bool use_memory_files(void)
{
    int fd = memfd_create("file", MFD_CLOEXEC | MFD_ALLOW_SEALING), copy;
    bool good = fd >= 0 && ftruncate(fd, 8192) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) == 0 &&
                fcntl(fd, F_GET_SEALS) == F_SEAL_GROW;

    copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    good &= copy >= 0 && close(copy) == 0;
    return close(fd) == 0 && good;
}

static bool use_files(void)
{
    char bytes[16] = "bytes";
    struct iovec piece = {bytes, sizeof(bytes)};

    return pwrite(file_fd, bytes, 16, 0) == 16 && pread(file_fd, bytes, 16, 0) == 16 &&
           pwritev(file_fd, &piece, 1, 0) == 16 && preadv(file_fd, &piece, 1, 0) == 16 &&
           fdatasync(file_fd) == 0 && lseek(file_fd, 0, SEEK_DATA) == 0 &&
           fallocate(file_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0;
}

static bool use_sockets(void)
{
    char byte = 0;
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    struct pollfd polled = {.fd = socket_fds[0], .events = POLLOUT};

    return send(socket_fds[0], &byte, 1, MSG_NOSIGNAL) == 1 &&
           sendmsg(socket_fds[0], &message, MSG_NOSIGNAL) == 1 && poll(&polled, 1, 0) == 1;
}

static bool wait_for_many(void)
{
    struct epoll_event event = {.events = EPOLLOUT};
    const struct itimerspec soon = {.it_value.tv_nsec = 1};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), wake = eventfd(0, EFD_CLOEXEC);
    bool good = timer >= 0 && wake >= 0 && timerfd_settime(timer, 0, &soon, NULL) == 0;

    good &= epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wake, &event) == 0 &&
            epoll_wait(epoll_fd, &event, 1, 100) == 1;
    close(timer);
    close(wake);
    return good;
}

static bool name_itself(void)
{
    return prctl(PR_SET_NAME, "thread") == 0;
}

static const struct {
    const char *name;
    bool (*call)(void);
    unsigned kinds;
} rows[] = {
    {"use_heap", use_heap, ALL},
    {"use_large_blocks", use_large_blocks, ALL},
    {"sort", sort, ALL},
    {"print", print, ALL},
    {"log_line", log_line, ALL},
    {"tell_time", tell_time, ALL},
    {"wait_a_moment", wait_a_moment, ALL},
    {"draw_random_numbers", draw_random_numbers, ALL},
    {"map_memory", map_memory, ALL},
    {"take_signals", take_signals, ALL},
    {"wake_another", wake_another, ALL},
    {"look_at_the_host", look_at_the_host, ALL},
    {"name_itself", name_itself, ALL},
    {"make_threads", make_threads, MAIN | IO},
    {"run_a_main_loop", run_a_main_loop, MAIN},
    {"use_memory_files", use_memory_files, MAIN},
    {"use_files", use_files, MAIN | IO},
    {"use_sockets", use_sockets, MAIN | IO | CHARDEV},
    {"wait_for_many", wait_for_many, MAIN | IO},
};

/* ---- the child ---- */

static void run_rows(enum thread_kind kind)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (!(rows[i].kinds & KINDS(kind)))
            continue;
        /* What comes last is the one that ended the process. */
        dprintf(STDOUT_FILENO, "\n%s in a thread of kind %d", rows[i].name, kind);
        if (!rows[i].call())
            _exit(1);
    }
}

static void *thread_main(void *opaque)
{
    enum thread_kind kind = (enum thread_kind)(uintptr_t)opaque;

    thread_begin(kind);
    run_rows(kind);
    return NULL;
}

static void child(int out)
{
    struct sandbox_report report;
    FILE *file = tmpfile();

    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    file_fd = fileno(file);
    socketpair(AF_UNIX, SOCK_STREAM, 0, socket_fds);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    /* As the vmm does. */
    mallopt(M_ARENA_MAX, 4);
    log_start();
    if (!sandbox_enter(SANDBOX_VMM, false, &report, NULL))
        _exit(2);
    run_rows(THREAD_MAIN);
    for (unsigned kind = THREAD_VCPU; kind < THREAD_KINDS; kind++) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, thread_main, (void *)(uintptr_t)kind) != 0)
            _exit(3);
        pthread_join(thread, NULL);
    }
    _exit(0);
}

static void each_thread_can_use_its_libraries(void **state)
{
    char said[16384] = "", *last;
    size_t length = 0;
    int out[2], status;
    ssize_t count;

    assert_int_equal(pipe(out), 0);
    pid_t pid = fork();
    if (pid == 0)
        child(out[1]);
    close(out[1]);
    while ((count = read(out[0], said + length, sizeof(said) - 1 - length)) > 0)
        length += count;
    close(out[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    last = said + length;
    while (last > said && last[-1] != '\n')
        last--;
    if (status != 0)
        fail_msg("wait status 0x%x after: %s", (unsigned)status,
                 said + (length > SHOWN_MAX ? length - SHOWN_MAX : 0));
    assert_non_null(strstr(last, "in a thread of kind"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_thread_can_use_its_libraries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
