// SPDX-License-Identifier: Apache-2.0
/*
 * anima edit: change a kept definition, by words or in an editor.
 *
 * The editor has a copy, which replaces the definition when it is good. A copy that is not is never
 * thrown away: it can be edited again, or is left where the user is told.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

static int change(const struct cli_words *words)
{
    struct anima_error *error = NULL;
    g_autoptr(GPtrArray) changes = g_ptr_array_new();

    for (unsigned i = 1; i < words->plain->len; i++)
        g_ptr_array_add(changes, words->plain->pdata[i]);
    g_ptr_array_add(changes, NULL);
    if (anima_definition_change(cli_word(words, 0), (const char *const *)changes->pdata, &error))
        return CLI_GOOD;
    return cli_fail_error(error);
}

/* ---- the editor ---- */

/* A new file of the user's alone with this text; its path, to be freed. NULL after a message. */
static char *make_copy(const char *name, const char *text, int *status)
{
    g_autofree char *leaf = g_strdup_printf("anima-%s-XXXXXX.yaml", name);
    char *path = g_build_filename(g_get_tmp_dir(), leaf, NULL);
    int fd = g_mkstemp_full(path, O_RDWR | O_CLOEXEC, 0600);
    bool good = fd >= 0 && g_file_set_contents(path, text, -1, NULL);

    if (!good)
        *status = cli_fail(CLI_FAILED, "%s: %s", path, g_strerror(errno));
    if (fd >= 0)
        close(fd);
    if (!good)
        g_clear_pointer(&path, g_free);
    return path;
}

/* As git and others do it: $VISUAL or $EDITOR is shell words, behind which the file's name comes.
 */
static bool run_editor(const char *path, int *status)
{
    const char *editor = getenv("VISUAL") ? getenv("VISUAL") : getenv("EDITOR");
    g_autofree char *command = g_strdup_printf("%s \"$1\"", editor && *editor ? editor : "editor");
    char *arguments[] = {(char *)"/bin/sh", (char *)"-c", command,
                         (char *)"sh",      (char *)path, NULL};
    g_autoptr(GError) error = NULL;
    int how;

    if (g_spawn_sync(NULL, arguments, NULL, G_SPAWN_CHILD_INHERITS_STDIN, NULL, NULL, NULL, NULL,
                     &how, &error) &&
        g_spawn_check_wait_status(how, &error))
        return true;
    *status = cli_fail(CLI_FAILED, "%s: the editor failed (%s); set EDITOR to one that there is",
                       editor && *editor ? editor : "editor", error->message);
    return false;
}

/* The user is asked what to do with a faulty text. False: he gives up. */
static bool again(void)
{
    char answer[16] = "";

    if (!isatty(STDIN_FILENO))
        return false;
    fprintf(stderr, "anima: edit it again? [Y/n] ");
    if (!fgets(answer, sizeof(answer), stdin))
        fputc('\n', stderr);
    return strcmp(answer, "\n") == 0 || g_ascii_tolower(answer[0]) == 'y';
}

/* Whether there is something of the user's in the copy. */
static bool is_changed(const char *path, const char *before)
{
    g_autofree char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) && strcmp(text, before) != 0;
}

/* Let the user edit the copy until it is good, or he has enough. */
static int edit_copy(const char *name, const char *before, const char *path)
{
    struct anima_error *error = NULL;
    int status = CLI_GOOD;

    do {
        g_autofree char *text = NULL;

        if (!run_editor(path, &status))
            break;
        if (!is_changed(path, before)) {
            fprintf(stderr, "anima: nothing was changed\n");
            return CLI_GOOD;
        }
        if (g_file_get_contents(path, &text, NULL, NULL) &&
            anima_definition_replace(name, before, text, &error))
            return CLI_GOOD;
        status = error ? cli_fail_error(g_steal_pointer(&error))
                       : cli_fail(CLI_FAILED, "%s: %s", path, g_strerror(errno));
    } while (again());
    return status;
}

int command_edit(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_error *error = NULL;
    g_autofree char *path = NULL;
    char *before;

    if (!words)
        return status;
    if (cli_word(words, 1))
        return change(words);
    before = anima_definition_read(cli_word(words, 0), &error);
    if (!before)
        return cli_fail_error(error);
    path = make_copy(cli_word(words, 0), before, &status);
    if (path) {
        status = edit_copy(cli_word(words, 0), before, path);
        if (status != CLI_GOOD && is_changed(path, before))
            fprintf(stderr, "anima: '%s' is as it was; your text is in %s\n", cli_word(words, 0),
                    path);
        else
            unlink(path);
    }
    anima_free(before);
    return status;
}
