// SPDX-License-Identifier: Apache-2.0
/*
 * run KERNEL [OPTION=VALUE]...: start a machine whose serial line is standard input and output, and
 * wait for its end. One loop waits for all: the machine's events and its line.
 *
 *     cc run.c $(pkg-config --cflags --libs anima) -o run
 */
#include <anima.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int fail(struct anima_error *error)
{
    fprintf(stderr, "run: %s\n", error->message);
    anima_error_free(error);
    return 1;
}

/* "KEY=VALUE" to an option of the definition. */
static bool set(struct anima_definition *definition, char *word, struct anima_error **error)
{
    char *equals = strchr(word, '=');

    if (equals)
        *equals = 0;
    return anima_definition_set(definition, word, equals ? equals + 1 : "yes", error);
}

/* What is there now, from one descriptor to another. False at the end. */
static bool copy(int from, int to)
{
    char bytes[4096];
    ssize_t count = read(from, bytes, sizeof(bytes));

    return count > 0 && write(to, bytes, count) == count;
}

/* The machine's exit status. */
static int serve(struct anima_machine *machine, int line)
{
    struct pollfd polls[] = {
        {.fd = anima_machine_fd(machine), .events = POLLIN},
        {.fd = line, .events = POLLIN},
        {.fd = STDIN_FILENO, .events = POLLIN},
    };
    struct anima_error *error = NULL;
    struct anima_end end;

    for (;;) {
        poll(polls, 3, -1);
        if (polls[1].revents && !copy(line, STDOUT_FILENO))
            polls[1].fd = -1;
        if (polls[2].revents && !copy(STDIN_FILENO, line))
            polls[2].fd = -1;
        if (!polls[0].revents)
            continue;
        switch (anima_machine_wait(machine, 0, &end, &error)) {
        case -1:
            return fail(error);
        case 1:
            while (polls[1].fd >= 0 && copy(line, STDOUT_FILENO))
                continue;
            fprintf(stderr, "run: the machine has ended: %s\n", end.cause);
            anima_free(end.cause);
            anima_free(end.message);
            return end.status;
        }
    }
}

int main(int argc, char **argv)
{
    struct anima_definition *definition = anima_definition_create();
    struct anima_machine *machine = NULL;
    struct anima_error *error = NULL;
    int ends[2], status;
    bool good;

    if (argc < 2 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        fprintf(stderr, "usage: run KERNEL [OPTION=VALUE]...\n");
        return 2;
    }
    good = anima_definition_set(definition, "kernel", argv[1], &error);
    for (int i = 2; good && i < argc; i++)
        good = set(definition, argv[i], &error);
    if (good)
        machine = anima_machine_start(definition, ends[1], &error);
    anima_definition_destroy(definition);
    close(ends[1]);
    status = machine ? serve(machine, ends[0]) : fail(error);
    anima_machine_destroy(machine);
    close(ends[0]);
    return status;
}
