// SPDX-License-Identifier: Apache-2.0
/*
 * The group is made below the one that the machine was started in, which must be ours to divide:
 *
 *     unit or scope (Delegate=yes)     where the kernel wants no process beside groups, so
 *       +- commands                    whoever was in it is moved here: the command that starts us
 *       +- machine-NAME                monitor, vmm and helpers, with the limits
 *
 * Where systemd runs, a group is ours when it says so ("Delegation" in
 * systemd.resource-control(5)); in any other it would take away again what we set. Elsewhere a
 * group is ours when we may write to it.
 */
#include "vmm/monitor/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "config/schema.h"

#define SYSTEMD     "/run/systemd/system"
#define PERIOD_US   100000U
#define PIDS_MAX    "4096"
#define COMMANDS    "commands"
#define MOVES_MAX   64 /* passes over processes that may fork meanwhile */
#define MOUNT_POINT 4  /* field of a line of mountinfo */
#define ADVICE                                                                            \
    "start the machine by 'systemctl %sstart anima@%s', or by 'systemd-run %s--scope -p " \
    "Delegate=yes anima start %s'"

struct cgroup {
    char *above; /* folder of the group that was divided */
    char *path;  /* the machine's, as the kernel tells it */
    char *folder;
};

static const struct {
    enum option_id id;
    const char *controller;
} limited[] = {
    {OPTION_CPU_LIMIT, "cpu"},
    {OPTION_CPU_WEIGHT, "cpu"},
    {OPTION_MEMORY_LIMIT, "memory"},
};

static bool refuse(GError **error, enum option_id id, const char *format, ...) G_GNUC_PRINTF(3, 4);

static bool refuse(GError **error, enum option_id id, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list arguments;

    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s: %s", options[id].key, text);
    return false;
}

/* ---- where we are ---- */

/* Our group of version 2 ("0::/path"); NULL: there is none. */
static char *own_group(void)
{
    g_autofree char *text = NULL;

    if (!g_file_get_contents("/proc/self/cgroup", &text, NULL, NULL))
        return NULL;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++)
        if (g_str_has_prefix(*line, "0::/"))
            return g_strdup(*line + strlen("0::"));
    return NULL;
}

/* Where groups of version 2 are mounted (proc(5), mountinfo): "... ROOT POINT OPTIONS ... - TYPE".
 */
static char *find_mount(void)
{
    g_autofree char *text = NULL;

    if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
        return NULL;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) words = g_strsplit(*line, " ", -1);

        if (strstr(*line, " - cgroup2 ") && g_strv_length(words) > MOUNT_POINT)
            return g_strdup(words[MOUNT_POINT]);
    }
    return NULL;
}

/* ---- files of groups ---- */

static char *read_text(const char *folder, const char *name)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? g_strchomp(text) : g_strdup("");
}

/* 0 or an errno. */
static int write_text(const char *folder, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    int fd = open(path, O_WRONLY | O_CLOEXEC), error = 0;

    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        error = errno;
    if (fd >= 0)
        close(fd);
    return error;
}

static bool has_word(const char *text, const char *word)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);

    return g_strv_contains((const char *const *)words, word);
}

/* A user's manager may not mark groups, but can be asked. */
static bool is_delegated_by_user(const char *folder)
{
    g_autofree char *unit = g_path_get_basename(folder);
    const char *const words[] = {"systemctl", "--user", "show", "-P", "Delegate", unit, NULL};
    g_autofree char *said = NULL;

    return access(folder, W_OK) == 0 &&
           g_spawn_sync(NULL, (char **)words, NULL,
                        G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, &said, NULL,
                        NULL, NULL) &&
           g_str_equal(g_strchomp(said), "yes");
}

static bool is_delegated(const char *folder)
{
    static const char *const marks[] = {"user.delegate", "trusted.delegate"};
    char value[2] = "";

    for (unsigned i = 0; i < G_N_ELEMENTS(marks); i++)
        if (getxattr(folder, marks[i], value, 1) == 1 && value[0] == '1')
            return true;
    return geteuid() != 0 && is_delegated_by_user(folder);
}

