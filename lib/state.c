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
#include <sys/wait.h>
#include <unistd.h>

#include "config/definition.h"
#include "lib/fault.h"

#define TEXT_MAX (1U << 20)

/* Everything up to the end of `fd`, which is closed; cut at TEXT_MAX. */
static char *read_all(int fd)
{
    GString *text = g_string_new(NULL);
    char buffer[4096];
    ssize_t got;

    while (text->len < TEXT_MAX &&
           ((got = read(fd, buffer, sizeof(buffer))) > 0 || (got < 0 && errno == EINTR)))
        if (got > 0)
            g_string_append_len(text, buffer, got);
    close(fd);
    return g_string_free(text, FALSE);
}

/* What the role says of the file `fd`; NULL and an error when it says nothing good. */
static char *run_reader(char *program, int fd, const char *path, struct anima_error **error)
{
    const char *const arguments[] = {program, "state-definition", NULL};
    GError *cause = NULL;
    int out, complaints;
    GPid pid;

    if (!g_spawn_async_with_pipes_and_fds(NULL, arguments, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL,
                                          NULL, fd, -1, -1, NULL, NULL, 0, &pid, NULL, &out,
                                          &complaints, &cause)) {
        error_take(error, cause);
        return NULL;
    }
    char *text = read_all(out);
    g_autofree char *complaint = read_all(complaints);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    if (*text)
        return text;
    g_free(text);
    g_strchomp(complaint);
    if (*complaint)
        error_set(error, ANIMA_ERROR_FAILED, "%s",
                  complaint + (g_str_has_prefix(complaint, "anima: ") ? strlen("anima: ") : 0));
    else
        error_set(error, ANIMA_ERROR_FAILED, "%s: no definition can be read from it", path);
    return NULL;
}

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

ANIMA_API bool anima_definition_load_state(struct anima_definition *definition, const char *path,
                                           struct anima_error **error)
{
    g_autofree char *program = anima_vmm_path(error);
    g_autofree char *text = NULL;
    int fd;

    if (!program)
        return false;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        error_set(error, ANIMA_ERROR_FAILED, "state: %s: %s", path, strerror(errno));
        return false;
    }
    text = run_reader(program, fd, path, error);
    close(fd);
    return text && take_definition((struct definition *)definition, path, text, error);
}
