// SPDX-License-Identifier: Apache-2.0
/*
 * Taking a command's words apart: "--key value", "--key=value", "--" and positional words. The
 * options of a definition come from the library's schema, so that none is named here.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

/* Words of the user's, of files and of machines are in messages: these stay one line, and tell the
 * terminal nothing but text. */
int cli_fail(int status, const char *format, ...)
{
    g_autofree char *message = NULL, *valid = NULL;
    va_list arguments;

    va_start(arguments, format);
    message = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    valid = g_utf8_make_valid(message, -1);
    fputs("anima: ", stderr);
    for (const char *at = valid; *at; at = g_utf8_next_char(at)) {
        if (g_unichar_iscntrl(g_utf8_get_char(at)))
            fputc('?', stderr);
        else
            fwrite(at, 1, g_utf8_next_char(at) - at, stderr);
    }
    fputc('\n', stderr);
    return status;
}

int cli_fail_error(struct anima_error *error)
{
    return cli_fail_machine(NULL, error);
}

int cli_fail_machine(const char *name, struct anima_error *error)
{
    int status = error->code == ANIMA_ERROR_USAGE ? CLI_USAGE : CLI_FAILED;

    cli_fail(status, "%s%s%s", name ? name : "", name ? ": " : "", error->message);
    anima_error_free(error);
    return status;
}

static const struct cli_flag *find_flag(const struct command *command, const char *name)
{
    for (const struct cli_flag *flag = command->flags; flag->name; flag++)
        if (strcmp(flag->name, name) == 0)
            return flag;
    return NULL;
}

static bool takes_machine(const struct command *command)
{
    return command->definition == CLI_MACHINE || command->definition == CLI_CLOUD;
}

/* Those of a cloud's image come first, and then a machine's. */
const struct anima_option *command_option_at(const struct command *command, unsigned index)
{
    unsigned first = 0;

    if (command->definition == CLI_NETWORK)
        return anima_network_option_at(index);
    while (command->definition == CLI_CLOUD && anima_cloud_option_at(first))
        first++;
    if (index < first)
        return anima_cloud_option_at(index);
    return takes_machine(command) ? anima_option_at(index - first) : NULL;
}

static const struct anima_option *find_cloud_option(const char *name)
{
    const struct anima_option *option;

    for (unsigned i = 0; (option = anima_cloud_option_at(i)); i++)
        if (strcmp(anima_option_key(option), name) == 0)
            break;
    return option;
}

static const struct anima_option *find_option(const struct command *command, const char *name)
{
    if (command->definition == CLI_NETWORK)
        return anima_network_option_find(name);
    if (command->definition == CLI_CLOUD && find_cloud_option(name))
        return find_cloud_option(name);
    return takes_machine(command) ? anima_option_find(name) : NULL;
}

static bool unknown_option(const struct command *command, const char *name)
{
    const char *nearest = takes_machine(command) ? anima_option_nearest(name) : NULL;

    for (const struct cli_flag *flag = command->flags; flag->name && !nearest; flag++)
        if (*name && g_str_has_prefix(flag->name, name))
            nearest = flag->name;
    if (nearest)
        cli_fail(CLI_USAGE, "unknown option --%s; did you mean --%s?", name, nearest);
    else
        cli_fail(CLI_USAGE, "unknown option --%s; 'anima help %s' lists the options", name,
                 command->name);
    return false;
}

/* The value of an option: after its '=', or the next word; `alone` is what it means without one
 * (NULL: it needs one). NULL when there is none. */
static const char *take_value(const char *equals, const char *alone, int argc, char **argv,
                              int *index)
{
    if (equals)
        return equals + 1;
    if (alone)
        return alone;
    return *index + 1 < argc ? argv[++*index] : NULL;
}

