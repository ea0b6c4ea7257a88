// SPDX-License-Identifier: Apache-2.0
/*
 * What becomes of a call that the filter refuses. The kernel sends SIGSYS in place of it, and the
 * handler writes a line: the thread's name, the call's number and arguments. The monitor puts the
 * name of the call to it, which would need memory here. Then the process dies of the call: no code
 * of ours makes it, so what runs there is not ours any more. Only calls that take a path fail
 * instead, once they are told.
 */
#include <errno.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <ucontext.h>
#include <unistd.h>

#include "vmm/monitor/sandbox_calls.h"
#include "vmm/monitor/sandbox_filter.h"

#define SYSCALL_LENGTH 2 /* bytes of the instruction */
#define ARGUMENTS      6
#define WARNINGS_MAX   16 /* of calls that take a path */
#define LINE_MAX_SIZE  256
#define LINE_START     "anima-vmm: sandbox: "
#define LINE_FATAL     "killed"
#define LINE_REFUSED   "refused"
#define LINE_FORM      "%15s %d (%127[0-9a-fx, ]) %31[^\n]"

/* A line under construction, by calls that are safe in a signal handler. */
struct line {
    char text[LINE_MAX_SIZE];
    size_t length;
};

static void add_text(struct line *line, const char *text)
{
    while (*text && line->length < sizeof(line->text) - 1)
        line->text[line->length++] = *text++;
}

static void add_number(struct line *line, uint64_t number, unsigned base)
{
    char digits[24];
    size_t at = sizeof(digits);

    digits[--at] = 0;
    do
        digits[--at] = "0123456789abcdef"[number % base];
    while ((number /= base));
    add_text(line, digits + at);
}

static void tell_call(const char *verdict, int number, const greg_t *registers)
{
    static const int places[ARGUMENTS] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
    struct line line = {.length = 0};
    char thread[17] = "?";

    prctl(PR_GET_NAME, thread);
    add_text(&line, LINE_START);
    add_text(&line, verdict);
    add_text(&line, " ");
    add_number(&line, (unsigned)number, 10);
    for (unsigned i = 0; i < ARGUMENTS; i++) {
        add_text(&line, i ? ", 0x" : " (0x");
        add_number(&line, (uint64_t)registers[places[i]], 16);
    }
    add_text(&line, ") ");
    add_text(&line, thread);
    line.text[line.length++] = '\n';
    if (write(STDERR_FILENO, line.text, line.length) < 0)
        return;
}

/* The fatal call is made once more, with the signal blocked, of which the kernel kills the process
 * whatever it is: a signal that it sent itself would not end the process 1 of a namespace. */
static void on_violation(int signal_number, siginfo_t *info, void *context)
{
    static int warnings;
    ucontext_t *state = context;
    greg_t *registers = state->uc_mcontext.gregs;

    if (!sandbox_call_takes_path(info->si_syscall)) {
        tell_call(LINE_FATAL, info->si_syscall, registers);
        sigaddset(&state->uc_sigmask, SIGSYS);
        registers[REG_RAX] = info->si_syscall;
        registers[REG_RIP] = (greg_t)(uintptr_t)info->si_call_addr - SYSCALL_LENGTH;
        return;
    }
    if (__atomic_fetch_add(&warnings, 1, __ATOMIC_RELAXED) < WARNINGS_MAX)
        tell_call(LINE_REFUSED, info->si_syscall, registers);
    registers[REG_RAX] = -EACCES;
}

int sandbox_watch_violations(void)
{
    struct sigaction action = {.sa_sigaction = on_violation, .sa_flags = SA_SIGINFO | SA_NODEFER};

    return sigaction(SIGSYS, &action, NULL) == 0 ? 0 : errno;
}

char *sandbox_explain(const char *role, const char *line, bool *fatal)
{
    char verdict[16], thread[32] = "", arguments[128] = "";
    char *name, *sentence;
    int number, fields = 0;

    if (g_str_has_prefix(line, LINE_START))
        fields = sscanf(line + strlen(LINE_START), LINE_FORM, /* lint: ok: it has the bounds */
                        verdict, &number, arguments, thread);
    if (fields != 4)
        return NULL;
    *fatal = g_str_equal(verdict, LINE_FATAL);
    name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
    sentence = g_strdup_printf(
        "the sandbox %s the %s's thread %s a system call that it never makes: "
        "%s(%s)",
        *fatal ? "ended" : "refused", role, thread, name ? name : "unknown", arguments);
    free(name);
    return sentence;
}
