// SPDX-License-Identifier: Apache-2.0
/*
 * The seccomp filter (seccomp(2), by libseccomp): a list of what a role calls. Anything else raises
 * SIGSYS, whose handler writes the call's number before the process dies of it; the monitor finds
 * the name, which would need memory here.
 *
 * Calls that take flags are held to those that are used: threads but no processes, no executable
 * memory, no path.
 */
#include "vmm/monitor/sandbox_filter.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

#include "config/schema.h"
#include "vmm/monitor/sandbox_internal.h"

#define SYSCALL_LENGTH 2 /* bytes of the instruction */
#define VIOLATION      "anima-vmm: sandbox: system call "

/* Every role: the C library's own needs, and reading and writing what is open. */
static const int common_calls[] = {
    SCMP_SYS(read),           SCMP_SYS(write),
    SCMP_SYS(readv),          SCMP_SYS(writev),
    SCMP_SYS(pread64),        SCMP_SYS(lseek),
    SCMP_SYS(close),          SCMP_SYS(fstat),
    SCMP_SYS(munmap),         SCMP_SYS(mremap),
    SCMP_SYS(madvise),        SCMP_SYS(brk),
    SCMP_SYS(futex),          SCMP_SYS(exit),
    SCMP_SYS(exit_group),     SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),   SCMP_SYS(getpid),
    SCMP_SYS(gettid),         SCMP_SYS(getrandom),
    SCMP_SYS(sched_yield),    SCMP_SYS(restart_syscall),
};

/* A vmm: threads, memory for the guest, waiting, its connections. */
static const int vmm_calls[] = {
    SCMP_SYS(pwrite64),
    SCMP_SYS(preadv),
    SCMP_SYS(pwritev),
    SCMP_SYS(recvmsg),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(accept),
    SCMP_SYS(accept4),
    SCMP_SYS(shutdown),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(select),
    SCMP_SYS(pselect6),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(eventfd2),
    SCMP_SYS(pipe2),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(timerfd_gettime),
    SCMP_SYS(nanosleep),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(clock_getres),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(get_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(memfd_create),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate),
    SCMP_SYS(fdatasync),
    SCMP_SYS(msync),
    SCMP_SYS(mincore),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(membarrier),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_setaffinity),
    SCMP_SYS(sched_getattr),
    SCMP_SYS(sched_setattr),
    SCMP_SYS(sched_getparam),
    SCMP_SYS(sched_getscheduler),
    SCMP_SYS(getcpu),
    SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
    SCMP_SYS(getrusage),
    SCMP_SYS(times),
    SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(rt_sigpending),
};

/* NAT: the host's sockets, and reading the list of resolvers. */
static const int nat_calls[] = {
    SCMP_SYS(poll),       SCMP_SYS(ppoll),           SCMP_SYS(recvfrom),    SCMP_SYS(sendto),
    SCMP_SYS(recvmsg),    SCMP_SYS(sendmsg),         SCMP_SYS(bind),        SCMP_SYS(connect),
    SCMP_SYS(listen),     SCMP_SYS(accept),          SCMP_SYS(accept4),     SCMP_SYS(shutdown),
    SCMP_SYS(getsockopt), SCMP_SYS(setsockopt),      SCMP_SYS(getsockname), SCMP_SYS(getpeername),
    SCMP_SYS(nanosleep),  SCMP_SYS(clock_nanosleep), SCMP_SYS(newfstatat),
};

/* What a sanitizer's runtime tries while it reports; it goes on without. */
static const int sanitizer_calls[] = {
    SCMP_SYS(open),      SCMP_SYS(openat),      SCMP_SYS(readlink), SCMP_SYS(readlinkat),
    SCMP_SYS(stat),      SCMP_SYS(access),      SCMP_SYS(socket),   SCMP_SYS(getrlimit),
    SCMP_SYS(prlimit64), SCMP_SYS(personality),
};

/* A failed rule; the first error of many is kept. */
static void note(int *error, int result)
{
    if (result < 0 && !*error)
        *error = -result;
}

static void allow(scmp_filter_ctx filter, const int *calls, unsigned count, int *error)
{
    for (unsigned i = 0; i < count; i++)
        note(error, seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0));
}

static void allow_if(scmp_filter_ctx filter, int call, struct scmp_arg_cmp condition, int *error)
{
    note(error, seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, 1, &condition));
}

/* The C library takes the older call when the newer one, whose flags lie in memory, is absent. */
static void pretend_absent(scmp_filter_ctx filter, int call, int *error)
{
    note(error, seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), call, 0));
}

static void add_common(scmp_filter_ctx filter, int *error)
{
    allow(filter, common_calls, G_N_ELEMENTS(common_calls), error);
    /* fstat(3) of an open file, not stat(2) of a path. */
    allow_if(filter, SCMP_SYS(newfstatat),
             SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH), error);
    allow_if(filter, SCMP_SYS(mmap), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0), error);
    allow_if(filter, SCMP_SYS(mprotect), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0), error);
    /* The signal of abort(3) and of the handler below, to oneself. */
    allow_if(filter, SCMP_SYS(tgkill), SCMP_A0(SCMP_CMP_EQ, getpid()), error);
    /* Standard output asks whether it is a terminal. */
    allow_if(filter, SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_EQ, TCGETS), error);
}