static bool take_option(struct cli_words *words, const struct command *command, int argc,
                        char **argv, int *index)
{
    const char *text = argv[*index] + 2, *equals = strchr(text, '='), *value, *alone = NULL;
    g_autofree char *name = equals ? g_strndup(text, equals - text) : g_strdup(text);
    const struct anima_option *option = find_option(command, name);
    const struct cli_flag *flag = find_flag(command, name);

    if (!option && !flag)
        return unknown_option(command, name);
    if (flag ? !flag->argument : anima_option_is_bool(option))
        alone = flag ? "" : "yes";
    if (flag && !flag->argument && equals)
        return cli_fail(false, "--%s takes no value", name);
    value = take_value(equals, alone, argc, argv, index);
    if (!value)
        return cli_fail(false, "--%s: %s is missing", name,
                        flag ? flag->argument : anima_option_argument(option));
    if (flag) {
        g_hash_table_insert(words->flags, g_strdup(name), g_strdup(value));
    } else {
        bool cloud = command->definition == CLI_CLOUD && find_cloud_option(name);
        GPtrArray *settings = cloud ? words->cloud : words->settings;

        g_ptr_array_add(settings, g_strdup(name));
        g_ptr_array_add(settings, g_strdup(value));
    }
    return true;
}

static bool take_words(struct cli_words *words, const struct command *command, int argc,
                       char **argv)
{
    bool only_plain = false;

    for (int i = 1; i < argc; i++) {
        if (only_plain || argv[i][0] != '-' || !argv[i][1])
            g_ptr_array_add(words->plain, argv[i]);
        else if (strcmp(argv[i], "--") == 0)
            only_plain = true;
        else if (argv[i][1] != '-')
            return cli_fail(false, "unknown option %s; options begin with --", argv[i]);
        else if (!take_option(words, command, argc, argv, &i))
            return false;
    }
    if (words->plain->len >= command->least && words->plain->len <= command->most)
        return true;
    return cli_fail(false, "usage: anima %s%s%s", command->name, *command->words ? " " : "",
                    command->words);
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

struct cli_words *cli_words_parse(const struct command *command, int argc, char **argv, int *status)
{
    struct cli_words *words;

    if (asks_for_help(argc, argv)) {
        cli_print_help(command);
        *status = CLI_GOOD;
        return NULL;
    }
    words = g_new0(struct cli_words, 1);
    words->plain = g_ptr_array_new();
    words->settings = g_ptr_array_new_with_free_func(g_free);
    words->cloud = g_ptr_array_new_with_free_func(g_free);
    words->flags = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    if (take_words(words, command, argc, argv))
        return words;
    cli_words_free(words);
    *status = CLI_USAGE;
    return NULL;
}

void cli_words_free(struct cli_words *words)
{
    if (!words)
        return;
    g_ptr_array_unref(words->plain);
    g_ptr_array_unref(words->settings);
    g_ptr_array_unref(words->cloud);
    g_hash_table_unref(words->flags);
    g_free(words);
}

const char *cli_word(const struct cli_words *words, unsigned index)
{
    return index < words->plain->len ? words->plain->pdata[index] : NULL;
}

const char *cli_flag(const struct cli_words *words, const char *name)
{
    return g_hash_table_lookup(words->flags, name);
}

const char *cli_setting(const struct cli_words *words, const char *key)
{
    const char *value = NULL;

    for (unsigned i = 0; i < words->settings->len; i += 2)
        if (strcmp(words->settings->pdata[i], key) == 0)
            value = words->settings->pdata[i + 1];
    return value;
}

bool cli_define(struct anima_definition *definition, const struct cli_words *words, int *status)
{
    struct anima_error *error = NULL;

    for (unsigned i = 0; i < words->settings->len; i += 2) {
        if (anima_definition_set(definition, words->settings->pdata[i],
                                 words->settings->pdata[i + 1], &error))
            continue;
        *status = cli_fail(CLI_USAGE, "--%s", error->message);
        anima_error_free(error);
        return false;
    }
    return true;
}

bool cli_fill(struct anima_definition *definition, struct anima_error **error)
{
    char *gaps = anima_definition_fill(definition, error);
    g_auto(GStrv) lines = g_strsplit(gaps ? gaps : "", "\n", -1);
    bool good = gaps;

    for (char **line = lines; *line; line++)
        cli_fail(0, "%s", *line);
    anima_free(gaps);
    return good;
}
