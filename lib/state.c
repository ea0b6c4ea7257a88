// SPDX-License-Identifier: Apache-2.0
/*
 * The definition in a saved state. The file may be anybody's, so it is read by anima-vmm in a
 * sandbox; what comes out of there is parsed as any definition is.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "config/definition.h"
#include "lib/fault.h"
#include "lib/reader.h"

static bool take_definition(struct definition *definition, const char *path, const char *text,
                            struct anima_error **error)
{
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    GError *cause = NULL;
    bool good = definition_from_json(definition, object, &cause) &&
                definition_set(definition, "state", path, &cause);

    json_decref(object);
    if (good)
        return true;
    g_prefix_error(&cause, "%s: ", path);
    error_take(error, cause);
    return false;
}

/* Whether it can be the name of a file at all. */
static bool check_path(const char *path, struct anima_error **error)
{
    struct option_value value;
    GError *cause = NULL;

    if (option_parse(&options[OPTION_STATE], path, &value, &cause)) {
        g_free(value.text);
        return true;
    }
    g_prefix_error(&cause, "%s: ", options[OPTION_STATE].key);
    error_take(error, cause);
    return false;
}

ANIMA_API bool anima_definition_load_state(struct anima_definition *definition, const char *path,
                                           struct anima_error **error)
{
    g_autofree char *program = anima_vmm_path(error);
    g_autofree char *text = NULL, *otherwise = NULL;
    int fd;

    if (!program || !check_path(path, error))
        return false;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        error_set(error, ANIMA_ERROR_FAILED, "state: %s: %s", path, strerror(errno));
        return false;
    }
    otherwise = g_strdup_printf("%s: no definition can be read from it", path);
    text = reader_run(program, "state-definition", fd, otherwise, error);
    close(fd);
    return text && take_definition((struct definition *)definition, path, text, error);
}