/* Of a descriptor's own. None that has signals sent to other processes (F_SETOWN), nor locks. */
static void allow_fcntl(scmp_filter_ctx filter, int *error)
{
    static const int commands[] = {
        F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_ADD_SEALS, F_GET_SEALS,
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++)
        allow_if(filter, SCMP_SYS(fcntl), SCMP_A1(SCMP_CMP_EQ, commands[i]), error);
}

static void add_vmm(scmp_filter_ctx filter, bool kvm, int *error)
{
    enum { KVM_IOCTLS = 0xAE00 }; /* KVMIO in the second byte */

    allow(filter, vmm_calls, G_N_ELEMENTS(vmm_calls), error);
    allow_fcntl(filter, error);
    allow_if(filter, SCMP_SYS(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD),
             error);
    pretend_absent(filter, SCMP_SYS(clone3), error);
    allow_if(filter, SCMP_SYS(prctl), SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME), error);
    allow_if(filter, SCMP_SYS(prctl), SCMP_A0(SCMP_CMP_EQ, PR_SET_TIMERSLACK), error);
    allow_if(filter, SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_EQ, FIONBIO), error);
    allow_if(filter, SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_EQ, FIONREAD), error);
    allow_if(filter, SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_EQ, TUNSETOFFLOAD), error);
    if (kvm)
        allow_if(filter, SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_MASKED_EQ, 0xFF00, KVM_IOCTLS), error);
}

/* Landlock says which files. */
static void add_nat(scmp_filter_ctx filter, int *error)
{
    const int no_writing = O_ACCMODE | O_CREAT | O_TRUNC;

    allow(filter, nat_calls, G_N_ELEMENTS(nat_calls), error);
    allow_fcntl(filter, error);
    allow_if(filter, SCMP_SYS(openat), SCMP_A2(SCMP_CMP_MASKED_EQ, no_writing, O_RDONLY), error);
    /* Asking for a limit, not setting one. */
    allow_if(filter, SCMP_SYS(prlimit64), SCMP_A2(SCMP_CMP_EQ, 0), error);
    allow_if(filter, SCMP_SYS(socket), SCMP_A0(SCMP_CMP_EQ, AF_INET), error);
    allow_if(filter, SCMP_SYS(socket), SCMP_A0(SCMP_CMP_EQ, AF_INET6), error);
    allow_if(filter, SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_EQ, FIONBIO), error);
    allow_if(filter, SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_EQ, FIONREAD), error);
}

static bool is_of_nat(int call)
{
    return call == SCMP_SYS(openat) || call == SCMP_SYS(socket) || call == SCMP_SYS(prlimit64);
}

static void add_sanitizer(scmp_filter_ctx filter, enum sandbox_role role, int *error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(sanitizer_calls); i++)
        if (role != SANDBOX_NAT || !is_of_nat(sanitizer_calls[i]))
            note(error, seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), sanitizer_calls[i], 0));
}

/* Only async-signal-safe calls. The call is made once more, of which the process dies now that
 * there is no handler: in a process namespace of its own no signal that it sends itself would end
 * it. */
static void on_violation(int number, siginfo_t *info, void *context)
{
    char text[sizeof(VIOLATION) + 12] = VIOLATION;
    size_t length = sizeof(VIOLATION) - 1;
    unsigned call = info->si_syscall, divisor = 1;

    while (call / divisor >= 10)
        divisor *= 10;
    for (; divisor; divisor /= 10)
        text[length++] = '0' + call / divisor % 10;
    text[length++] = '\n';
    if (write(STDERR_FILENO, text, length) < 0)
        _exit(1);
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] =
        (greg_t)(uintptr_t)info->si_call_addr - SYSCALL_LENGTH;
}

static int watch_violations(void)
{
    struct sigaction action = {.sa_sigaction = on_violation,
                               .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESETHAND};

    return sigaction(SIGSYS, &action, NULL) == 0 ? 0 : errno;
}

#if SANDBOX_SANITIZED
/* The leak checker of a sanitized build stops the process's threads from a new process, which the
 * filter forbids: it is turned off in sandboxed processes. */
int __lsan_is_turned_off(void);
static int leaks_unchecked;
int __lsan_is_turned_off(void)
{
    return leaks_unchecked;
}
#endif

int sandbox_filter_load(enum sandbox_role role, bool kvm)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
    int error = watch_violations();

    if (!filter)
        return ENOMEM;
    note(&error, seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1));
    note(&error, seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));
    add_common(filter, &error);
    if (role == SANDBOX_VMM)
        add_vmm(filter, kvm, &error);
    if (role == SANDBOX_NAT)
        add_nat(filter, &error);
#if SANDBOX_SANITIZED
    leaks_unchecked = 1;
    add_sanitizer(filter, role, &error);
#else
    (void)add_sanitizer;
#endif
    if (!error)
        note(&error, seccomp_load(filter));
    seccomp_release(filter);
    return error;
}

char *sandbox_explain(const char *role, const char *line)
{
    char *name, *sentence;

    if (!g_str_has_prefix(line, VIOLATION))
        return NULL;
    name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, atoi(line + strlen(VIOLATION)));
    sentence =
        g_strdup_printf("the sandbox stopped the %s at a system call that it never makes (%s)",
                        role, name ? name : line + strlen(VIOLATION));
    free(name);
    return sentence;
}
