// SPDX-License-Identifier: Apache-2.0
/*
 * The attempts: plain system calls stand in a table, those that need a place to act on are
 * functions. What returns no error has escaped.
 */
#include "tests/escape/attempts.h"

#include <asm/ldt.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/bpf.h>
#include <linux/keyctl.h>
#include <linux/kvm.h>
#include <linux/landlock.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define ARGUMENTS     6
#define CLONE_CHILD   (CLONE_VM | CLONE_VFORK | SIGCHLD)
#define TEXT(literal) ((long)(uintptr_t)(literal))
#define AT(object)    ((long)(uintptr_t) & (object))

_Thread_local int attempt_trapped;

static struct io_uring *ring;

/* ---- plain calls ---- */

static char buffer[4096];
static char *no_words[] = {NULL};
static const char code[] = "\177ELF";
static struct open_how how;
static union bpf_attr bpf = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4};
static struct perf_event_attr perf = {.type = PERF_TYPE_SOFTWARE, .size = sizeof(perf)};
static struct io_uring_params params;
static struct user_desc segment = {.entry_number = 0, .limit = 0xFFFFF, .limit_in_pages = 1};
static uint64_t child_arguments[8] = {CLONE_VM | CLONE_VFORK, 0, 0, 0, SIGCHLD, 0, 0, 0};
static struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
static struct sigaction action;
static int zero;

