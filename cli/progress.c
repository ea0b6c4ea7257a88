// SPDX-License-Identifier: Apache-2.0
/*
 * A bar that is drawn again while the library waits for an answer.
 */
#include "cli/progress.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define DRAW_MS   100
#define CANCEL_MS 10000
#define BAR_WIDTH 40

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    interrupted = 1;
}

static void draw(struct anima_call *call)
{
    uint64_t done, total;
    unsigned filled;

    if (!anima_call_progress(call, &done, &total))
        return;
    filled = done * BAR_WIDTH / total;
    fprintf(stderr, "\r[%.*s%*s] %3u %%", (int)filled, "########################################",
            (int)(BAR_WIDTH - filled), "", (unsigned)(done * 100 / total));
}

/* The answer has come, and nothing of the bar is left. */
static void await(struct anima_call *call)
{
    bool terminal = isatty(STDERR_FILENO), cancelled = false;

    while (!anima_call_wait(call, DRAW_MS)) {
        if (terminal)
            draw(call);
        if (interrupted && !cancelled)
            anima_call_cancel(call, CANCEL_MS, NULL);
        cancelled |= interrupted;
    }
    if (terminal)
        fprintf(stderr, "\r%*s\r", BAR_WIDTH + 8, "");
}

char *progress_call(struct anima_machine *machine, const char *method, const char *params, int fd,
                    struct anima_error **error)
{
    struct sigaction action = {.sa_handler = on_interrupt}, before_int, before_term;
    struct anima_call *call = anima_machine_begin(machine, method, params, fd, error);
    char *result;

    if (!call)
        return NULL;
    interrupted = 0;
    sigaction(SIGINT, &action, &before_int);
    sigaction(SIGTERM, &action, &before_term);
    await(call);
    sigaction(SIGINT, &before_int, NULL);
    sigaction(SIGTERM, &before_term, NULL);
    result = anima_call_result(call, error);
    anima_call_destroy(call);
    return result;
}
