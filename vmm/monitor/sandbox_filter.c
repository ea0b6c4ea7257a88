// SPDX-License-Identifier: Apache-2.0
/*
 * The seccomp filter (seccomp(2)): libseccomp makes a program of the rows of sandbox_calls.c that
 * are the caller's, which is loaded behind a few instructions of ours: they answer calls that the
 * table cannot know with ENOSYS, and let a vCPU's KVM_RUN pass first.
 *
 * Any other call raises SIGSYS (sandbox_violation.c).
 */
#include "vmm/monitor/sandbox_filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/monitor/sandbox_calls.h"
#include "vmm/monitor/sandbox_internal.h"

#define FIRST_X32_CALL 0x40000000

/* ---- the program ---- */

/* A failed rule; the first error of many is kept. */
static void note(int *error, int result)
{
    if (result < 0 && !*error)
        *error = -result;
}

static void add_call(scmp_filter_ctx filter, const struct sandbox_call *call, int *error)
{
    bool masked = !call->below && call->mask != UINT64_MAX;
    const struct scmp_arg_cmp check = {
        .arg = call->argument,
        .op = call->below ? SCMP_CMP_LT
              : masked    ? SCMP_CMP_MASKED_EQ
                          : SCMP_CMP_EQ,
        .datum_a = masked ? call->mask : call->value,
        .datum_b = call->value,
    };

    note(error, seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call->number, call->checks, &check));
}

static void add_calls(scmp_filter_ctx filter, unsigned by, bool kvm, int *error)
{
    for (unsigned i = 0; i < sandbox_call_count; i++)
        if (sandbox_calls[i].by & by && (kvm || !sandbox_calls[i].kvm))
            add_call(filter, &sandbox_calls[i], error);
    for (unsigned i = 0; i < sandbox_absent_count; i++)
        note(error, seccomp_rule_add(filter, SCMP_ACT_ERRNO(sandbox_absent[i].error),
                                     sandbox_absent[i].number, 0));
    /* The signal of abort(3), and those between threads, in this process alone. */
    note(error, seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                                 SCMP_A0(SCMP_CMP_EQ, getpid())));
    /* A thread may be held to less. */
    if (by == SANDBOX_BY_MAIN)
        note(error, seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(seccomp), 2,
                                     SCMP_A0(SCMP_CMP_EQ, SECCOMP_SET_MODE_FILTER),
                                     SCMP_A1(SCMP_CMP_EQ, 0)));
}

#if SANDBOX_SANITIZED
static bool makes(unsigned by, int number)
{
    for (unsigned i = 0; i < sandbox_call_count; i++)
        if (sandbox_calls[i].number == number && sandbox_calls[i].by & by)
            return true;
    return false;
}

/* What a sanitizer's runtime tries while it reports; it goes on without. */
static void add_sanitizer(scmp_filter_ctx filter, unsigned by, int *error)
{
    static const int calls[] = {
        SCMP_SYS(socket),    SCMP_SYS(getrlimit), SCMP_SYS(personality),
        SCMP_SYS(prlimit64), SCMP_SYS(open),      SCMP_SYS(openat),
        SCMP_SYS(readlink),  SCMP_SYS(stat),      SCMP_SYS(access),
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(calls); i++)
        if (!makes(by, calls[i]))
            note(error, seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), calls[i], 0));
}

/* The leak checker of a sanitized build stops the process's threads from a new process, which the
 * filter forbids: it is turned off in sandboxed processes. */
int __lsan_is_turned_off(void);
static int leaks_unchecked;
int __lsan_is_turned_off(void)
{
    return leaks_unchecked;
}
#endif

/* libseccomp's program for the callers in `by`. */
static int add_rules(scmp_filter_ctx filter, unsigned by, bool kvm)
{
    int error = 0;

    note(&error, seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));
    note(&error, seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2));
    add_calls(filter, by, kvm, &error);
#if SANDBOX_SANITIZED
    leaks_unchecked = 1;
    add_sanitizer(filter, by, &error);
#endif
    return error;
}

