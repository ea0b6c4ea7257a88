// SPDX-License-Identifier: Apache-2.0
/*
 * Machines that run in the background: what would be on a terminal goes to files in the machine's
 * folder, which the monitor keeps from growing without end.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lib/connect.h"
#include "lib/fault.h"
#include "lib/machine.h"

/* A file in the machine's folder. */
struct log {
    char *path;
    int fd;
};

/* Open `file` to append to; false and an error. */
static bool log_open(struct log *log, const char *name, const char *file,
                     struct anima_error **error)
{
    char *folder = anima_definition_folder(name);

    log->path = g_build_filename(folder, file, NULL);
    anima_free(folder);
    log->fd =
        open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (log->fd < 0)
        error_set(error, ANIMA_ERROR_FAILED, "%s: %s", log->path, strerror(errno));
    return log->fd >= 0;
}

static void log_close(struct log *log)
{
    g_free(log->path);
    if (log->fd >= 0)
        close(log->fd);
}

/* Whether it is not running; else an error. The monitor would find a disk in use first. */
static bool is_free(const char *name, struct anima_error **error)
{
    int fd = control_connect(name);

    if (fd < 0)
        return true;
    close(fd);
    error_set(error, ANIMA_ERROR_STATE, "a machine called '%s' is running already", name);
    return false;
}

ANIMA_API struct anima_machine *anima_machine_start_named_begin(const char *name,
                                                                struct anima_error **error)
{
    struct anima_definition *definition = anima_definition_create();
    struct log console = {.fd = -1}, log = {.fd = -1};
    struct anima_machine *machine = NULL;

    if (anima_definition_load_named(definition, name, error) && is_free(name, error) &&
        log_open(&console, name, "console.log", error) && log_open(&log, name, "log", error))
        machine = machine_start_begin(definition, console.fd, console.path, error);
    if (machine) {
        machine_detach_later(machine, log.fd, log.path);
        log = (struct log){.fd = -1};
    }
    log_close(&console);
    log_close(&log);
    anima_definition_destroy(definition);
    return machine;
}

ANIMA_API struct anima_machine *anima_machine_start_named(const char *name,
                                                          struct anima_error **error)
{
    return machine_await_start(anima_machine_start_named_begin(name, error), error);
}
