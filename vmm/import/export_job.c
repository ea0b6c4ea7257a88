// SPDX-License-Identifier: Apache-2.0
/*
 * An export, as the worker does it: the machine's disks are opened and locked as a running machine
 * has them, and the package process writes the package to files beside those that it will be.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/definition.h"
#include "config/paths.h"
#include "config/pin.h"
#include "config/store.h"
#include "vmm/import/ovf.h"
#include "vmm/import/package.h"
#include "vmm/monitor/disks.h"

/* A file of the package. */
struct product {
    char *path,
        *hidden; /* what it will be called, and what it is called meanwhile (NULL: no more) */
};

struct export_job {
    const struct job_ops *ops;
    struct helper *helper;
    char *name, *path, *base;
    bool archive;
    struct definition *definition; /* paths absolute; disks are read only */
    json_t *parts, *models;
    GArray *products; /* of struct product */
};

static bool fail(GError **error, const char *path, const char *what)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s: %s", path, what);
    return false;
}

/* ---- the machine ---- */

static bool read_definition(struct export_job *job, GError **error)
{
    g_autofree char *file = definition_path(job->name), *folder = g_path_get_dirname(file);
    g_autofree char *text = store_read(&store_machines, job->name, error);

    return text && definition_load_yaml(job->definition, file, folder, text, strlen(text), error) &&
           definition_set(job->definition, "name", job->name, error) &&
           definition_pin(job->definition, job->models, error);
}

/* What is read of a file of ours. */
static int open_part(struct export_job *job, enum option_id option, unsigned index,
                     const char *path, GError **error)
{
    struct stat status;
    int fd;

    if (option == OPTION_DISK)
        return disk_open(job->definition, index, error);
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        fail(error, path, g_strerror(errno));
    } else if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        fail(error, path, "only a plain file can be in a package");
        close(fd);
        fd = -1;
    }
    return fd;
}

/* The last part of its name in the package. */
static char *part_name(const struct export_job *job, enum option_id option, unsigned index)
{
    if (option == OPTION_DISK)
        return g_strdup_printf("%s-disk%u.vmdk", job->base, index + 1);
    if (option == OPTION_MODULE)
        return g_strdup_printf("%s-module%u", job->base, index + 1);
    return g_strdup_printf("%s-%s", job->base, options[option].key);
}

static bool add_part(struct export_job *job, GArray *fds, enum option_id option, unsigned index,
                     const char *text, GError **error)
{
    g_autofree char *path =
        g_strndup(text, option == OPTION_MODULE ? strcspn(text, " ") : strlen(text));
    g_autofree char *href = part_name(job, option, index);
    int fd = open_part(job, option, index, path, error);

    if (fd < 0)
        return false;
    g_array_append_val(fds, fd);
    json_array_append_new(job->parts, json_pack("{s:s, s:i, s:s}", "option", options[option].key,
                                                "index", (int)index, "href", href));
    return true;
}

/* The copy of the definition that disks are opened by: nobody writes, and reading is at any place.
 */
static bool prepare_disk(struct export_job *job, unsigned index, GError **error)
{
    const char *path = definition_member_text(job->definition, OPTION_DISK, index, "file");
    const char *format = definition_member_text(job->definition, OPTION_DISK, index, "format");

    if (!g_str_equal(format, "raw")) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                    "disk: %s: only raw disks can be exported, and it is %s; convert it first",
                    path, format);
        return false;
    }
    return definition_member_set(job->definition, OPTION_DISK, index, "readonly", "yes", error) &&
           definition_member_set(job->definition, OPTION_DISK, index, "cache", "writeback", error);
}

static bool open_parts(struct export_job *job, GArray *fds, GError **error)
{
    static const enum option_id files[] = {OPTION_KERNEL, OPTION_INITRD};
    const struct definition *definition = job->definition;

    for (unsigned i = 0; i < definition_count(definition, OPTION_DISK); i++)
        if (!prepare_disk(job, i, error) ||
            !add_part(job, fds, OPTION_DISK, i,
                      definition_member_text(definition, OPTION_DISK, i, "file"), error))
            return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++)
        if (definition_given(definition, files[i]) &&
            !add_part(job, fds, files[i], 0, definition_text(definition, files[i]), error))
            return false;
    for (unsigned i = 0; i < definition_count(definition, OPTION_MODULE); i++)
        if (!add_part(job, fds, OPTION_MODULE, i, definition_entry(definition, OPTION_MODULE, i),
                      error))
            return false;
    return true;
}

/* ---- the package ---- */

/* A new file beside what it will be; -1 and an error. */
static int make_product(struct export_job *job, const char *path, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path), *leaf = g_path_get_basename(path);
    g_autofree char *hidden = g_strdup_printf("%s/.%s.XXXXXX", folder, leaf);
    struct product product;
    int fd;

    if (access(path, F_OK) == 0) {
        fail(error, path, "there is such a file already; choose another name");
        return -1;
    }
    fd = mkostemp(hidden, O_CLOEXEC);
    if (fd < 0) {
        fail(error, folder, g_strerror(errno));
        return -1;
    }
    product = (struct product){g_strdup(path), g_steal_pointer(&hidden)};
    g_array_append_val(job->products, product);
    return fd;
}

static bool send_product(struct export_job *job, const char *leaf, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(job->path);
    g_autofree char *path = g_build_filename(folder, leaf, NULL);
    unsigned index = job->products->len;
    int fd = make_product(job, path, error);

    if (fd < 0)
        return false;
    helper_send(job->helper, json_pack("{s:s, s:i}", "do", "out", "index", (int)index), &fd, 1);
    close(fd);
    return true;
}

