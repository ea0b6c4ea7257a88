// SPDX-License-Identifier: Apache-2.0
/*
 * An import, as the worker does it: the package is read by the package process, what that says of
 * the machine is checked, a folder for it is begun, and the package process gets descriptors of new
 * files in there. The folder becomes the machine's when all is in it.
 *
 * Nothing that comes out of the package becomes a path: files of the machine have names that are
 * checked to be such as the package process makes, and are made here; those of a package that is no
 * archive lie in its descriptor's folder and are no links.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "config/definition.h"
#include "config/pin.h"
#include "config/store.h"
#include "vmm/import/ovf.h"
#include "vmm/import/package.h"

struct import_job {
    const struct job_ops *ops;
    struct helper *helper;
    char *path, *folder; /* of the package; where relative paths of settings are */
    json_t *settings;    /* of "OPTION=VALUE" */
    char *name;          /* that the settings give; NULL: none */
    bool archive, keep_macs;
    struct definition *definition;
    json_t *lost, *models;
    struct store_draft *draft;
};

static bool fail(GError **error, const char *path, const char *what)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s: %s", path, what);
    return false;
}

/* An error of what is in the package: it may begin with line and column. */
static GError *place(const struct import_job *job, const GError *error)
{
    bool placed = g_ascii_isdigit(*error->message);

    return g_error_new(error->domain, error->code, "%s:%s%s", job->path, placed ? "" : " ",
                       error->message);
}

/* ---- opening ---- */

/* A file to read, which is no pipe; -1 with errno. */
static int open_plain(int folder, const char *name, int flags)
{
    int fd = openat(folder, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY | flags);
    struct stat status;

    if (fd < 0)
        return -1;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
        return fd;
    close(fd);
    errno = S_ISDIR(status.st_mode) ? EISDIR : ESPIPE;
    return -1;
}

static const char *advice(int problem)
{
    return problem == ESPIPE ? "a package is a file that can be read more than once; save it first"
                             : g_strerror(problem);
}

/* One that lies beside the descriptor. */
static int open_beside(const struct import_job *job, const char *name)
{
    g_autofree char *folder = g_path_get_dirname(job->path);
    int at, fd;

    errno = EINVAL;
    if (!*name || strchr(name, '/') || g_str_equal(name, ".") || g_str_equal(name, ".."))
        return -1;
    at = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return -1;
    fd = open_plain(at, name, O_NOFOLLOW);
    close(at);
    return fd;
}

static bool has_suffix(const char *path, const char *suffix)
{
    size_t length = strlen(path), end = strlen(suffix);

    return length > end && g_ascii_strcasecmp(path + length - end, suffix) == 0;
}

static void send_read(struct import_job *job, int package)
{
    g_autofree char *descriptor = g_path_get_basename(job->path);
    int fds[2] = {package, -1};
    json_t *message = json_pack("{s:s, s:s, s:b, s:s*}", "do", "read", "descriptor", descriptor,
                                "keep_macs", job->keep_macs, "name", job->name);

    if (!job->archive) {
        g_autofree char *base = g_strndup(descriptor, strlen(descriptor) - strlen(".ovf"));
        g_autofree char *manifest = g_strconcat(base, ".mf", NULL);

        fds[1] = open_beside(job, manifest);
    }
    helper_send(job->helper, message, fds, fds[1] < 0 ? 1 : 2);
    if (fds[1] >= 0)
        close(fds[1]);
}

/* ---- what the machine will be ---- */

static bool apply_settings(struct import_job *job, GError **error)
{
    const json_t *setting;
    size_t i;

    json_array_foreach(job->settings, i, setting)
    {
        const char *text = json_string_value(setting), *equal = text ? strchr(text, '=') : NULL;
        g_autofree char *key = equal ? g_strndup(text, equal - text) : NULL;

        if (!key) {
            g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "expected OPTION=VALUE, not '%s'",
                        text ? text : "");
            return false;
        }
        if (!definition_set_in(job->definition, key, equal + 1, job->folder, error))
            return false;
    }
    return true;
}

/* "disks/disk0.img", "files/kernel": a folder of ours and a name without any special character. */
static bool is_path(const char *path)
{
    const char *name = path && g_str_has_prefix(path, "disks/")   ? path + strlen("disks/")
                       : path && g_str_has_prefix(path, "files/") ? path + strlen("files/")
                                                                  : NULL;
    size_t length = name ? strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789") : 0;

    return length && (!name[length] || g_str_equal(name + length, ".img"));
}

/* Whether the definition keeps to the package's own files, believing nobody. */
static bool check_origin(const struct import_job *job, const json_t *files, GError **error)
{
    g_autoptr(GPtrArray) paths = g_ptr_array_new();
    const json_t *file;
    size_t i;

    json_array_foreach(files, i, file)
    {
        const char *path = json_string_value(json_object_get(file, "path"));

        if (!is_path(path))
            return fail(error, job->path, "it has a file that no machine has");
        g_ptr_array_add(paths, (char *)path);
    }
    return ovf_check_paths(job->definition, (char *const *)paths->pdata, paths->len, error);
}

/* The name is the folder's, and not in the text. */
static bool define(struct import_job *job, const json_t *content, GError **error)
{
    const char *yaml = json_string_value(json_object_get(content, "yaml")), *name;

    if (!yaml || !definition_load_yaml(job->definition, job->path, NULL, yaml, strlen(yaml), error))
        return false;
    if (!check_origin(job, json_object_get(content, "files"), error))
        return false;
    if (!apply_settings(job, error))
        return false;
    name = definition_text(job->definition, OPTION_NAME);
    if (!name) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                    "name: a machine that is kept has one");
        return false;
    }
    g_free(job->name);
    job->name = g_strdup(name);
    return definition_check(job->definition, error) &&
           definition_pin(job->definition, job->models, error);
}

