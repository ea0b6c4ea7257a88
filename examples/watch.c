// SPDX-License-Identifier: Apache-2.0
/*
 * watch NAME: print the events of a running machine up to its end. Another thread asks every second
 * how it is, over the same connection.
 *
 *     cc watch.c $(pkg-config --cflags --libs anima) -pthread -o watch
 */
#include <anima.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void *ask(void *opaque)
{
    struct anima_machine *machine = opaque;
    char *status;

    while ((status = anima_machine_call(machine, "query", NULL, -1, 5000, NULL))) {
        printf("it is %s\n", strstr(status, "\"state\": \"running\"") ? "running" : "standing");
        fflush(stdout);
        anima_free(status);
        sleep(1);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct anima_error *error = NULL;
    struct anima_machine *machine;
    pthread_t asker;
    char *event;

    if (argc != 2) {
        fprintf(stderr, "usage: watch NAME\n");
        return 2;
    }
    machine = anima_machine_connect(argv[1], &error);
    if (machine)
        anima_free(anima_machine_call(machine, "events.subscribe", NULL, -1, -1, &error));
    if (error) {
        fprintf(stderr, "watch: %s\n", error->message);
        anima_error_free(error);
        anima_machine_destroy(machine);
        return 1;
    }
    pthread_create(&asker, NULL, ask, machine);
    while ((event = anima_machine_event(machine, -1, &error))) {
        printf("%s\n", event);
        fflush(stdout);
        anima_free(event);
    }
    pthread_join(asker, NULL);
    anima_error_free(error); /* the connection has closed */
    anima_machine_destroy(machine);
    return 0;
}
