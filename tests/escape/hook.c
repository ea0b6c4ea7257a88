// SPDX-License-Identifier: Apache-2.0
/*
 * Hostile code in the programs of Anima: the linker puts these functions in the place of ours
 * (ld(1), --wrap), in copies of the programs that only the tests have. Each does what ours does,
 * and then makes the attempts: right after the sandbox has closed, and at the begin of a vCPU's
 * thread.
 *
 * The handler of SIGSYS is the hook's: it notes that the call was refused, and goes on to the next.
 * With ANIMA_ESCAPE_NO_FILTER the filter is left out, to see what the other layers refuse.
 */
#include <errno.h>
#include <liburing.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <ucontext.h>

#include "tests/escape/attempts.h"
#include "vmm/monitor/sandbox_filter.h"
#include "vmm/util/thread.h"

bool __real_sandbox_enter(enum sandbox_role role, bool kvm, struct sandbox_report *report,
                          GError **error);
bool __wrap_sandbox_enter(enum sandbox_role role, bool kvm, struct sandbox_report *report,
                          GError **error);
int __real_sandbox_filter_load(enum sandbox_role role, bool kvm);
int __wrap_sandbox_filter_load(enum sandbox_role role, bool kvm);
void __real_thread_begin(enum thread_kind kind);
void __wrap_thread_begin(enum thread_kind kind);
int __real_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
int __wrap_sandbox_watch_violations(void);

static bool is_without_filter(void)
{
    return getenv("ANIMA_ESCAPE_NO_FILTER");
}

bool __wrap_sandbox_enter(enum sandbox_role role, bool kvm, struct sandbox_report *report,
                          GError **error)
{
    if (!__real_sandbox_enter(role, kvm, report, error))
        return false;
    attempts_run("main", is_without_filter());
    return true;
}

int __wrap_sandbox_filter_load(enum sandbox_role role, bool kvm)
{
    return is_without_filter() ? 0 : __real_sandbox_filter_load(role, kvm);
}

void __wrap_thread_begin(enum thread_kind kind)
{
    static atomic_flag done = ATOMIC_FLAG_INIT;

    __real_thread_begin(kind);
    if (kind == THREAD_VCPU && !atomic_flag_test_and_set(&done)) {
        /* The ring is the I/O thread's by now. */
        attempts_set_ring(NULL);
        attempts_run("vcpu", is_without_filter());
    }
}

int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params)
{
    int result = __real_io_uring_queue_init_params(entries, ring, params);

    attempts_set_ring(result == 0 ? ring : NULL);
    return result;
}

static void on_violation(int number, siginfo_t *info, void *context)
{
    attempt_trapped = 1;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = -EPERM;
}

int __wrap_sandbox_watch_violations(void)
{
    struct sigaction action = {.sa_sigaction = on_violation, .sa_flags = SA_SIGINFO | SA_NODEFER};

    return sigaction(SIGSYS, &action, NULL) == 0 ? 0 : errno;
}
