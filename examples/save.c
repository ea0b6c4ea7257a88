// SPDX-License-Identifier: Apache-2.0
/*
 * save NAME FILE [SECONDS]: write the state of a running machine to a file, tell how far that is,
 * and give up after so many seconds.
 *
 *     cc save.c $(pkg-config --cflags --libs anima) -o save
 */
#include <anima.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int fail(struct anima_error *error)
{
    fprintf(stderr, "save: %s\n", error->message);
    anima_error_free(error);
    return 1;
}

static void show(struct anima_call *call)
{
    uint64_t done, total;

    if (anima_call_progress(call, &done, &total))
        fprintf(stderr, "save: %" PRIu64 " of %" PRIu64 " MiB\n", done >> 20, total >> 20);
}

/* Wait for the answer, or cancel when `seconds` are over. */
static void attend(struct anima_call *call, double seconds)
{
    struct timespec begin, now;
    double passed;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    while (!anima_call_wait(call, 100)) {
        show(call);
        clock_gettime(CLOCK_MONOTONIC, &now);
        passed = now.tv_sec - begin.tv_sec + (now.tv_nsec - begin.tv_nsec) / 1e9;
        if (seconds > 0 && passed > seconds) {
            anima_call_cancel(call, -1, NULL);
            anima_call_wait(call, -1);
        }
    }
    show(call);
}

int main(int argc, char **argv)
{
    struct anima_error *error = NULL;
    struct anima_machine *machine;
    struct anima_call *call;
    char *result = NULL;
    int fd;

    if (argc < 3) {
        fprintf(stderr, "usage: save NAME FILE [SECONDS]\n");
        return 2;
    }
    machine = anima_machine_connect(argv[1], &error);
    if (!machine)
        return fail(error);
    fd = open(argv[2], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        perror(argv[2]);
        anima_machine_destroy(machine);
        return 1;
    }
    call = anima_machine_begin(machine, "state.save", NULL, fd, &error);
    close(fd);
    if (call) {
        attend(call, argc > 3 ? atof(argv[3]) : 0);
        result = anima_call_result(call, &error);
    }
    anima_call_destroy(call);
    anima_machine_destroy(machine);
    anima_free(result);
    return result ? 0 : fail(error);
}
