// SPDX-License-Identifier: Apache-2.0
/*
 * Definitions of other hypervisors. The file may be anybody's, so it is read by anima-import in a
 * sandbox; what comes out of there is read as a vm.yaml beside that file would be.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "config/definition.h"
#include "lib/fault.h"
#include "lib/reader.h"

/* What anima-import says of the file, as a new object. */
static json_t *convert(const char *path, struct anima_error **error)
{
    g_autofree char *program = program_path("anima-import", "../vmm/import", NULL), *text = NULL;
    json_t *result;
    int fd;

    if (!program) {
        error_set(error, ANIMA_ERROR_FAILED,
                  "import: this build reads no descriptions of others (libxml2)");
        return NULL;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        error_set(error, ANIMA_ERROR_FAILED, "%s: %s", path, strerror(errno));
        return NULL;
    }
    text = reader_run(program, NULL, fd, "no description of a machine can be read from it", error);
    close(fd);
    result = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (!text && error) {
        /* It may begin with line and column. */
        bool placed = g_ascii_isdigit(*(*error)->message);
        g_autofree char *prefix = g_strconcat(path, placed ? ":" : ": ", NULL);

        error_prefix(*error, ANIMA_ERROR_USAGE, prefix);
    }
    if (text && !result)
        error_set(error, ANIMA_ERROR_FAILED, "%s: no description can be read from it", path);
    return result;
}

/* The lines that tell what was lost. */
static char *join(const json_t *lost)
{
    GString *text = g_string_new(NULL);
    const json_t *line;
    size_t i;

    json_array_foreach(lost, i, line)
    {
        const char *words = json_string_value(line);

        g_string_append_printf(text, "%s%s", text->len ? "\n" : "", words ? words : "");
    }
    return g_string_free(text, FALSE);
}

ANIMA_API char *anima_definition_import(struct anima_definition *definition, const char *path,
                                        struct anima_error **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    json_t *result = convert(path, error);
    const char *yaml = json_string_value(json_object_get(result, "yaml"));
    GError *cause = NULL;
    char *lost = NULL;

    if (!result)
        return NULL;
    if (definition_load_yaml((struct definition *)definition, path, folder, yaml ? yaml : "",
                             yaml ? strlen(yaml) : 0, &cause))
        lost = join(json_object_get(result, "lost"));
    else
        error_take(error, cause);
    json_decref(result);
    return lost;
}
