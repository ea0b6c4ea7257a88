// SPDX-License-Identifier: Apache-2.0
/*
 * Finding programs of Anima, and running those that only read and tell.
 *
 * A program is looked for in $ANIMA_LIBEXEC, then beside this library in a build tree, then where
 * it was installed, so that a fresh build runs its own and never an older installed one.
 */
#include "lib/reader.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/fault.h"

#define TEXT_MAX (1U << 20)

/* `folder`/`below`/`name`, if that is a program. */
static char *program_in(const char *folder, const char *below, const char *name)
{
    char *path = g_build_filename(folder, below, name, NULL);

    if (access(path, X_OK) == 0)
        return path;
    g_free(path);
    return NULL;
}

char *program_path(const char *name, const char *build_folder, struct anima_error **error)
{
    static const char here; /* an address within this library */
    const char *libexec = getenv("ANIMA_LIBEXEC");
    g_autofree char *folder = NULL;
    char *path = NULL;
    Dl_info library;

    if (libexec)
        path = program_in(libexec, "", name);
    if (!path && !libexec && dladdr(&here, &library) && library.dli_fname) {
        folder = g_path_get_dirname(library.dli_fname);
        path = program_in(folder, build_folder, name);
    }
    if (!path && !libexec)
        path = program_in(ANIMA_LIBEXECDIR, "", name);
    if (!path)
        error_set(error, ANIMA_ERROR_FAILED, "%s is not in %s; is Anima installed?", name,
                  libexec ? libexec : ANIMA_LIBEXECDIR);
    return path;
}

ANIMA_API char *anima_vmm_path(struct anima_error **error)
{
    return program_path("anima-vmm", "../vmm", error);
}

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

/* The first line of what a program complained of, or else `otherwise`. */
static void set_complaint(char *complaint, const char *otherwise, struct anima_error **error)
{
    const char *line = complaint;

    complaint[strcspn(complaint, "\n")] = 0;
    if (g_str_has_prefix(line, "anima: "))
        line += strlen("anima: ");
    error_set(error, ANIMA_ERROR_FAILED, "%s", *line ? line : otherwise);
}

/* Start it with `in` (-1: nothing) and `out` (-1: a new pipe, whose other end goes to `pipe`). */
static bool spawn(const char *const *arguments, int in, int out, int *pipe, int *complaints,
                  GPid *pid, struct anima_error **error)
{
    GError *cause = NULL;

    if (g_spawn_async_with_pipes_and_fds(NULL, arguments, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL,
                                         NULL, in, out, -1, NULL, NULL, 0, pid, NULL, pipe,
                                         complaints, &cause))
        return true;
    error_take(error, cause);
    return false;
}

/* Whether it ended well. */
static bool reap(GPid pid)
{
    int status = -1;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

char *reader_run(const char *program, const char *argument, int in, const char *otherwise,
                 struct anima_error **error)
{
    const char *const arguments[] = {program, argument, NULL};
    g_autofree char *text = NULL, *complaint = NULL;
    int out, complaints;
    GPid pid;

    if (!spawn(arguments, in, -1, &out, &complaints, &pid, error))
        return NULL;
    text = read_all(out);
    complaint = read_all(complaints);
    reap(pid);
    if (*text)
        return g_steal_pointer(&text);
    set_complaint(complaint, otherwise, error);
    return NULL;
}

bool writer_run(const char *program, int in, int out, const char *otherwise,
                struct anima_error **error)
{
    const char *const arguments[] = {program, NULL};
    g_autofree char *complaint = NULL;
    int complaints;
    GPid pid;

    if (!spawn(arguments, in, out, NULL, &complaints, &pid, error))
        return false;
    complaint = read_all(complaints);
    if (reap(pid))
        return true;
    set_complaint(complaint, otherwise, error);
    return false;
}