/* ---- its files ---- */

/* Make the file in the draft's folder. */
static int make_file(const struct import_job *job, const char *path)
{
    g_autofree char *whole = g_build_filename(store_draft_folder(job->draft), path, NULL);
    g_autofree char *folder = g_path_get_dirname(whole);

    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return -1;
    return open(whole, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static bool send_file(struct import_job *job, unsigned index, const json_t *file, GError **error)
{
    const char *path = json_string_value(json_object_get(file, "path"));
    const char *href = json_string_value(json_object_get(file, "href"));
    int fds[2] = {-1, -1};

    if (href && !job->archive) {
        fds[1] = open_beside(job, href);
        if (fds[1] < 0) {
            g_autofree char *shown = text_show(href);
            g_autofree char *what = g_strdup_printf(
                "%s: %s", shown,
                errno == EINVAL ? "a package's files lie beside its descriptor" : advice(errno));

            return fail(error, job->path, what);
        }
    }
    fds[0] = make_file(job, path);
    if (fds[0] >= 0)
        helper_send(job->helper, json_pack("{s:s, s:i}", "do", "file", "index", (int)index), fds,
                    fds[1] < 0 ? 1 : 2);
    else
        fail(error, path, g_strerror(errno));
    for (unsigned i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    return fds[0] >= 0;
}

static json_int_t room_in(const char *folder)
{
    struct statvfs status;

    return statvfs(folder, &status) == 0
               ? (json_int_t)MIN((uint64_t)status.f_bavail * status.f_frsize, INT64_MAX)
               : INT64_MAX;
}

static bool begin_copying(struct import_job *job, const json_t *content, GError **error)
{
    const json_t *files = json_object_get(content, "files"), *file;
    size_t i;

    if (!define(job, content, error))
        return false;
    job->lost = json_incref(json_object_get(content, "lost"));
    job->draft = store_draft_begin(&store_machines, job->name, error);
    if (!job->draft)
        return false;
    json_array_foreach(files, i, file) if (!send_file(job, (unsigned)i, file, error)) return false;
    helper_send(
        job->helper,
        json_pack("{s:s, s:I}", "do", "copy", "room", room_in(store_draft_folder(job->draft))),
        NULL, 0);
    return true;
}

static bool finish(struct import_job *job, GError **error)
{
    g_autofree char *text = NULL;

    definition_reset(job->definition, OPTION_NAME);
    text = definition_to_yaml(job->definition, false);
    return store_draft_keep(job->draft, text, error);
}

/* ---- steps ---- */

static void on_answer(void *opaque, const char *what, const json_t *content)
{
    struct import_job *job = opaque;
    GError *error = NULL;

    if (g_str_equal(what, "read") && !job->draft) {
        if (!begin_copying(job, content, &error))
            job->ops->failed(error);
    } else if (g_str_equal(what, "copied") && job->draft) {
        if (finish(job, &error))
            job->ops->finished(json_pack("{s:s, s:O}", "name", job->name, "lost", job->lost));
        else
            job->ops->failed(error);
    }
}

static void on_progress(void *opaque, uint64_t done, uint64_t total)
{
    ((struct import_job *)opaque)->ops->progress(done, total);
}

static void on_failed(void *opaque, const GError *error)
{
    struct import_job *job = opaque;

    job->ops->failed(place(job, error));
}

static void job_destroy(void *opaque)
{
    struct import_job *job = opaque;

    helper_destroy(job->helper);
    store_draft_destroy(job->draft);
    definition_destroy(job->definition);
    json_decref(job->settings);
    json_decref(job->lost);
    json_decref(job->models);
    g_free(job->path);
    g_free(job->folder);
    g_free(job->name);
    g_free(job);
}

/* The last setting of the name counts. */
static char *find_name(const json_t *settings)
{
    const char *name = NULL;
    const json_t *setting;
    size_t i;

    json_array_foreach(settings, i, setting)
    {
        const char *text = json_string_value(setting);

        if (text && g_str_has_prefix(text, "name="))
            name = text + strlen("name=");
    }
    return g_strdup(name);
}

static void *begin(const json_t *params, const struct job_ops *ops, GError **error)
{
    static const struct helper_ops helper_ops = {on_answer, on_progress, on_failed};
    struct import_job *job = g_new0(struct import_job, 1);
    int package;

    job->ops = ops;
    job->path = g_strdup(json_string_value(json_object_get(params, "path")));
    job->folder = g_strdup(json_string_value(json_object_get(params, "folder")));
    job->settings = json_incref(json_object_get(params, "settings"));
    job->keep_macs = json_is_true(json_object_get(params, "keep_macs"));
    job->name = find_name(job->settings);
    job->archive = !has_suffix(job->path, ".ovf");
    job->models = json_incref(json_object_get(params, "models"));
    job->definition = definition_create();
    package = open_plain(AT_FDCWD, job->path, 0);
    if (package < 0)
        fail(error, job->path, advice(errno));
    else
        job->helper = helper_create(&helper_ops, job, error);
    if (job->helper)
        send_read(job, package);
    if (package >= 0)
        close(package);
    if (job->helper)
        return job;
    job_destroy(job);
    return NULL;
}

const struct job_kind import_job = {"import", begin, job_destroy};