static const struct {
    const char *name;
    long number;
    long arguments[ARGUMENTS];
} calls[] = {
    /* Files. */
    {"open-passwd", SYS_open, {TEXT("/etc/passwd"), O_RDONLY}},
    {"openat-passwd", SYS_openat, {AT_FDCWD, TEXT("/etc/passwd"), O_RDONLY}},
    {"openat-shadow", SYS_openat, {AT_FDCWD, TEXT("/etc/shadow"), O_RDONLY}},
    {"openat2-passwd", SYS_openat2, {AT_FDCWD, TEXT("/etc/passwd"), AT(how), sizeof(how)}},
    {"open-own-memory", SYS_openat, {AT_FDCWD, TEXT("/proc/self/mem"), O_RDWR}},
    {"open-program", SYS_openat, {AT_FDCWD, TEXT("/bin/sh"), O_RDONLY}},
    {"open-kvm", SYS_openat, {AT_FDCWD, TEXT("/dev/kvm"), O_RDWR}},
    {"open-for-writing", SYS_openat, {AT_FDCWD, TEXT("/etc/resolv.conf"), O_RDWR}},
    {"creat", SYS_creat, {TEXT("/tmp/escaped"), 0600}},
    {"open-parent", SYS_openat, {AT_FDCWD, TEXT("/../../etc/passwd"), O_RDONLY}},
    {"mkdir", SYS_mkdir, {TEXT("/tmp/escaped"), 0700}},
    {"unlink", SYS_unlink, {TEXT("/etc/passwd")}},
    {"rename", SYS_rename, {TEXT("/etc/passwd"), TEXT("/etc/escaped")}},
    {"link", SYS_link, {TEXT("/etc/passwd"), TEXT("/tmp/escaped")}},
    {"symlink", SYS_symlink, {TEXT("/etc/passwd"), TEXT("/tmp/escaped")}},
    {"chmod", SYS_chmod, {TEXT("/etc/passwd"), 0666}},
    {"fchmod", SYS_fchmod, {0, 0666}},
    {"chown", SYS_chown, {TEXT("/etc/passwd"), 0, 0}},
    {"mknod", SYS_mknod, {TEXT("/tmp/escaped"), 0100600, 0}},
    {"truncate", SYS_truncate, {TEXT("/etc/passwd"), 0}},
    {"setxattr", SYS_setxattr, {TEXT("/"), TEXT("user.x"), TEXT("y"), 1, 0}},
    {"chdir", SYS_chdir, {TEXT("/tmp")}},
    {"name-to-handle",
     SYS_name_to_handle_at,
     {AT_FDCWD, TEXT("/"), TEXT(buffer), TEXT(buffer + 256), 0}},
    {"open-by-handle", SYS_open_by_handle_at, {AT_FDCWD, TEXT(buffer), O_RDONLY}},
    {"fanotify", SYS_fanotify_init, {0, 0}},
    {"inotify", SYS_inotify_init1, {0}},
    /* Sockets that no role speaks. */
    {"socket-unix", SYS_socket, {AF_UNIX, SOCK_STREAM, 0}},
    {"socket-netlink", SYS_socket, {AF_NETLINK, SOCK_RAW, 0}},
    {"socket-packet", SYS_socket, {AF_PACKET, SOCK_RAW, 0}},
    {"socket-vsock", SYS_socket, {AF_VSOCK, SOCK_STREAM, 0}},
    {"socket-alg", SYS_socket, {AF_ALG, SOCK_SEQPACKET, 0}},
    {"socket-xdp", SYS_socket, {AF_XDP, SOCK_RAW, 0}},
    {"socketpair", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, TEXT(buffer)}},
    /* Programs and processes. */
    {"execve", SYS_execve, {TEXT("/bin/true"), TEXT(no_words), TEXT(no_words)}},
    {"execveat", SYS_execveat, {0, TEXT(""), TEXT(no_words), TEXT(no_words), AT_EMPTY_PATH}},
    {"fork", SYS_fork, {0}},
    {"vfork", SYS_vfork, {0}},
    {"clone-process", SYS_clone, {SIGCHLD}},
    {"clone-namespace", SYS_clone, {CLONE_NEWUSER | SIGCHLD}},
    {"clone-shared", SYS_clone, {CLONE_CHILD}},
    {"clone3", SYS_clone3, {TEXT(child_arguments), sizeof(child_arguments)}},
    {"ptrace-me", SYS_ptrace, {PTRACE_TRACEME, 0, 0, 0}},
    {"kill-all", SYS_kill, {-1, 0}},
    {"kill-parent", SYS_kill, {0, 0}},
    {"tkill", SYS_tkill, {2, 0}},
    {"setpgid", SYS_setpgid, {0, 0}},
    {"setsid", SYS_setsid, {0}},
    /* Namespaces and mounts. */
    {"unshare-user", SYS_unshare, {CLONE_NEWUSER}},
    {"unshare-mount", SYS_unshare, {CLONE_NEWNS}},
    {"unshare-files", SYS_unshare, {CLONE_FILES}},
    {"setns", SYS_setns, {0, 0}},
    {"mount", SYS_mount, {TEXT("none"), TEXT("/"), TEXT("tmpfs"), 0, 0}},
    {"umount", SYS_umount2, {TEXT("/"), MNT_DETACH}},
    {"pivot-root", SYS_pivot_root, {TEXT("."), TEXT(".")}},
    {"chroot", SYS_chroot, {TEXT("/")}},
    {"fsopen", SYS_fsopen, {TEXT("tmpfs"), 0}},
    {"open-tree", SYS_open_tree, {AT_FDCWD, TEXT("/"), 1}},
    {"move-mount", SYS_move_mount, {AT_FDCWD, TEXT("/"), AT_FDCWD, TEXT("/"), 0}},
    {"mount-setattr", SYS_mount_setattr, {AT_FDCWD, TEXT("/"), 0, TEXT(buffer), 32}},
    {"sethostname", SYS_sethostname, {TEXT("escaped"), 7}},
    {"swapon", SYS_swapon, {TEXT("/etc/passwd"), 0}},
    {"quotactl", SYS_quotactl, {0, 0, 0, 0}},
    /* The kernel. */
    {"bpf", SYS_bpf, {BPF_MAP_CREATE, AT(bpf), sizeof(bpf)}},
    {"perf", SYS_perf_event_open, {AT(perf), 0, -1, -1, 0}},
    {"userfaultfd", SYS_userfaultfd, {0}},
    {"io-uring-setup", SYS_io_uring_setup, {4, AT(params)}},
    {"io-uring-register", SYS_io_uring_register, {0, IORING_REGISTER_FILES, TEXT(buffer), 1}},
    {"init-module", SYS_init_module, {TEXT(code), sizeof(code), TEXT("")}},
    {"finit-module", SYS_finit_module, {0, TEXT(""), 0}},
    {"delete-module", SYS_delete_module, {TEXT("kvm"), 0}},
    {"kexec", SYS_kexec_load, {0, 0, 0, 0}},
    {"reboot", SYS_reboot, {0, 0, 0, 0}},
    {"syslog", SYS_syslog, {3, TEXT(buffer), sizeof(buffer)}},
    {"acct", SYS_acct, {TEXT("/tmp/escaped")}},
    {"settimeofday", SYS_settimeofday, {TEXT(buffer), 0}},
    {"clock-settime", SYS_clock_settime, {0, TEXT(buffer)}},
    {"adjtimex", SYS_adjtimex, {TEXT(buffer)}},
    {"iopl", SYS_iopl, {3}},
    {"ioperm", SYS_ioperm, {0x70, 1, 1}},
    {"modify-ldt", SYS_modify_ldt, {1, AT(segment), sizeof(segment)}},
    {"personality", SYS_personality, {READ_IMPLIES_EXEC}},
    {"lookup-newest", 600, {0}},
    /* Keys, System V, queues. */
    {"keyctl", SYS_keyctl, {KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1}},
    {"add-key", SYS_add_key, {TEXT("user"), TEXT("x"), TEXT("y"), 1, KEY_SPEC_PROCESS_KEYRING}},
    {"request-key", SYS_request_key, {TEXT("user"), TEXT("x"), 0, 0}},
    {"shmget", SYS_shmget, {0, 4096, 01600}},
    {"semget", SYS_semget, {0, 1, 01600}},
    {"msgget", SYS_msgget, {0, 01600}},
    {"mq-open", SYS_mq_open, {TEXT("x"), O_CREAT | O_RDWR, 0600, 0}},
    /* Credentials, limits, its own bonds. */
    {"setuid", SYS_setuid, {0}},
    {"setresuid", SYS_setresuid, {0, 0, 0}},
    {"setgid", SYS_setgid, {0}},
    {"setgroups", SYS_setgroups, {1, AT(zero)}},
    {"capset", SYS_capset, {TEXT(buffer), TEXT(buffer + 16)}},
    {"setrlimit", SYS_setrlimit, {RLIMIT_CORE, AT(unlimited)}},
    {"prlimit", SYS_prlimit64, {0, RLIMIT_CORE, AT(unlimited), 0}},
    {"setpriority", SYS_setpriority, {PRIO_PROCESS, 0, -20}},
    {"ioprio", SYS_ioprio_set, {1, 0, 0}},
    {"dumpable", SYS_prctl, {PR_SET_DUMPABLE, 1, 0, 0, 0}},
    {"keep-running", SYS_prctl, {PR_SET_PDEATHSIG, 0, 0, 0, 0}},
    {"tracer", SYS_prctl, {PR_SET_PTRACER, -1, 0, 0, 0}},
    {"subreaper", SYS_prctl, {PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0}},
    {"ambient", SYS_prctl, {PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 0, 0}},
    {"seccomp-listener",
     SYS_seccomp,
     {SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, TEXT(buffer)}},
    {"handler", SYS_rt_sigaction, {SIGSYS, AT(action), 0, 8}},
    {"handler-by-width", SYS_rt_sigaction, {0x10000001FL, AT(action), 0, 8}},
    {"owner", SYS_fcntl, {0, F_SETOWN, 1}},
    {"lock", SYS_fcntl, {0, F_OFD_SETLK, TEXT(buffer)}},
    {"notify", SYS_fcntl, {0, F_NOTIFY, 1}},
    /* Code, and memory of others. */
    {"mmap-code",
     SYS_mmap,
     {0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
    {"mprotect-code", SYS_mprotect, {AT(buffer), 0, PROT_READ | PROT_EXEC}},
    {"pkey-mprotect", SYS_pkey_mprotect, {AT(buffer), 0, PROT_READ | PROT_EXEC, -1}},
    {"memfd-secret", SYS_memfd_secret, {0}},
    {"splice", SYS_splice, {0, 0, 1, 0, 1, 0}},
    /* Requests of devices. */
    {"tiocsti", SYS_ioctl, {2, TIOCSTI, TEXT("x")}},
    {"tioclinux", SYS_ioctl, {2, TIOCLINUX, TEXT(buffer)}},
    {"tiocsctty", SYS_ioctl, {2, TIOCSCTTY, 0}},
    {"kvm-create-device", SYS_ioctl, {0, (long)KVM_CREATE_DEVICE, TEXT(buffer)}},
    {"kvm-assign", SYS_ioctl, {0, (long)KVM_IRQFD, TEXT(buffer)}},
};

/* ---- calls that act on something of the host's ---- */

static long number_of(const char *variable)
{
    const char *text = getenv(variable);

    return text ? strtol(text, NULL, 10) : 1;
}

static long victim(void)
{
    return number_of("ANIMA_ESCAPE_PID");
}

static long open_disk(void)
{
    const char *path = getenv("ANIMA_ESCAPE_DISK");

    return syscall(SYS_openat, AT_FDCWD, path ? path : "/disk", O_RDWR);
}

static long kill_victim(void)
{
    return syscall(SYS_kill, victim(), 0);
}

static long tgkill_victim(void)
{
    return syscall(SYS_tgkill, victim(), victim(), SIGCONT);
}

static long queue_signal(void)
{
    siginfo_t info = {.si_code = SI_QUEUE};

    return syscall(SYS_rt_sigqueueinfo, victim(), SIGCONT, &info);
}

static long trace_victim(void)
{
    return syscall(SYS_ptrace, PTRACE_ATTACH, victim(), 0, 0);
}

static long read_victim(void)
{
    struct iovec here = {buffer, 16}, there = {buffer, 16};

    return syscall(SYS_process_vm_readv, victim(), &here, 1, &there, 1, 0);
}

static long write_victim(void)
{
    struct iovec here = {buffer, 16}, there = {buffer, 16};

    return syscall(SYS_process_vm_writev, victim(), &here, 1, &there, 1, 0);
}

static long open_victim(void)
{
    return syscall(SYS_pidfd_open, victim(), 0);
}

static long take_descriptor(void)
{
    return syscall(SYS_pidfd_getfd, 0, 0, 0);
}

static long signal_by_descriptor(void)
{
    return syscall(SYS_pidfd_send_signal, 0, SIGCONT, NULL, 0);
}

static long limit_victim(void)
{
    struct rlimit limit;

    return syscall(SYS_prlimit64, victim(), RLIMIT_CORE, NULL, &limit);
}

static long compare_victim(void)
{
    return syscall(SYS_kcmp, victim(), victim(), 0, 0, 0);
}

static long move_victim(void)
{
    return syscall(SYS_move_pages, victim(), 0, NULL, NULL, NULL, 0);
}

static long schedule_victim(void)
{
    struct sched_param parameter = {0};

    return syscall(SYS_sched_setscheduler, victim(), SCHED_BATCH, &parameter);
}

static long bind_victim_to_processor(void)
{
    unsigned long mask = 1;

    return syscall(SYS_sched_setaffinity, victim(), sizeof(mask), &mask);
}

static long connect_tcp(void)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)number_of("ANIMA_ESCAPE_PORT")),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = (int)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);

    return fd < 0 ? fd : syscall(SYS_connect, fd, &address, sizeof(address));
}

