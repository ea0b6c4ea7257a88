// SPDX-License-Identifier: Apache-2.0
/*
 * What a sandboxed process cannot do, and what it still can. Each attempt is made in a child, which
 * lives on only if the attempt was allowed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/monitor/sandbox.h"

#define SYSCALL_OF_TOMORROW 900

enum { ALLOWED = 0, REFUSED = 1, NO_SANDBOX = 2 };

/* An attempt: 0 when it went through, else an errno. */
typedef int (*attempt_fn)(void);

/* waitpid's status of a child that enters the role's sandbox and makes the attempt; `said` gets
 * what it wrote to standard error. */
static int attempt_in(enum sandbox_role role, bool kvm, attempt_fn attempt, char said[256])
{
    struct sandbox_report report;
    int tell[2], status;
    ssize_t count;
    pid_t pid;

    assert_int_equal(pipe(tell), 0);
    pid = fork();
    if (pid == 0) {
        dup2(tell[1], STDERR_FILENO);
        if (!sandbox_enter(role, kvm, &report, NULL))
            _exit(NO_SANDBOX);
        _exit(attempt() == 0 ? ALLOWED : REFUSED);
    }
    close(tell[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    count = read(tell[0], said, 255);
    said[MAX(count, 0)] = 0;
    close(tell[0]);
    return status;
}

/* The attempt kills the process, and the monitor can tell by which call. In a sanitized build the
 * calls that its runtime tries are refused instead. */
static void assert_killed_in(enum sandbox_role role, bool kvm, attempt_fn attempt, const char *call)
{
    char said[256];
    int status = attempt_in(role, kvm, attempt, said);
    g_autofree char *sentence = NULL;
    bool fatal = false;

    if (WIFEXITED(status)) {
        assert_int_equal(WEXITSTATUS(status), REFUSED);
        return;
    }
    assert_int_equal(WTERMSIG(status), SIGSYS);
    if (strchr(said, '\n'))
        *strchr(said, '\n') = 0;
    sentence = sandbox_explain("vmm", said, &fatal);
    if (!sentence || !fatal)
        fail_msg("%s: %s", call, said);
    if (!strstr(sentence, call))
        fail_msg("%s: %s", call, sentence);
}

static void assert_killed(bool kvm, attempt_fn attempt, const char *call)
{
    assert_killed_in(SANDBOX_VMM, kvm, attempt, call);
}

static void assert_exit(enum sandbox_role role, bool kvm, attempt_fn attempt, int expected)
{
    char said[256];
    int status = attempt_in(role, kvm, attempt, said);

    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), expected);
}

static int open_file(void)
{
    int fd = open("/etc/passwd", O_RDONLY);

    return fd < 0 ? errno : 0;
}

static int make_socket(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) < 0 ? errno : 0;
}

static int connect_out(void)
{
    struct sockaddr address = {.sa_family = AF_UNIX};

    return connect(0, &address, sizeof(address)) < 0 ? errno : 0;
}

static int execute(void)
{
    char *words[] = {(char *)"true", NULL};

    execv("/bin/true", words);
    return errno;
}

static int make_process(void)
{
    return syscall(SYS_fork) < 0 ? errno : 0;
}

static int make_code(void)
{
    void *page =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return page == MAP_FAILED ? errno : 0;
}

static int signal_another(void)
{
    return kill(1, 0) < 0 ? errno : 0;
}

/* As the kernel does for a descriptor's owner. */
static int have_another_signalled(void)
{
    return fcntl(STDERR_FILENO, F_SETOWN, 1) < 0 ? errno : 0;
}

static int trace_another(void)
{
    return syscall(SYS_ptrace, 16, 1, 0, 0) < 0 ? errno : 0;
}

static int regain_root(void)
{
    return syscall(SYS_setuid, 0) < 0 ? errno : 0;
}