static bool make_products(struct export_job *job, GError **error)
{
    g_autofree char *leaf = g_path_get_basename(job->path);
    g_autofree char *manifest = g_strconcat(job->base, ".mf", NULL);
    const json_t *part;
    size_t i;

    if (!send_product(job, leaf, error))
        return false;
    if (job->archive)
        return true;
    if (!send_product(job, manifest, error))
        return false;
    json_array_foreach(job->parts, i, part)
    {
        const char *href = json_string_value(json_object_get(part, "href"));

        if (!send_product(job, href, error))
            return false;
    }
    return true;
}

/* As the user sees the machine, with the values that its disks are not opened by. */
static bool send_pack(struct export_job *job, GError **error)
{
    struct definition *seen = job->definition;
    g_autofree char *yaml = NULL;

    job->definition = definition_create();
    if (!read_definition(job, error)) {
        definition_destroy(job->definition);
        job->definition = seen;
        return false;
    }
    yaml = definition_to_yaml(job->definition, false);
    definition_destroy(seen);
    helper_send(job->helper,
                json_pack("{s:s, s:s, s:s, s:s, s:b, s:O}", "do", "pack", "yaml", yaml, "name",
                          job->name, "base", job->base, "archive", job->archive, "parts",
                          job->parts),
                NULL, 0);
    return true;
}

static bool start(struct export_job *job, GError **error)
{
    GArray *fds = g_array_new(FALSE, FALSE, sizeof(int));
    bool good = read_definition(job, error) && open_parts(job, fds, error) && send_pack(job, error);

    for (unsigned i = 0; i < fds->len; i++) {
        int fd = g_array_index(fds, int, i);

        if (good)
            helper_send(job->helper, json_pack("{s:s, s:i}", "do", "part", "index", (int)i), &fd,
                        1);
        close(fd);
    }
    g_array_unref(fds);
    good = good && make_products(job, error);
    if (good)
        helper_send(job->helper, json_pack("{s:s}", "do", "write"), NULL, 0);
    return good;
}

static bool give_mode(const char *path)
{
    mode_t mask = umask(0);

    umask(mask);
    return chmod(path, 0666 & ~mask) == 0;
}

/* The descriptor comes last: where it is, all is. */
static bool publish(struct export_job *job, GError **error)
{
    for (unsigned i = job->products->len; i-- > 0;) {
        struct product *product = &g_array_index(job->products, struct product, i);

        if (!give_mode(product->hidden) ||
            renameat2(AT_FDCWD, product->hidden, AT_FDCWD, product->path, RENAME_NOREPLACE) != 0) {
            fail(error, product->path,
                 errno == EEXIST ? "there is such a file already; choose another name"
                                 : g_strerror(errno));
            for (unsigned n = i + 1; n < job->products->len; n++)
                unlink(g_array_index(job->products, struct product, n).path);
            return false;
        }
        g_clear_pointer(&product->hidden, g_free);
    }
    return true;
}

/* ---- steps ---- */

static void on_answer(void *opaque, const char *what, const json_t *content)
{
    struct export_job *job = opaque;
    GError *error = NULL;

    if (!g_str_equal(what, "written"))
        return;
    if (publish(job, &error))
        job->ops->finished(
            json_pack("{s:s, s:O}", "name", job->name, "lost", json_object_get(content, "lost")));
    else
        job->ops->failed(error);
}

static void on_progress(void *opaque, uint64_t done, uint64_t total)
{
    ((struct export_job *)opaque)->ops->progress(done, total);
}

static void on_failed(void *opaque, const GError *error)
{
    struct export_job *job = opaque;

    job->ops->failed(g_error_new(error->domain, error->code, "%s: %s", job->path, error->message));
}

static void product_clear(struct product *product)
{
    if (product->hidden)
        unlink(product->hidden);
    g_free(product->hidden);
    g_free(product->path);
}

static void job_destroy(void *opaque)
{
    struct export_job *job = opaque;

    helper_destroy(job->helper);
    g_array_unref(job->products);
    definition_destroy(job->definition);
    json_decref(job->parts);
    json_decref(job->models);
    g_free(job->name);
    g_free(job->path);
    g_free(job->base);
    g_free(job);
}

static void *begin(const json_t *params, const struct job_ops *ops, GError **error)
{
    static const struct helper_ops helper_ops = {on_answer, on_progress, on_failed};
    struct export_job *job = g_new0(struct export_job, 1);
    g_autofree char *leaf = NULL;

    job->ops = ops;
    job->name = g_strdup(json_string_value(json_object_get(params, "name")));
    job->path = g_strdup(json_string_value(json_object_get(params, "path")));
    leaf = g_path_get_basename(job->path);
    job->archive = g_str_has_suffix(leaf, ".ova");
    job->base = g_strndup(leaf, strlen(leaf) - strlen(".ova"));
    job->definition = definition_create();
    job->parts = json_array();
    job->models = json_incref(json_object_get(params, "models"));
    job->products = g_array_new(FALSE, FALSE, sizeof(struct product));
    g_array_set_clear_func(job->products, (GDestroyNotify)product_clear);
    job->helper = helper_create(&helper_ops, job, error);
    if (job->helper && start(job, error))
        return job;
    job_destroy(job);
    return NULL;
}

const struct job_kind export_job = {"export", begin, job_destroy};
