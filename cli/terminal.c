// SPDX-License-Identifier: Apache-2.0
/*
 * Raw mode by termios(3). The one terminal of a process is the one global state of this program:
 * handlers of fatal signals must reach it.
 */
#include "cli/terminal.h"

#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

static struct termios saved;
static volatile sig_atomic_t known; /* `saved` is the terminal's own mode */
static volatile sig_atomic_t raw;

static const int fatal_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};

/* tcsetattr from the background would stop us; a restore must go through from anywhere. */
static void set_mode(const struct termios *mode)
{
    sigset_t stop, before;

    sigemptyset(&stop);
    sigaddset(&stop, SIGTTOU);
    sigprocmask(SIG_BLOCK, &stop, &before);
    tcsetattr(STDIN_FILENO, TCSANOW, mode);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

void terminal_restore(void)
{
    if (!raw)
        return;
    raw = 0;
    set_mode(&saved);
}

/* The handler is gone already (SA_RESETHAND): the signal takes its course. */
static void on_fatal(int number)
{
    terminal_restore();
    raise(number);
}

static void guard(void)
{
    struct sigaction action = {.sa_handler = on_fatal, .sa_flags = SA_RESETHAND | SA_NODEFER};

    for (unsigned i = 0; i < sizeof(fatal_signals) / sizeof(fatal_signals[0]); i++)
        sigaction(fatal_signals[i], &action, NULL);
    atexit(terminal_restore);
}

void terminal_raw(void)
{
    struct termios mode;

    if (raw || !isatty(STDIN_FILENO) || tcgetpgrp(STDIN_FILENO) != getpgrp())
        return;
    if (!known) {
        if (tcgetattr(STDIN_FILENO, &saved) != 0)
            return;
        known = 1;
        guard();
    }
    mode = saved;
    cfmakeraw(&mode);
    raw = 1;
    set_mode(&mode);
}

bool terminal_is_raw(void)
{
    return raw;
}