/* By the ways in for 32-bit programs, where calls have other numbers. */
static int enter_as_32_bit_program(void)
{
    long result = 20; /* getpid(2) there */

    __asm__ volatile("int $0x80" : "+a"(result) : : "memory");
    return result < 0 ? (int)-result : 0;
}

static int make_x32_call(void)
{
    return syscall(0x40000000 + SYS_fork) < 0 ? errno : 0;
}

static void other_ways_into_the_kernel_are_closed(void **state)
{
    char said[256];
    int status = attempt_in(SANDBOX_VMM, false, enter_as_32_bit_program, said);

    assert_true(WIFSIGNALED(status));
    status = attempt_in(SANDBOX_VMM, false, make_x32_call, said);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == REFUSED);
}

static int make_newest_call(void)
{
    return syscall(SYSCALL_OF_TOMORROW) < 0 && errno == ENOSYS ? 0 : EIO;
}

/* A newer C library tries it, and does what it did before. */
static void calls_of_tomorrow_are_not_there_yet(void **state)
{
    assert_exit(SANDBOX_VMM, false, make_newest_call, ALLOWED);
    assert_exit(SANDBOX_NAT, false, make_newest_call, ALLOWED);
}

static void make_forbidden_calls(bool kvm)
{
    assert_exit(SANDBOX_VMM, kvm, open_file, REFUSED);
    assert_killed(kvm, make_socket, "socket");
    assert_killed(kvm, connect_out, "connect");
    assert_killed(kvm, execute, "execve");
    assert_killed(kvm, make_process, "fork");
    assert_killed(kvm, make_code, "mmap");
    assert_killed(kvm, signal_another, "kill");
    assert_killed(kvm, have_another_signalled, "fcntl");
    assert_killed(kvm, trace_another, "ptrace");
    assert_killed(kvm, regain_root, "setuid");
}

static void forbidden_calls_end_the_process(void **state)
{
    make_forbidden_calls(false);
}

/* It is no freer: /dev/kvm came as a descriptor. */
static void forbidden_calls_end_a_process_with_kvm_too(void **state)
{
    make_forbidden_calls(true);
}

static void *increment(void *number)
{
    ++*(int *)number;
    return NULL;
}

static int work(void)
{
    int number = 0, fd = memfd_create("ram", MFD_CLOEXEC);
    char byte = 7;
    pthread_t thread;
    void *page;

    if (fd < 0 || ftruncate(fd, 4096) != 0)
        return errno;
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED || pwrite(fd, &byte, 1, 0) != 1 || *(char *)page != 7)
        return EIO;
    if (pthread_create(&thread, NULL, increment, &number) != 0)
        return EAGAIN;
    pthread_join(thread, NULL);
    free(malloc(64 << 20));
    return number == 1 ? 0 : EIO;
}

static void a_vmm_has_memory_threads_and_its_descriptors(void **state)
{
    assert_exit(SANDBOX_VMM, false, work, ALLOWED);
}

static int explain_error(void)
{
    volatile int number = EPIPE;

    return strcmp(g_strerror(number), "Broken pipe") == 0 ? 0 : EIO;
}

static void an_error_number_can_be_explained(void **state)
{
    assert_exit(SANDBOX_VMM, false, explain_error, ALLOWED);
    assert_exit(SANDBOX_DUMP, false, explain_error, ALLOWED);
}

static int make_thread(void)
{
    int number = 0;
    pthread_t thread;

    return pthread_create(&thread, NULL, increment, &number);
}

static void only_a_vmm_has_threads(void **state)
{
    const enum sandbox_role roles[] = {SANDBOX_DUMP, SANDBOX_NAT};

    for (unsigned i = 0; i < G_N_ELEMENTS(roles); i++) {
        char said[256];
        int status = attempt_in(roles[i], false, make_thread, said);

        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == REFUSED);
    }
}

