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
static bool drawn; /* a bar stands there */

static void on_interrupt(int number)
{
    interrupted = number;
}

static void draw(uint64_t done, uint64_t total)
{
    double part = (double)done / total;
    unsigned filled = part * BAR_WIDTH;

    drawn = true;
    fprintf(stderr, "\r[%.*s%*s] %3u %%", (int)filled, "########################################",
            (int)(BAR_WIDTH - filled), "", (unsigned)(part * 100));
}

static void erase(void)
{
    if (drawn)
        fprintf(stderr, "\r%*s\r", BAR_WIDTH + 8, "");
    drawn = false;
}

/* The answer has come, and nothing of the bar is left. */
static void await(struct anima_call *call)
{
    bool terminal = isatty(STDERR_FILENO), cancelled = false;
    uint64_t done, total;

    while (!anima_call_wait(call, DRAW_MS)) {
        if (terminal && anima_call_progress(call, &done, &total))
            draw(done, total);
        if (interrupted && !cancelled)
            anima_call_cancel(call, CANCEL_MS, NULL);
        cancelled |= interrupted;
    }
    erase();
}

/* What was set before, for the end of the work. */
struct handlers {
    struct sigaction interrupt, terminate;
};

static void catch_signals(struct handlers *before)
{
    struct sigaction action = {.sa_handler = on_interrupt};

    interrupted = 0;
    sigaction(SIGINT, &action, &before->interrupt);
    sigaction(SIGTERM, &action, &before->terminate);
}

static void restore_signals(const struct handlers *before)
{
    sigaction(SIGINT, &before->interrupt, NULL);
    sigaction(SIGTERM, &before->terminate, NULL);
}

char *progress_await(struct anima_call *call, struct anima_error **error)
{
    struct handlers before;
    char *result;

    if (!call)
        return NULL;
    catch_signals(&before);
    await(call);
    restore_signals(&before);
    result = anima_call_result(call, error);
    anima_call_destroy(call);
    return result;
}

char *progress_call(struct anima_machine *machine, const char *method, const char *params, int fd,
                    struct anima_error **error)
{
    return progress_await(anima_machine_begin(machine, method, params, fd, error), error);
}

/* Step until it is over, or a signal comes. What the last step returned. */
static int step_on(int (*step)(void *opaque, uint64_t *done, uint64_t *total,
                               struct anima_error **error),
                   void *opaque, struct anima_error **error)
{
    bool terminal = isatty(STDERR_FILENO);
    struct handlers before;
    uint64_t done, total;
    int more = 1;

    catch_signals(&before);
    while (more == 1 && !interrupted) {
        more = step(opaque, &done, &total, error);
        if (terminal && more == 1 && total)
            draw(done, total);
    }
    erase();
    restore_signals(&before);
    return more;
}

static int step_creation(void *opaque, uint64_t *done, uint64_t *total, struct anima_error **error)
{
    return anima_creation_step(opaque, done, total, error);
}

bool progress_create(struct anima_creation *creation, struct anima_error **error)
{
    return step_on(step_creation, creation, error) == 0;
}

/* Until nothing of it is left. */
static void kill_machine(struct anima_machine *machine)
{
    char *result = anima_machine_call(machine, "kill", NULL, -1, CANCEL_MS, NULL);
    struct anima_end end;

    if (result && anima_machine_wait(machine, CANCEL_MS, &end, NULL) == 1) {
        anima_free(end.cause);
        anima_free(end.message);
    }
    anima_free(result);
}

static int step_start(void *opaque, uint64_t *done, uint64_t *total, struct anima_error **error)
{
    return anima_machine_start_step(opaque, DRAW_MS, done, total, error);
}

bool progress_start(struct anima_machine *machine, struct anima_error **error)
{
    int more = step_on(step_start, machine, error);

    /* Also one that came to run meanwhile: nobody would hear of the signal any more. */
    if (more != -1 && interrupted)
        kill_machine(machine);
    return more == 0 && !interrupted;
}

int progress_interrupted(void)
{
    return interrupted;
}