/* ---- dividing the group ---- */

/* All processes of the group into the one for commands. 0 or an errno. */
static int move_processes(const char *folder)
{
    g_autofree char *commands = g_build_filename(folder, COMMANDS, NULL);

    if (mkdir(commands, 0755) != 0 && errno != EEXIST)
        return errno;
    for (unsigned i = 0; i < MOVES_MAX; i++) {
        g_autofree char *processes = read_text(folder, "cgroup.procs");
        g_auto(GStrv) ids = g_strsplit(processes, "\n", -1);

        if (!*processes)
            return 0;
        for (char **id = ids; *id; id++) {
            int error = write_text(commands, "cgroup.procs", *id);

            /* It has ended. */
            if (error && error != ESRCH)
                return error;
        }
    }
    return EBUSY;
}

/* Have the group's children limited by the controllers. 0 or an errno. */
static int divide(const char *folder, const char *group, const char *controllers)
{
    int error = write_text(folder, "cgroup.subtree_control", controllers);

    /* Processes stand in the way. Those of the host's root group are not ours to move. */
    if (error != EBUSY || g_str_equal(group, "/"))
        return error;
    error = move_processes(folder);
    return error ? error : write_text(folder, "cgroup.subtree_control", controllers);
}

static bool check_place(const struct definition *definition, enum option_id id, const char *folder,
                        GError **error)
{
    const char *name = definition_text(definition, OPTION_NAME);
    const char *user = geteuid() == 0 ? "" : "--user ";

    if (access(SYSTEMD, F_OK) == 0 ? is_delegated(folder) : access(folder, W_OK) == 0)
        return true;
    if (access(SYSTEMD, F_OK) == 0)
        return refuse(error, id, "the control group of this session is not ours to divide; " ADVICE,
                      user, name, user, name);
    return refuse(error, id, "%s: %s; only who may write there can set limits", folder,
                  g_strerror(errno));
}

/* The controllers for what is limited, as "+cpu +memory"; false when one is not there. */
static bool choose_controllers(const struct definition *definition, const char *folder,
                               GString *chosen, GError **error)
{
    g_autofree char *there = read_text(folder, "cgroup.controllers");

    for (unsigned i = 0; i < G_N_ELEMENTS(limited); i++) {
        const char *controller = limited[i].controller;

        if (!definition_has(definition, limited[i].id))
            continue;
        if (!has_word(there, controller))
            return refuse(error, limited[i].id,
                          "the controller '%s' is not to be had in %s; see \"Delegate=\" in "
                          "systemd.resource-control(5), and whether the host keeps it in cgroups "
                          "of version 1",
                          controller, folder);
        g_string_append_printf(chosen, "%s+%s", chosen->len ? " " : "", controller);
    }
    if (has_word(there, "pids"))
        g_string_append(chosen, " +pids");
    return true;
}

static bool set(const char *folder, enum option_id id, const char *name, const char *value,
                GError **error)
{
    int failure = write_text(folder, name, value);

    return !failure || refuse(error, id, "%s/%s: %s", folder, name, g_strerror(failure));
}

