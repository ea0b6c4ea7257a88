// SPDX-License-Identifier: Apache-2.0
/*
 * The completion script for fish: a line an option and command.
 */
#include <stdio.h>

#include "cli/completion.h"

/* In single quotes. */
static void print_text(const char *text)
{
    putchar('\'');
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            putchar('\\');
        putchar(*text);
    }
    putchar('\'');
}

static void begin(const struct command *command)
{
    printf("complete -c anima -n '__fish_seen_subcommand_from %s'", command->name);
}

static void print_choices(const char *const *choices)
{
    printf(" -x -a '");
    for (; *choices; choices++)
        printf("%s%s", *choices, choices[1] ? " " : "");
    printf("'");
}

/* Whether a value has to follow, and which ones are known. */
static void print_value(const struct anima_option *option)
{
    const struct anima_option *first = anima_option_member(option, 0);
    const struct anima_option *known = first ? first : option;

    if (anima_option_is_bool(option))
        return;
    if (anima_option_choices(known))
        print_choices(anima_option_choices(known));
    else
        printf(anima_option_is_path(known) ? " -r -F" : " -x");
}

static void print_command(const struct command *command)
{
    const struct anima_option *option;

    printf("complete -c anima -n __fish_use_subcommand -f -a %s -d ", command->name);
    print_text(command->help);
    putchar('\n');
    for (const struct cli_flag *flag = command->flags; flag->name; flag++) {
        begin(command);
        printf(" -l %s%s -d ", flag->name, flag->argument ? " -x" : "");
        print_text(flag->help);
        putchar('\n');
    }
    for (unsigned i = 0; (option = command_option_at(command, i)); i++) {
        begin(command);
        printf(" -l %s", anima_option_key(option));
        print_value(option);
        printf(" -d ");
        print_text(anima_option_help(option));
        putchar('\n');
    }
    if (completion_wants_names(command)) {
        begin(command);
        printf(" -a '(anima list --names 2>/dev/null)' -d machine\n");
    }
}

void completion_print_fish(void)
{
    printf("# Completion of anima(1) for fish.\n");
    for (const struct command *command = commands; command->name; command++)
        print_command(command);
}