static long connect_local(const char *path, bool abstract)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = (int)syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
    size_t length = strnlen(path, sizeof(address.sun_path) - 2);

    memcpy(address.sun_path + abstract, path, length);
    return fd < 0 ? fd
                  : syscall(SYS_connect, fd, &address,
                            offsetof(struct sockaddr_un, sun_path) + abstract + length);
}

static long connect_unix(void)
{
    const char *path = getenv("ANIMA_ESCAPE_SOCKET");

    return connect_local(path ? path : "/socket", false);
}

static long connect_abstract(void)
{
    const char *name = getenv("ANIMA_ESCAPE_ABSTRACT");

    return connect_local(name ? name : "x", true);
}

/* A socket that is open already is led elsewhere. */
static long connect_again(void)
{
    const char *path = getenv("ANIMA_ESCAPE_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    strncpy(address.sun_path, path ? path : "/socket", sizeof(address.sun_path) - 1);
    return syscall(SYS_connect, 3, &address, sizeof(address));
}

/* A program that is nowhere but in memory. */
static long execute_memory(void)
{
    int fd = (int)syscall(SYS_memfd_create, "x", MFD_CLOEXEC);

    if (fd < 0)
        return fd;
    if (write(fd, "#!/bin/true\n", 12) != 12)
        return -1;
    return syscall(SYS_execveat, fd, "", no_words, no_words, AT_EMPTY_PATH);
}

/* Through the ring that the process has for its disks. */
static long ask_ring(void (*prepare)(struct io_uring_sqe *entry))
{
    struct io_uring_sqe *entry = ring ? io_uring_get_sqe(ring) : NULL;
    struct io_uring_cqe *done;

    if (!entry) {
        errno = EPERM;
        return -1;
    }
    prepare(entry);
    if (io_uring_submit_and_wait(ring, 1) < 0 || io_uring_peek_cqe(ring, &done) < 0)
        return -1;
    int result = done->res;
    io_uring_cqe_seen(ring, done);
    errno = result < 0 ? -result : 0;
    return result < 0 ? -1 : result;
}

static void prepare_open(struct io_uring_sqe *entry)
{
    io_uring_prep_openat(entry, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
}

static void prepare_connect(struct io_uring_sqe *entry)
{
    static struct sockaddr_in address = {.sin_family = AF_INET};

    io_uring_prep_connect(entry, 0, (struct sockaddr *)&address, sizeof(address));
}

static void prepare_unlink(struct io_uring_sqe *entry)
{
    io_uring_prep_unlink(entry, "/etc/passwd", 0);
}

static long ring_open(void)
{
    return ask_ring(prepare_open);
}

static long ring_connect(void)
{
    return ask_ring(prepare_connect);
}

static long ring_unlink(void)
{
    return ask_ring(prepare_unlink);
}

static const struct {
    const char *name;
    long (*make)(void);
} deeds[] = {
    {"open-disk", open_disk},
    {"kill-other", kill_victim},
    {"tgkill-other", tgkill_victim},
    {"sigqueue-other", queue_signal},
    {"ptrace-other", trace_victim},
    {"read-other", read_victim},
    {"write-other", write_victim},
    {"pidfd-open", open_victim},
    {"pidfd-getfd", take_descriptor},
    {"pidfd-signal", signal_by_descriptor},
    {"prlimit-other", limit_victim},
    {"kcmp-other", compare_victim},
    {"move-pages-other", move_victim},
    {"schedule-other", schedule_victim},
    {"affinity-other", bind_victim_to_processor},
    {"connect-tcp", connect_tcp},
    {"connect-unix", connect_unix},
    {"connect-abstract", connect_abstract},
    {"connect-again", connect_again},
    {"execute-memory", execute_memory},
    {"ring-open", ring_open},
    {"ring-connect", ring_connect},
    {"ring-unlink", ring_unlink},
};

/* ---- all of them ---- */

void attempts_set_ring(void *own)
{
    ring = own;
}

static void tell(const char *where, const char *name, long result, int error)
{
    const char *outcome = result >= 0       ? "DONE"
                          : attempt_trapped ? "filter"
                                            : strerrorname_np(error);

    dprintf(STDERR_FILENO, "escape %s %s %s\n", where, name, outcome);
}

/* What namespaces, Landlock and the lack of capabilities refuse; the others would do harm only to
 * this process, or split it in two. */
static bool is_refused_beneath(const char *name)
{
    static const char *const names[] = {
        "open-passwd",
        "openat-passwd",
        "openat-shadow",
        "openat2-passwd",
        "open-own-memory",
        "open-program",
        "open-kvm",
        "open-for-writing",
        "creat",
        "open-parent",
        "mkdir",
        "unlink",
        "rename",
        "link",
        "symlink",
        "chmod",
        "chown",
        "mknod",
        "truncate",
        "open-by-handle",
        "socket-packet",
        "execve",
        "mount",
        "umount",
        "pivot-root",
        "chroot",
        "fsopen",
        "move-mount",
        "unshare-mount",
        "sethostname",
        "swapon",
        "init-module",
        "delete-module",
        "settimeofday",
        "iopl",
        "ioperm",
        "setuid",
        "setresuid",
        "setgid",
        "setgroups",
        "setpriority",
        "open-disk",
        "kill-other",
        "sigqueue-other",
        "ptrace-other",
        "read-other",
        "write-other",
        "pidfd-open",
        "prlimit-other",
        "kcmp-other",
        "schedule-other",
        "affinity-other",
        "connect-unix",
        "connect-abstract",
        "connect-again",
        "execute-memory",
        "ring-open",
        "ring-connect",
        "ring-unlink",
        "connect-tcp",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

void attempts_run(const char *where, bool beneath)
{
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        const long *words = calls[i].arguments;

        if (beneath && !is_refused_beneath(calls[i].name))
            continue;
        attempt_trapped = 0;
        long result =
            syscall(calls[i].number, words[0], words[1], words[2], words[3], words[4], words[5]);
        tell(where, calls[i].name, result, errno);
    }
    for (size_t i = 0; i < sizeof(deeds) / sizeof(deeds[0]); i++) {
        if (beneath && !is_refused_beneath(deeds[i].name))
            continue;
        attempt_trapped = 0;
        long result = deeds[i].make();
        tell(where, deeds[i].name, result, errno);
    }
    dprintf(STDERR_FILENO, "escape %s end\n", where);
}