static bool set_all(const struct definition *definition, const char *folder, GError **error)
{
    uint64_t cpu = definition_number(definition, OPTION_CPU_LIMIT);
    g_autofree char *quota =
        g_strdup_printf("%" G_GUINT64_FORMAT " %u", cpu * (PERIOD_US / 100), PERIOD_US);
    g_autofree char *weight =
        g_strdup_printf("%" G_GUINT64_FORMAT, definition_number(definition, OPTION_CPU_WEIGHT));
    g_autofree char *memory =
        g_strdup_printf("%" G_GUINT64_FORMAT, definition_number(definition, OPTION_MEMORY_LIMIT));

    /* Where the controller is not there, threads are limited by what a process may have. */
    write_text(folder, "pids.max", PIDS_MAX);
    return (!definition_has(definition, OPTION_CPU_LIMIT) ||
            set(folder, OPTION_CPU_LIMIT, "cpu.max", quota, error)) &&
           (!definition_has(definition, OPTION_CPU_WEIGHT) ||
            set(folder, OPTION_CPU_WEIGHT, "cpu.weight", weight, error)) &&
           (!definition_has(definition, OPTION_MEMORY_LIMIT) ||
            set(folder, OPTION_MEMORY_LIMIT, "memory.max", memory, error));
}

/* ---- life ---- */

static enum option_id first_limited(const struct definition *definition)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(limited); i++)
        if (definition_has(definition, limited[i].id))
            return limited[i].id;
    return OPTION_COUNT;
}

/* The group with its limits, still empty. */
static bool make_group(struct cgroup *cgroup, const struct definition *definition,
                       enum option_id first, const char *above, GError **error)
{
    g_autoptr(GString) controllers = g_string_new(NULL);
    g_autofree char *leaf = g_strdup_printf("machine-%s", definition_text(definition, OPTION_NAME));
    int failure;

    cgroup->folder = g_build_filename(cgroup->above, leaf, NULL);
    cgroup->path = g_build_filename(above, leaf, NULL);
    if (!check_place(definition, first, cgroup->above, error) ||
        !choose_controllers(definition, cgroup->above, controllers, error))
        return false;
    failure = divide(cgroup->above, above, controllers->str);
    if (!failure && mkdir(cgroup->folder, 0755) != 0 && errno != EEXIST)
        failure = errno;
    if (failure)
        return refuse(error, first, "%s cannot be divided: %s", cgroup->above, g_strerror(failure));
    return set_all(definition, cgroup->folder, error) &&
           set(cgroup->folder, first, "cgroup.procs", "0", error);
}

struct cgroup *cgroup_create(const struct definition *definition, GError **error)
{
    enum option_id first = first_limited(definition);
    g_autofree char *mount = NULL, *above = NULL;
    struct cgroup *cgroup;

    if (first == OPTION_COUNT)
        return NULL;
    if (definition_has(definition, OPTION_MEMORY_LIMIT) &&
        definition_number(definition, OPTION_MEMORY_LIMIT) <
            definition_number(definition, OPTION_MEMORY)) {
        refuse(error, OPTION_MEMORY_LIMIT,
               "less than the guest's memory; the machine would be killed");
        return NULL;
    }
    mount = find_mount();
    above = own_group();
    if (!mount || !above) {
        refuse(error, first, "this host has no control groups of version 2");
        return NULL;
    }
    cgroup = g_new0(struct cgroup, 1);
    cgroup->above = g_build_filename(mount, above, NULL);
    if (make_group(cgroup, definition, first, above, error))
        return cgroup;
    cgroup_destroy(cgroup);
    return NULL;
}

const char *cgroup_path(const struct cgroup *cgroup)
{
    return cgroup->path;
}

bool cgroup_killed(const struct cgroup *cgroup)
{
    g_autofree char *text = read_text(cgroup->folder, "memory.events");
    const char *kills = strstr(text, "oom_kill ");

    return kills && strtoul(kills + strlen("oom_kill "), NULL, 10);
}

void cgroup_destroy(struct cgroup *cgroup)
{
    g_autofree char *commands = NULL;

    if (!cgroup)
        return;
    /* Back to where there may be processes. */
    commands = g_build_filename(cgroup->above, COMMANDS, NULL);
    if (write_text(cgroup->above, "cgroup.procs", "0") != 0)
        write_text(commands, "cgroup.procs", "0");
    rmdir(cgroup->folder);
    g_free(cgroup->above);
    g_free(cgroup->path);
    g_free(cgroup->folder);
    g_free(cgroup);
}
