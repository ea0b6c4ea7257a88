// SPDX-License-Identifier: Apache-2.0
/*
 * anima help, and --help of every command. The options of a definition come from the schema.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/examples.h"

#define OPTION_COLUMN 24

static void print_option(const char *name, const char *argument, const char *help)
{
    g_autofree char *left =
        g_strdup_printf("--%s%s%s", name, argument ? " " : "", argument ? argument : "");

    printf("  %-*s %s", OPTION_COLUMN, left, help);
}

static void print_choices(const char *const *choices)
{
    printf(":");
    for (unsigned i = 0; choices[i]; i++)
        printf("%s %s%s", i ? "," : "", choices[i],
               g_str_has_suffix(choices[i], "=") ? "NAME" : "");
}

/* The end of an option's line. */
static void print_values(const struct anima_option *option)
{
    const char *preset = anima_option_default(option);

    if (anima_option_choices(option))
        print_choices(anima_option_choices(option));
    if (preset)
        printf(" [%s]", preset);
    putchar('\n');
}

static void print_member(const struct anima_option *member)
{
    bool plain = anima_option_is_bool(member);
    g_autofree char *left = g_strdup_printf("%s%s%s", anima_option_key(member), plain ? "" : "=",
                                            plain ? "" : anima_option_argument(member));

    printf("    %-*s %s", OPTION_COLUMN - 2, left, anima_option_help(member));
    print_values(member);
}

/* A yes or no may follow only with "=", since the option alone says yes. */
static void print_definition_option(const struct anima_option *option)
{
    const char *key = anima_option_key(option), *argument = anima_option_argument(option);
    g_autofree char *joined = g_strdup_printf("%s[=%s]", key, argument);
    bool plain = anima_option_is_bool(option);

    print_option(plain ? joined : key, plain ? NULL : argument, anima_option_help(option));
    print_values(option);
}

static void print_definition_options(const struct command *command)
{
    const struct anima_option *option, *member;

    for (unsigned i = 0; (option = command_option_at(command, i)); i++) {
        print_definition_option(option);
        for (unsigned j = 0; (member = anima_option_member(option, j)); j++)
            print_member(member);
    }
}

static void print_examples(const struct command *command)
{
    printf("\nexamples:\n");
    for (const struct example *example = examples; example->command; example++)
        if (strcmp(example->command, command->name) == 0)
            printf("  # %s.\n  %s\n", example->about, example->line);
}

void cli_print_help(const struct command *command)
{
    bool options = command->definition || command->flags->name;

    printf("usage: anima %s%s%s%s\n\n%s.\n", command->name, *command->words ? " " : "",
           command->words, options ? " [options]" : "", command->help);
    print_examples(command);
    if (options)
        printf("\noptions:\n");
    for (const struct cli_flag *flag = command->flags; flag->name; flag++) {
        print_option(flag->name, flag->argument, flag->help);
        putchar('\n');
    }
    if (command->definition)
        print_definition_options(command);
}

int command_help(const struct command *self, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(self, argc, argv, &status);
    const struct command *command;

    if (!words)
        return status;
    if (cli_word(words, 0)) {
        command = command_find(cli_word(words, 0));
        if (!command)
            return cli_fail(CLI_USAGE, "there is no command '%s'", cli_word(words, 0));
        cli_print_help(command);
        return CLI_GOOD;
    }
    printf("usage: anima COMMAND [words] [--options]\n\n");
    for (command = commands; command->name; command++)
        printf("  %-10s %s\n", command->name, command->help);
    printf("\n'anima help COMMAND' tells more, anima(1) all.\n");
    return CLI_GOOD;
}
