// SPDX-License-Identifier: Apache-2.0
/*
 * What is held to an argument: threads but no processes, no executable memory, no path, of ioctl(2)
 * only the requests that are made (each KVM request by its number, and on vCPUs only those of a
 * running machine), signals to this process alone, sockets of the families that a role speaks.
 */
#include "vmm/monitor/sandbox_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAIN    SANDBOX_BY_MAIN
#define VCPU    (SANDBOX_BY_VCPU | MAIN)
#define CLOCK   (SANDBOX_BY_CLOCK | MAIN)
#define IO      (SANDBOX_BY_IO | MAIN)
#define CHARDEV (SANDBOX_BY_CHARDEV | MAIN)
#define SAVE    (SANDBOX_BY_SAVE | MAIN)
#define DUMP    SANDBOX_BY_DUMP
#define NAT     SANDBOX_BY_NAT
#define OSINFO  SANDBOX_BY_OSINFO
#define PACKAGE SANDBOX_BY_PACKAGE
#define DEVICES (VCPU | CLOCK | IO | CHARDEV) /* whoever runs code of devices */
#define THREADS (DEVICES | SAVE)
#define SWITCH  SANDBOX_BY_SWITCH
#define HELPERS (DUMP | NAT | OSINFO | SWITCH | PACKAGE)
#define ALL     (THREADS | HELPERS)

#define ANY(name, callers)                        \
    {                                             \
        .number = SCMP_SYS(name), .by = (callers) \
    }
#define MASKED(name, callers, index, bits, is)                                          \
    {                                                                                   \
        .number = SCMP_SYS(name), .by = (callers), .checks = true, .argument = (index), \
        .mask = (bits), .value = (is)                                                   \
    }
#define EQUAL(name, callers, index, is) MASKED(name, callers, index, UINT64_MAX, is)
#define IOCTL(request, callers)         EQUAL(ioctl, callers, 1, request)
#define KVM(request, callers)                                                                   \
    {                                                                                           \
        .number = SCMP_SYS(ioctl), .by = (callers), .kvm = true, .checks = true, .argument = 1, \
        .mask = UINT64_MAX, .value = (request)                                                  \
    }

/* What a thread of pthread_create(3)'s has, and none that makes a process or a namespace. */
#define THREAD_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)
#define CLONE_DECIDES                                                                              \
    (THREAD_FLAGS | CLONE_PTRACE | CLONE_VFORK | CLONE_PARENT | CLONE_NEWNS | CLONE_UNTRACED |     \
     CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | \
     CLONE_IO)
#define OPEN_WRITES (O_ACCMODE | O_CREAT | O_TRUNC)

