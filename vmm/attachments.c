// SPDX-License-Identifier: Apache-2.0
/*
 * Sorting descriptors by name.
 */
#include "vmm/attachments.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "config/limits.h"

_Static_assert(CONFIG_LIST_MAX <= MACHINE_MODULES_MAX, "every module of a definition has a place");

static const char *const serial_kinds[] = {"serial", "serial-pty", "serial-listen", NULL};

/* The place for a descriptor called `name`; NULL when it has none or is taken. */
static int *find_place(struct attachments *attachments, const char *name)
{
    int *place = NULL;

    if (strcmp(name, "module") == 0 && attachments->module_count < MACHINE_MODULES_MAX)
        return &attachments->modules[attachments->module_count++];
    if (strcmp(name, "kernel") == 0)
        place = &attachments->kernel;
    else if (strcmp(name, "initrd") == 0)
        place = &attachments->initrd;
    else if (strcmp(name, "gdb") == 0)
        place = &attachments->gdb;
    else if (strcmp(name, "kvm") == 0)
        place = &attachments->kvm;
    for (unsigned i = 0; serial_kinds[i]; i++)
        if (strcmp(name, serial_kinds[i]) == 0) {
            place = &attachments->serial;
            attachments->serial_kind = serial_kinds[i];
        }
    return place && *place < 0 ? place : NULL;
}

static bool fits(const struct attachments *attachments, const struct definition *definition)
{
    return (attachments->kernel >= 0) == (definition_text(definition, OPTION_KERNEL) != NULL) &&
           (attachments->initrd >= 0) == (definition_text(definition, OPTION_INITRD) != NULL) &&
           (attachments->gdb >= 0) == (definition_text(definition, OPTION_GDB) != NULL) &&
           attachments->module_count == definition_count(definition, OPTION_MODULE);
}

bool attachments_take(struct attachments *attachments, const struct definition *definition,
                      const json_t *names, int *fds, unsigned count, GError **error)
{
    bool good = json_array_size(names) == count;

    *attachments =
        (struct attachments){.kernel = -1, .initrd = -1, .gdb = -1, .serial = -1, .kvm = -1};
    for (unsigned i = 0; good && i < count; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        int *place = name ? find_place(attachments, name) : NULL;

        good = place != NULL;
        if (good) {
            *place = fds[i];
            fds[i] = -1;
        }
    }
    if (good && fits(attachments, definition))
        return true;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                "the descriptors do not fit the definition");
    return false;
}

static bool open_serial(struct attachments *attachments, GError **error)
{
    struct chardev_fd_config config = {
        .name = "serial0",
        .in = attachments->serial,
        .out = attachments->serial,
    };

    if (attachments->serial < 0)
        return true;
    config.listen = strcmp(attachments->serial_kind, "serial-listen") == 0;
    config.reopens = strcmp(attachments->serial_kind, "serial-pty") == 0;
    /* A file takes output and has no input. */
    if ((fcntl(attachments->serial, F_GETFL) & O_ACCMODE) == O_WRONLY)
        config.in = -1;
    attachments->serial = -1;
    attachments->serial_line = chardev_fd_create(&config, error);
    return attachments->serial_line != NULL;
}

/* Port E9h goes to standard error, which the monitor reads line by line. */
static bool open_debug_console(struct attachments *attachments, const struct definition *definition,
                               GError **error)
{
    struct chardev_fd_config config = {.name = "debugcon", .in = -1, .out = -1};

    if (!definition_lists(definition, OPTION_DEVICE, "debugcon"))
        return true;
    config.out = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    attachments->debug_console = chardev_fd_create(&config, error);
    return attachments->debug_console != NULL;
}

bool attachments_open_lines(struct attachments *attachments, const struct definition *definition,
                            GError **error)
{
    return open_serial(attachments, error) && open_debug_console(attachments, definition, error);
}

void attachments_finish(struct attachments *attachments)
{
    int *fds[] = {&attachments->kernel, &attachments->initrd, &attachments->gdb,
                  &attachments->serial, &attachments->kvm};

    chardev_destroy(g_steal_pointer(&attachments->serial_line));
    chardev_destroy(g_steal_pointer(&attachments->debug_console));
    for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
    for (unsigned i = 0; i < attachments->module_count; i++)
        if (attachments->modules[i] >= 0)
            close(attachments->modules[i]);
    attachments->module_count = 0;
}
