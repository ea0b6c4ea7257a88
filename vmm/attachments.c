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

/* The place for a descriptor called `name`; NULL when it has none or is taken. */
static int *find_place(struct attachments *attachments, const char *name)
{
    int *place = NULL;

    if (strcmp(name, "module") == 0 && attachments->module_count < MACHINE_MODULES_MAX)
        return &attachments->modules[attachments->module_count++];
    if (strcmp(name, "line") == 0 && attachments->line_count < LINES_MAX)
        return &attachments->line_fds[attachments->line_count++];
    if (strcmp(name, "kernel") == 0)
        place = &attachments->kernel;
    else if (strcmp(name, "initrd") == 0)
        place = &attachments->initrd;
    else if (strcmp(name, "gdb") == 0)
        place = &attachments->gdb;
    else if (strcmp(name, "kvm") == 0)
        place = &attachments->kvm;
    return place && *place < 0 ? place : NULL;
}

static bool fits(const struct attachments *attachments, const struct definition *definition)
{
    struct line lines[LINES_MAX];

    return (attachments->kernel >= 0) == (definition_text(definition, OPTION_KERNEL) != NULL) &&
           (attachments->initrd >= 0) == (definition_text(definition, OPTION_INITRD) != NULL) &&
           (attachments->gdb >= 0) == (definition_text(definition, OPTION_GDB) != NULL) &&
           attachments->module_count == definition_count(definition, OPTION_MODULE) &&
           attachments->line_count == definition_lines(definition, lines);
}

bool attachments_take(struct attachments *attachments, const struct definition *definition,
                      const json_t *names, int *fds, unsigned count, GError **error)
{
    bool good = json_array_size(names) == count;

    *attachments = (struct attachments){.kernel = -1, .initrd = -1, .gdb = -1, .kvm = -1};
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

static bool open_lines(struct attachments *attachments, const struct definition *definition,
                       GError **error)
{
    struct line lines[LINES_MAX];

    definition_lines(definition, lines);
    for (unsigned i = 0; i < attachments->line_count; i++) {
        int fd = attachments->line_fds[i];
        const struct chardev_fd_config config = {
            .name = lines[i].name,
            .in = lines[i].place == LINE_FILE ? -1 : fd,
            .out = fd,
            .listen = lines[i].place == LINE_SOCKET,
            .reopens = lines[i].place == LINE_PTY,
        };

        attachments->line_fds[i] = -1;
        attachments->lines[i] = chardev_fd_create(&config, error);
        if (!attachments->lines[i])
            return false;
    }
    return true;
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
    return open_lines(attachments, definition, error) &&
           open_debug_console(attachments, definition, error);
}

static void close_all(int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

void attachments_finish(struct attachments *attachments)
{
    for (unsigned i = 0; i < attachments->line_count; i++)
        chardev_destroy(g_steal_pointer(&attachments->lines[i]));
    chardev_destroy(g_steal_pointer(&attachments->debug_console));
    close_all(&attachments->kernel, 1);
    close_all(&attachments->initrd, 1);
    close_all(&attachments->gdb, 1);
    close_all(&attachments->kvm, 1);
    close_all(attachments->modules, attachments->module_count);
    close_all(attachments->line_fds, attachments->line_count);
    attachments->module_count = attachments->line_count = 0;
}