/* Look up the resolvers, and be client and server of the host's network. */
static int use_network(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof(address);
    int resolvers = open("/etc/resolv.conf", O_RDONLY), server = socket(AF_INET, SOCK_STREAM, 0);
    int client = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if ((resolvers < 0 && errno != ENOENT) || server < 0 || client < 0)
        return EACCES;
    return bind(server, (struct sockaddr *)&address, length) == 0 && listen(server, 1) == 0 &&
                   getsockname(server, (struct sockaddr *)&address, &length) == 0 &&
                   connect(client, (struct sockaddr *)&address, length) == 0
               ? 0
               : errno;
}

static int open_folder_of_root(void)
{
    return open("/root", O_RDONLY) < 0 ? errno : 0;
}

static int open_program(void)
{
    return open("/bin/true", O_RDONLY) < 0 ? errno : 0;
}

static int write_file(void)
{
    return open("/etc/resolv.conf", O_WRONLY) < 0 ? errno : 0;
}

static int make_local_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM, 0) < 0 ? errno : 0;
}

static void nat_has_the_network_and_the_list_of_resolvers(void **state)
{
    struct sandbox_report report = {0};
    int pipe_ends[2], landlock = 0;

    assert_exit(SANDBOX_NAT, false, use_network, ALLOWED);
    assert_exit(SANDBOX_NAT, false, write_file, REFUSED);
    assert_killed_in(SANDBOX_NAT, false, make_local_socket, "socket");
    assert_killed_in(SANDBOX_NAT, false, execute, "execve");
    assert_killed_in(SANDBOX_NAT, false, make_process, "fork");
    assert_killed_in(SANDBOX_NAT, false, signal_another, "kill");
    assert_killed_in(SANDBOX_NAT, false, have_another_signalled, "fcntl");
    /* Which files may be read is Landlock's to say, where there is one. */
    assert_int_equal(pipe(pipe_ends), 0);
    if (fork() == 0) {
        sandbox_enter(SANDBOX_NAT, false, &report, NULL);
        _exit(write(pipe_ends[1], &report.landlock, sizeof(report.landlock)) < 0);
    }
    assert_int_equal(read(pipe_ends[0], &landlock, sizeof(landlock)), sizeof(landlock));
    wait(NULL);
    assert_exit(SANDBOX_NAT, false, open_program, landlock ? REFUSED : ALLOWED);
    assert_exit(SANDBOX_NAT, false, open_folder_of_root, REFUSED);
}

static void a_violation_is_explained_with_who_did_it(void **state)
{
    char said[256];

    attempt_in(SANDBOX_NAT, false, execute, said);
    g_strchomp(said);
    bool fatal = false;
    g_autofree char *sentence = sandbox_explain("nat", said, &fatal);
    assert_true(fatal);
    assert_true(g_str_has_prefix(sentence, "the sandbox ended the nat's thread "));
    assert_non_null(strstr(sentence, "a system call that it never makes: execve(0x"));
}

static void only_a_violation_is_explained(void **state)
{
    static const char *const lines[] = {"anima-vmm: something else", "", "anima-vmm: sandbox: ",
                                        "anima-vmm: sandbox: killed x (0x1) vcpu/0",
                                        "anima-vmm: sandbox: killed 1 0x1 vcpu/0"};
    bool fatal;

    for (unsigned i = 0; i < G_N_ELEMENTS(lines); i++)
        assert_null(sandbox_explain("vmm", lines[i], &fatal));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forbidden_calls_end_the_process),
        cmocka_unit_test(other_ways_into_the_kernel_are_closed),
        cmocka_unit_test(calls_of_tomorrow_are_not_there_yet),
        cmocka_unit_test(forbidden_calls_end_a_process_with_kvm_too),
        cmocka_unit_test(a_vmm_has_memory_threads_and_its_descriptors),
        cmocka_unit_test(an_error_number_can_be_explained),
        cmocka_unit_test(only_a_vmm_has_threads),
        cmocka_unit_test(nat_has_the_network_and_the_list_of_resolvers),
        cmocka_unit_test(a_violation_is_explained_with_who_did_it),
        cmocka_unit_test(only_a_violation_is_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
