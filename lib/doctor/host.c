// SPDX-License-Identifier: Apache-2.0
/*
 * The true host, and the call of libanima.
 */
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "config/paths.h"
#include "lib/doctor/doctor.h"
#include "lib/fault.h"
#include "lib/reader.h"

#define GROUPS_MAX 256

/* What a host is made of, as long as it is examined. */
struct facts {
    struct doctor_host host;
    struct utsname name;
    gid_t groups[GROUPS_MAX];
    json_t *found;
    char *user, *found_error, *data_folder, *data_error, *runtime_folder, *runtime_error,
        *data_kind, *bridge_helper;
};

static char *user_name(void)
{
    const struct passwd *entry = getpwuid(geteuid());

    return entry ? g_strdup(entry->pw_name) : g_strdup_printf("%u", geteuid());
}

static bool has_program(const char *name, const char *build_folder)
{
    g_autofree char *path = program_path(name, build_folder, NULL);

    return path;
}

/* Whether the file has CAP_NET_ADMIN for whoever runs it. */
static bool has_capability(const char *path)
{
    struct vfs_cap_data data = {0};
    ssize_t size = path ? getxattr(path, "security.capability", &data, sizeof(data)) : -1;

    return size >= (ssize_t)offsetof(struct vfs_cap_data, data[1]) &&
           GUINT32_FROM_LE(data.data[0].permitted) >> CAP_NET_ADMIN & 1;
}

static void find_by_trying(struct facts *facts)
{
    struct anima_error *error = NULL;
    char *program = anima_vmm_path(&error);
    g_autofree char *text =
        program ? reader_run(program, "examine", -1, "it does not tell what it finds", &error)
                : NULL;

    facts->found = text ? json_loads(text, 0, NULL) : NULL;
    facts->found_error = g_strdup(error ? error->message : "it tells nothing that can be read");
    anima_error_free(error);
    anima_free(program);
}

/* The nearest folder that is there, of one that may not be made yet. */
static char *existing(const char *path)
{
    char *folder = g_strdup(path);

    while (access(folder, F_OK) != 0 && strcmp(folder, "/") != 0 && strcmp(folder, ".") != 0) {
        char *above = g_path_get_dirname(folder);

        g_free(folder);
        folder = above;
    }
    return folder;
}

/* The kind of file system that a folder is on: of the longest mount point before it. */
static char *kind_of(const char *folder)
{
    g_autofree char *mounts = NULL;
    g_auto(GStrv) lines = NULL;
    char *kind = NULL;
    size_t longest = 0;

    if (!g_file_get_contents("/proc/self/mounts", &mounts, NULL, NULL))
        return NULL;
    lines = g_strsplit(mounts, "\n", -1);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) fields = g_strsplit(*line, " ", -1);
        size_t length = g_strv_length(fields) > 2 ? strlen(fields[1]) : 0;
        bool root = length == 1;

        if (length < MAX(longest, 1) || strncmp(folder, fields[1], length) != 0 ||
            (!root && folder[length] && folder[length] != '/'))
            continue;
        longest = length;
        g_free(kind);
        kind = g_strdup(fields[2]);
    }
    return kind;
}

static void look_at_folders(struct facts *facts)
{
    g_autofree char *data = NULL, *real = NULL;
    GError *error = NULL;
    struct statfs status;
    int fd;

    facts->data_folder = data_folder();
    data = existing(facts->data_folder);
    real = realpath(data, NULL);
    facts->data_kind = real ? kind_of(real) : NULL;
    if (access(data, W_OK | X_OK) != 0)
        facts->data_error = g_strdup(g_strerror(errno));
    if (statfs(data, &status) == 0)
        facts->host.data_free = (uint64_t)status.f_bavail * (uint64_t)status.f_bsize;
    facts->runtime_folder = runtime_folder();
    fd = runtime_folder_open(&error);
    if (fd >= 0)
        close(fd);
    else
        facts->runtime_error = g_strdup(error->message);
    g_clear_error(&error);
}

static rlim_t limit(__rlimit_resource_t resource)
{
    struct rlimit limits;

    return getrlimit(resource, &limits) == 0 ? limits.rlim_cur : RLIM_INFINITY;
}

static void gather(struct facts *facts)
{
    int groups = getgroups(GROUPS_MAX, facts->groups);

    uname(&facts->name);
    facts->user = user_name();
    facts->bridge_helper = program_path("anima-bridge", "../vmm", NULL);
    find_by_trying(facts);
    look_at_folders(facts);
    facts->host = (struct doctor_host){
        .root = "",
        .user = facts->user,
        .uid = geteuid(),
        .groups = facts->groups,
        .group_count = MAX(groups, 0),
        .release = facts->name.release,
        .found = facts->found,
        .found_error = facts->found_error,
        .nat = has_program("anima-nat", "../vmm"),
        .osinfo = has_program("anima-osinfo", ""),
        .bridge_helper = facts->bridge_helper,
        .bridge_capable = has_capability(facts->bridge_helper),
        .descriptors = limit(RLIMIT_NOFILE),
        .processes = limit(RLIMIT_NPROC),
        .locked = limit(RLIMIT_MEMLOCK),
        .data_folder = facts->data_folder,
        .data_error = facts->data_error,
        .data_free = facts->host.data_free,
        .data_kind = facts->data_kind,
        .runtime_folder = facts->runtime_folder,
        .runtime_error = facts->runtime_error,
    };
}

static void forget(struct facts *facts)
{
    json_decref(facts->found);
    g_free(facts->user);
    g_free(facts->found_error);
    g_free(facts->data_folder);
    g_free(facts->data_error);
    g_free(facts->data_kind);
    g_free(facts->bridge_helper);
    g_free(facts->runtime_folder);
    g_free(facts->runtime_error);
}

ANIMA_API char *anima_doctor(struct anima_error **error)
{
    struct facts facts = {0};
    json_t *result;
    char *text;

    gather(&facts);
    result = doctor_examine(&facts.host);
    text = json_dumps(result, JSON_INDENT(2));
    json_decref(result);
    forget(&facts);
    if (!text)
        error_set(error, ANIMA_ERROR_FAILED, "doctor: what was found cannot be told");
    return text;
}
