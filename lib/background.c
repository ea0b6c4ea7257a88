// SPDX-License-Identifier: Apache-2.0
/*
 * Machines that run in the background: what would be on a terminal goes to files in the machine's
 * folder.
 *
 * A file that has grown large is put aside when the machine is started, and the one that was put
 * aside before goes: a log has two generations.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/fault.h"

#define LOG_FILE     "log"
#define CONSOLE_FILE "console.log"
#define LARGE        (1 << 20) /* bytes */

/* The file in the machine's folder, to append to. -1 with an error. */
static int open_log(const char *name, const char *file, struct anima_error **error)
{
    char *folder = anima_definition_folder(name);
    g_autofree char *path = g_build_filename(folder, file, NULL);
    g_autofree char *aside = g_strconcat(path, ".old", NULL);
    struct stat status;
    int fd;

    anima_free(folder);
    if (lstat(path, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > LARGE)
        rename(path, aside);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd < 0)
        error_set(error, ANIMA_ERROR_FAILED, "%s: %s", path, strerror(errno));
    return fd;
}

/* Start it and let it go; on failure nothing of it is left. */
static struct anima_machine *start(const struct anima_definition *definition, int console, int log,
                                   struct anima_error **error)
{
    struct anima_machine *machine = anima_machine_start(definition, console, error);

    if (machine && anima_machine_detach(machine, log, error))
        return machine;
    anima_machine_destroy(machine);
    return NULL;
}

ANIMA_API struct anima_machine *anima_machine_start_named(const char *name,
                                                          struct anima_error **error)
{
    struct anima_definition *definition = anima_definition_create();
    struct anima_machine *machine = NULL;
    int console = -1, log = -1;

    if (anima_definition_load_named(definition, name, error)) {
        console = open_log(name, CONSOLE_FILE, error);
        log = console < 0 ? -1 : open_log(name, LOG_FILE, error);
    }
    if (log >= 0)
        machine = start(definition, console, log, error);
    if (console >= 0)
        close(console);
    if (log >= 0)
        close(log);
    anima_definition_destroy(definition);
    return machine;
}