/* Append the instructions that libseccomp writes into a memory file. */
static int read_program(scmp_filter_ctx filter, GArray *program)
{
    int fd = memfd_create("filter", MFD_CLOEXEC), error = fd < 0 ? errno : 0;
    struct sock_filter instructions[64];
    ssize_t count;

    if (!error)
        note(&error, seccomp_export_bpf(filter, fd));
    for (off_t at = 0; !error && (count = pread(fd, instructions, sizeof(instructions), at)) > 0;
         at += count)
        g_array_append_vals(program, instructions, (guint)count / sizeof(instructions[0]));
    if (fd >= 0)
        close(fd);
    return error;
}

/* Calls of x86-64 that are newer than the table fail; a vCPU's commonest call is looked at first.
 * All else falls through to libseccomp's program, which looks at the architecture anew. */
static void add_prologue(GArray *program, bool runs_vcpus)
{
    const struct sock_filter newer[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, FIRST_X32_CALL, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SANDBOX_FIRST_UNKNOWN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
    };
    /* The kernel takes the lower half of the request alone. */
    const struct sock_filter run[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KVM_RUN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };

    if (runs_vcpus)
        g_array_append_vals(program, run, G_N_ELEMENTS(run));
    g_array_append_vals(program, newer, G_N_ELEMENTS(newer));
}

static int build(unsigned by, bool kvm, GArray *program)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
    int error = filter ? add_rules(filter, by, kvm) : ENOMEM;

    add_prologue(program, kvm && by & (SANDBOX_BY_VCPU | SANDBOX_BY_MAIN));
    if (!error)
        error = read_program(filter, program);
    if (filter)
        seccomp_release(filter);
    return error;
}

static int load(const GArray *program, unsigned flags)
{
    const struct sock_fprog code = {(unsigned short)program->len,
                                    (struct sock_filter *)program->data};

    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &code) == 0 ? 0 : errno;
}

/* ---- threads ---- */

_Static_assert(SANDBOX_BY_VCPU == 1 << THREAD_VCPU && SANDBOX_BY_SAVE == 1 << THREAD_SAVE,
               "callers begin with the kinds of threads");

/* The programs of a vmm's threads, made when the first of a kind begins. */
static struct {
    GMutex lock;
    bool kvm;
    GArray *programs[THREAD_KINDS];
} threads;

/* NULL when it cannot be made. */
static const GArray *find_program(enum thread_kind kind)
{
    g_mutex_lock(&threads.lock);
    if (!threads.programs[kind]) {
        GArray *program = g_array_new(FALSE, FALSE, sizeof(struct sock_filter));

        if (build(1U << kind, threads.kvm, program) == 0)
            threads.programs[kind] = program;
        else
            g_array_unref(program);
    }
    const GArray *program = threads.programs[kind];
    g_mutex_unlock(&threads.lock);
    return program;
}

/* One that cannot be held to its kind's calls is held to the vmm's: it would not do to lose a
 * machine for want of memory. */
static void on_thread(enum thread_kind kind)
{
    const GArray *program = find_program(kind);
    int error = program ? load(program, 0) : ENOMEM;

    if (error)
        g_warning("sandbox: a thread keeps the calls of all threads: %s", g_strerror(error));
}

static unsigned callers_of(enum sandbox_role role)
{
    static const unsigned by[SANDBOX_ROLES] = {
        [SANDBOX_VMM] = SANDBOX_BY_MAIN,        [SANDBOX_DUMP] = SANDBOX_BY_DUMP,
        [SANDBOX_NAT] = SANDBOX_BY_NAT,         [SANDBOX_NETWORK] = SANDBOX_BY_NAT,
        [SANDBOX_SWITCH] = SANDBOX_BY_SWITCH,   [SANDBOX_OSINFO] = SANDBOX_BY_OSINFO,
        [SANDBOX_PACKAGE] = SANDBOX_BY_PACKAGE,
    };

    return by[role];
}

int sandbox_filter_load(enum sandbox_role role, bool kvm)
{
    g_autoptr(GArray) program = g_array_new(FALSE, FALSE, sizeof(struct sock_filter));
    int error = sandbox_watch_violations();

    if (!error)
        error = build(callers_of(role), kvm, program);
    if (!error)
        error = load(program, SECCOMP_FILTER_FLAG_TSYNC);
    if (error || role != SANDBOX_VMM)
        return error;
    threads.kvm = kvm;
    thread_set_guard(on_thread);
    return 0;
}