const struct sandbox_call sandbox_calls[] = {
    /* What is open. */
    ANY(read, ALL),
    ANY(write, ALL),
    ANY(readv, ALL),
    ANY(writev, ALL),
    ANY(pread64, IO | SAVE | HELPERS),
    ANY(lseek, ALL),
    ANY(close, ALL),
    ANY(fstat, ALL),
    /* fstat(3) of an open file, not stat(2) of a path. */
    MASKED(newfstatat, ALL, 3, AT_EMPTY_PATH, AT_EMPTY_PATH),
    ANY(pwrite64, IO | SAVE | PACKAGE),
    ANY(preadv, IO),
    ANY(pwritev, IO),
    ANY(fdatasync, IO),
    ANY(fsync, PACKAGE),
    ANY(fallocate, IO | VCPU),
    ANY(ftruncate, MAIN | SAVE | PACKAGE),
    ANY(memfd_create, MAIN),
    ANY(dup, MAIN),
    ANY(dup2, MAIN),
    ANY(dup3, MAIN),
    ANY(pipe2, MAIN),
    /* Of a descriptor's own. None that has signals sent to others (F_SETOWN), nor locks. */
    EQUAL(fcntl, MAIN | CHARDEV | NAT | SWITCH, 1, F_DUPFD),
    EQUAL(fcntl, MAIN | CHARDEV | NAT | SWITCH, 1, F_DUPFD_CLOEXEC),
    EQUAL(fcntl, IO | CHARDEV | NAT | SWITCH | OSINFO | PACKAGE, 1, F_GETFD),
    EQUAL(fcntl, IO | CHARDEV | NAT | SWITCH | OSINFO | PACKAGE, 1, F_SETFD),
    EQUAL(fcntl, IO | CHARDEV | NAT | SWITCH | OSINFO | PACKAGE, 1, F_GETFL),
    EQUAL(fcntl, IO | CHARDEV | NAT | SWITCH | PACKAGE, 1, F_SETFL),
    EQUAL(fcntl, MAIN | NAT, 1, F_ADD_SEALS),
    EQUAL(fcntl, MAIN | NAT, 1, F_GET_SEALS),

    /* Memory. */
    MASKED(mmap, ALL, 2, PROT_EXEC, 0),
    MASKED(mprotect, ALL, 2, PROT_EXEC, 0),
    ANY(munmap, ALL),
    ANY(mremap, ALL),
    ANY(madvise, ALL),
    ANY(brk, ALL),
    ANY(msync, MAIN),

    /* Threads, locks and signals. */
    ANY(futex, ALL),
    ANY(exit, ALL),
    ANY(exit_group, ALL),
    ANY(restart_syscall, ALL),
    ANY(sched_yield, ALL),
    ANY(getpid, ALL),
    ANY(gettid, ALL),
    /* Seeds of random numbers, where there is no file of them; what libraries trust. */
    ANY(getppid, ALL),
    ANY(getuid, ALL),
    ANY(geteuid, ALL),
    ANY(getgid, ALL),
    ANY(getegid, ALL),
    /* All signals but SIGSYS, whose handler tells of refused calls. The kernel takes the lower half
     * of the number alone. */
    {.number = SCMP_SYS(rt_sigaction), .by = ALL, .checks = true, .value = SIGSYS, .below = true},
    MASKED(rt_sigaction, ALL, 0, ~UINT64_C(31), 32),
    EQUAL(rt_sigaction, ALL, 0, 64),
    ANY(rt_sigprocmask, ALL),
    ANY(rt_sigreturn, ALL),
    ANY(sigaltstack, ALL),
    ANY(set_robust_list, THREADS | OSINFO | PACKAGE),
    ANY(rseq, THREADS | OSINFO | PACKAGE),
    ANY(membarrier, THREADS | PACKAGE),
    ANY(getcpu, THREADS),
    ANY(rt_sigtimedwait, MAIN),
    MASKED(clone, MAIN | IO | OSINFO | PACKAGE, 0, CLONE_DECIDES, THREAD_FLAGS),
    ANY(set_tid_address, MAIN),
    ANY(sched_getaffinity, THREADS | OSINFO | PACKAGE),
    EQUAL(sched_setaffinity, MAIN, 0, 0),
    EQUAL(sched_getattr, MAIN | IO | PACKAGE, 0, 0),
    EQUAL(sched_getparam, MAIN | IO | PACKAGE, 0, 0),
    EQUAL(sched_getscheduler, MAIN | IO | PACKAGE, 0, 0),
    EQUAL(prctl, ALL, 0, PR_GET_NAME),
    EQUAL(prctl, THREADS | OSINFO | PACKAGE, 0, PR_SET_NAME),
    EQUAL(prctl, CLOCK, 0, PR_SET_TIMERSLACK),

    /* Time, and what the host is. */
    ANY(clock_gettime, ALL),
    ANY(gettimeofday, ALL),
    ANY(clock_getres, MAIN | NAT),
    ANY(nanosleep, THREADS | NAT),
    ANY(clock_nanosleep, THREADS | NAT),
    ANY(timerfd_create, IO),
    ANY(timerfd_settime, DEVICES),
    ANY(timerfd_gettime, IO),
    ANY(getrandom, ALL),
    ANY(sysinfo, THREADS | OSINFO),
    ANY(uname, MAIN),
    ANY(getrusage, MAIN),

    /* Waiting. */
    ANY(poll, MAIN | CHARDEV | IO | NAT | SWITCH | OSINFO | PACKAGE),
    ANY(ppoll, MAIN | CHARDEV | IO | NAT | SWITCH | PACKAGE),
    ANY(eventfd2, IO | NAT | OSINFO | PACKAGE),
    ANY(epoll_create1, IO),
    ANY(epoll_ctl, IO),
    ANY(epoll_wait, IO),
    ANY(epoll_pwait, IO),
    ANY(io_uring_enter, IO),

    /* Connections that came as descriptors. */
    ANY(recvmsg, IO | CHARDEV | NAT | SWITCH | PACKAGE),
    ANY(recvfrom, IO | CHARDEV | NAT | SWITCH),
    ANY(sendmsg, IO | CHARDEV | NAT | SWITCH | PACKAGE),
    ANY(sendto, IO | CHARDEV | NAT | SWITCH),
    ANY(accept, MAIN | CHARDEV | NAT),
    ANY(accept4, MAIN | CHARDEV | NAT),
    ANY(shutdown, MAIN | CHARDEV | NAT | SWITCH),
    ANY(getsockopt, IO | CHARDEV | NAT),
    ANY(setsockopt, MAIN | NAT),
    ANY(getsockname, MAIN | NAT),

    /* NAT makes its own, in the host's network, and reads who the resolvers are. */
    EQUAL(socket, NAT, 0, AF_INET),
    EQUAL(socket, NAT, 0, AF_INET6),
    ANY(bind, NAT),
    ANY(connect, NAT),
    ANY(listen, NAT),
    ANY(getpeername, NAT),
    MASKED(openat, NAT | OSINFO, 2, OPEN_WRITES, O_RDONLY),
    ANY(newfstatat, NAT | OSINFO),
    /* Its own limits: the hard ones were set as it closed. */
    EQUAL(prlimit64, NAT | SWITCH | OSINFO, 0, 0),

    /* A folder of files; Landlock says which. */
    ANY(getdents64, OSINFO),
    ANY(access, OSINFO),
    ANY(readlink, OSINFO),
    ANY(getcwd, OSINFO),
    ANY(statx, OSINFO),
    ANY(fstatfs, OSINFO),
    ANY(statfs, OSINFO),

    /* Standard output asks whether it is a terminal. */
    IOCTL(TCGETS, ALL),
    IOCTL(FIONBIO, MAIN | NAT),
    IOCTL(FIONREAD, CHARDEV | IO | NAT),
    IOCTL(TUNSETOFFLOAD, VCPU | IO),

    /* Making a machine. */
    KVM(KVM_GET_API_VERSION, MAIN),
    KVM(KVM_CREATE_VM, MAIN),
    KVM(KVM_CHECK_EXTENSION, MAIN),
    KVM(KVM_GET_VCPU_MMAP_SIZE, MAIN),
    KVM(KVM_GET_SUPPORTED_CPUID, MAIN),
    KVM(KVM_GET_TSC_KHZ, MAIN),
    KVM(KVM_SET_IDENTITY_MAP_ADDR, MAIN),
    KVM(KVM_SET_TSS_ADDR, MAIN),
    KVM(KVM_ENABLE_CAP, MAIN),
    KVM(KVM_X86_SET_MSR_FILTER, MAIN),
    KVM(KVM_CREATE_VCPU, MAIN),
    KVM(KVM_SET_CPUID2, MAIN),
    KVM(KVM_SET_TSC_KHZ, MAIN),
    KVM(KVM_SET_DEVICE_ATTR, VCPU),
    KVM(KVM_GET_DEVICE_ATTR, VCPU),
    /* Running it. */
    KVM(KVM_RUN, VCPU),
    KVM(KVM_SIGNAL_MSI, DEVICES),
    KVM(KVM_NMI, DEVICES),
    KVM(KVM_INTERRUPT, DEVICES),
    KVM(KVM_GET_REGS, VCPU),
    KVM(KVM_SET_REGS, VCPU),
    KVM(KVM_GET_SREGS, VCPU),
    KVM(KVM_SET_SREGS, VCPU),
    KVM(KVM_GET_SREGS2, VCPU),
    KVM(KVM_SET_SREGS2, VCPU),
    KVM(KVM_GET_XSAVE, VCPU),
    KVM(KVM_GET_XSAVE2, VCPU),
    KVM(KVM_SET_XSAVE, VCPU),
    KVM(KVM_GET_XCRS, VCPU),
    KVM(KVM_SET_XCRS, VCPU),
    KVM(KVM_GET_DEBUGREGS, VCPU),
    KVM(KVM_SET_DEBUGREGS, VCPU),
    KVM(KVM_GET_VCPU_EVENTS, VCPU),
    KVM(KVM_SET_VCPU_EVENTS, VCPU),
    KVM(KVM_GET_MP_STATE, VCPU),
    KVM(KVM_SET_MP_STATE, VCPU),
    KVM(KVM_GET_LAPIC, DEVICES),
    KVM(KVM_SET_LAPIC, VCPU),
    KVM(KVM_GET_MSRS, VCPU),
    KVM(KVM_SET_MSRS, VCPU),
    KVM(KVM_SET_GUEST_DEBUG, VCPU),
    KVM(KVM_TRANSLATE, VCPU),
    KVM(KVM_SET_CLOCK, VCPU),
    KVM(KVM_GET_CLOCK, VCPU),
    KVM(KVM_SET_GSI_ROUTING, DEVICES),
    KVM(KVM_IOEVENTFD, VCPU | IO),
    KVM(KVM_SET_USER_MEMORY_REGION, VCPU),
    KVM(KVM_GET_DIRTY_LOG, DEVICES),
    KVM(KVM_RESET_DIRTY_RINGS, DEVICES),
};

const unsigned sandbox_call_count = G_N_ELEMENTS(sandbox_calls);

const struct sandbox_absent sandbox_absent[] = {
    /* Newer forms, with arguments in memory or new flags, of calls that libraries fall back to. */
    {SCMP_SYS(clone3), ENOSYS},          {SCMP_SYS(preadv2), ENOSYS},
    {SCMP_SYS(pwritev2), ENOSYS},        {SCMP_SYS(close_range), ENOSYS},
    {SCMP_SYS(epoll_pwait2), ENOSYS},    {SCMP_SYS(futex_waitv), ENOSYS},
    {SCMP_SYS(process_madvise), ENOSYS},
};

const unsigned sandbox_absent_count = G_N_ELEMENTS(sandbox_absent);

bool sandbox_call_takes_path(int number)
{
    static const int calls[] = {
        SCMP_SYS(open),      SCMP_SYS(openat),     SCMP_SYS(openat2),    SCMP_SYS(stat),
        SCMP_SYS(lstat),     SCMP_SYS(statx),      SCMP_SYS(newfstatat), SCMP_SYS(access),
        SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(readlink),   SCMP_SYS(readlinkat),
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(calls); i++)
        if (calls[i] == number)
            return true;
    return false;
}
