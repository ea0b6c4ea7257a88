// SPDX-License-Identifier: Apache-2.0
/*
 * anima state save: have a running machine write its state to a file. anima state dump: print such
 * a file, which is done by anima-vmm in a sandbox, since a file may be hostile.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/progress.h"

static int save(const char *name, const char *path)
{
    struct anima_error *error = NULL;
    struct anima_machine *machine = anima_machine_connect(name, &error);
    char *result;
    int fd;

    if (!machine)
        return cli_fail_error(error);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        anima_machine_destroy(machine);
        return cli_fail(CLI_FAILED, "%s: %s", path,
                        errno == EEXIST ? "there is such a file already; choose another name"
                                        : strerror(errno));
    }
    result = progress_call(machine, "state.save", NULL, fd, &error);
    close(fd);
    anima_machine_destroy(machine);
    if (!result) {
        unlink(path);
        return cli_fail_error(error);
    }
    anima_free(result);
    return CLI_GOOD;
}

static int dump(const char *path)
{
    struct anima_error *error = NULL;
    g_autofree char *program = anima_vmm_path(&error);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return cli_fail(CLI_FAILED, "%s: %s", path, strerror(errno));
    if (!program) {
        close(fd);
        return cli_fail_error(error);
    }
    dup2(fd, STDIN_FILENO);
    execl(program, "anima-vmm", "state-dump", NULL);
    return cli_fail(CLI_FAILED, "%s: %s", program, strerror(errno));
}

int command_state(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    const char *what;

    if (!words)
        return status;
    what = cli_word(words, 0);
    if (strcmp(what, "save") == 0 && words->plain->len == 3)
        return save(cli_word(words, 1), cli_word(words, 2));
    if (strcmp(what, "dump") == 0 && words->plain->len == 2)
        return dump(cli_word(words, 1));
    return cli_fail(CLI_USAGE, "usage: anima state save NAME FILE, or anima state dump FILE");
}
