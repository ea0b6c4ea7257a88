// SPDX-License-Identifier: Apache-2.0
/*
 * Words of the command line. Input: a byte that says whose options there are, and words with zero
 * bytes between them. They are taken, and then set in a definition; or refused with status 2 and
 * one line without anything that a terminal would obey.
 */
#include "tests/fuzz/fuzz.h"

#include "cli/cli.h"

#define WORDS_MAX 32

static const struct cli_flag flags[] = {
    {"json", NULL, "print JSON"},
    {"timeout", "SECONDS", "so long"},
    {0},
};

static const struct command known[] = {
    {"run", "[NAME]", "run it", flags, CLI_MACHINE, 0, 1, NULL},
    {"create", "NAME", "keep it", flags, CLI_CLOUD, 1, 2, NULL},
    {"network", "WHAT NAME", "networks", flags, CLI_NETWORK, 1, CLI_MANY, NULL},
    {"list", "", "list them", flags, CLI_NOBODY, 0, 0, NULL},
};

/* The parser calls it when help is asked for. */
void cli_print_help(const struct command *command)
{
    fuzz_require(command >= known && command < known + G_N_ELEMENTS(known));
}

static void require_line(const char *text)
{
    size_t length = strlen(text);

    fuzz_require(g_str_has_prefix(text, "anima: ") && text[length - 1] == '\n');
    fuzz_require(g_utf8_validate(text, (gssize)length, NULL));
    for (size_t i = 0; i + 1 < length; i++)
        fuzz_require(!g_ascii_iscntrl(text[i]));
}

static bool define(const struct cli_words *words, int *status)
{
    struct anima_definition *definition = anima_definition_create();
    bool good = cli_define(definition, words, status);

    anima_definition_destroy(definition);
    return good;
}

/* Whether the words can be taken; *status is set if not. */
static bool take(const struct command *command, int argc, char **argv, int *status)
{
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, status);

    if (!words)
        return *status == CLI_GOOD;
    return command->definition == CLI_NETWORK || define(words, status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    const struct command *command = &known[fuzz_byte(&input) % G_N_ELEMENTS(known)];
    g_autofree char *copy = g_strndup("", input.size + 1);
    char *argv[WORDS_MAX + 1] = {(char *)command->name};
    int argc = 1, status = CLI_FAILED;
    FILE *saved = stderr;
    size_t said_size = 0;
    char *said = NULL;
    bool good;

    memcpy(copy, input.data, input.size);
    copy[input.size] = 0;
    for (size_t at = 0; at < input.size && argc < WORDS_MAX; at += strlen(copy + at) + 1)
        argv[argc++] = copy + at;
    stderr = open_memstream(&said, &said_size);
    good = take(command, argc, argv, &status);
    fclose(stderr);
    stderr = saved;
    if (good) {
        fuzz_require(said_size == 0);
    } else {
        fuzz_require(status == CLI_USAGE);
        require_line(said);
    }
    free(said);
    return 0;
}
