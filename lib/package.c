// SPDX-License-Identifier: Apache-2.0
/*
 * Packages. A process of anima-import does the work and is asked as a machine's monitor is, so that
 * the call is one like any other; it dies with the call's connection, and leaves nothing then.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "config/store.h"
#include "lib/connect.h"
#include "lib/connection.h"
#include "lib/cpu.h"
#include "lib/fault.h"
#include "lib/reader.h"
#include "lib/spawn.h"

/* Ask a new process; takes `params`. */
static struct anima_call *ask(const char *method, json_t *params, struct anima_error **error)
{
    g_autofree char *program = program_path("anima-import", "../vmm/import", NULL);
    struct connection *connection = NULL;
    struct anima_call *call = NULL;
    int fd = -1;

    if (program)
        fd = spawn_server(program, "worker", error);
    else
        error_set(error, ANIMA_ERROR_FAILED,
                  "%s: this build reads and writes no packages (libxml2, libarchive)", method);
    if (fd >= 0) {
        connection = connection_create(fd);
        if (!connection)
            error_set(error, ANIMA_ERROR_FAILED, "%s: no descriptors for a connection: %s", method,
                      strerror(errno));
    }
    if (connection) {
        call = connection_ask(connection, method, params, -1, false, error);
        connection_leave(connection);
    } else {
        json_decref(params);
    }
    return call;
}

static json_t *settings_list(const char *const *settings)
{
    json_t *list = json_array();

    for (; settings && *settings; settings++)
        json_array_append_new(list, json_string(*settings));
    return list;
}

ANIMA_API struct anima_call *anima_import_begin(const char *path, const char *const *settings,
                                                bool keep_macs, struct anima_error **error)
{
    g_autofree char *here = g_get_current_dir(), *whole = g_canonicalize_filename(path, here);
    json_t *models = cpu_models(error);

    if (!models)
        return NULL;
    return ask("import",
               json_pack("{s:s, s:s, s:o, s:b, s:o}", "path", whole, "folder", here, "settings",
                         settings_list(settings), "keep_macs", keep_macs, "models", models),
               error);
}

/* Whether there is such a machine and it does not run. */
static bool check_machine(const char *name, struct anima_error **error)
{
    GError *cause = NULL;
    char *text = store_read(&store_machines, name, &cause);
    int fd;

    g_free(text);
    if (!text) {
        error_take(error, cause);
        return false;
    }
    fd = control_connect(name);
    if (fd < 0)
        return true;
    close(fd);
    error_set(error, ANIMA_ERROR_STATE,
              "%s: the machine is running; stop it first ('anima stop' or 'anima kill')", name);
    return false;
}

ANIMA_API struct anima_call *anima_export_begin(const char *name, const char *path,
                                                struct anima_error **error)
{
    g_autofree char *here = g_get_current_dir(), *whole = g_canonicalize_filename(path, here);
    g_autofree char *leaf = g_path_get_basename(whole);
    json_t *models;

    if (strlen(leaf) <= strlen(".ova") ||
        (!g_str_has_suffix(leaf, ".ova") && !g_str_has_suffix(leaf, ".ovf"))) {
        error_set(error, ANIMA_ERROR_USAGE,
                  "%s: the name of a package ends in .ova (one file) or .ovf (several)", path);
        return NULL;
    }
    if (!check_machine(name, error))
        return NULL;
    models = cpu_models(error);
    if (!models)
        return NULL;
    return ask("export",
               json_pack("{s:s, s:s, s:o}", "name", name, "path", whole, "models", models), error);
}

/* Wait for the call, which may be NULL, and destroy it. */
static char *await(struct anima_call *call, struct anima_error **error)
{
    char *result = NULL;

    if (call && anima_call_wait(call, -1))
        result = anima_call_result(call, error);
    anima_call_destroy(call);
    return result;
}

ANIMA_API char *anima_import(const char *path, const char *const *settings, bool keep_macs,
                             struct anima_error **error)
{
    return await(anima_import_begin(path, settings, keep_macs, error), error);
}

ANIMA_API char *anima_export(const char *name, const char *path, struct anima_error **error)
{
    return await(anima_export_begin(name, path, error), error);
}
