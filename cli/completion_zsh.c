// SPDX-License-Identifier: Apache-2.0
/*
 * The completion script for zsh (zshcompsys(1)): _arguments gets a line an option.
 */
#include <stdio.h>
#include <string.h>

#include "cli/completion.h"

#define MARKS "[]:\\" /* what _arguments takes for its own */

/* Text within single quotes of the shell, with `marks` escaped. */
static void print_escaped(const char *text, const char *marks)
{
    for (; *text; text++) {
        if (strchr(marks, *text))
            putchar('\\');
        if (*text == '\'')
            fputs("'\\'", stdout);
        putchar(*text);
    }
}

static void print_text(const char *text)
{
    print_escaped(text, MARKS);
}

static void print_choices(const char *const *choices)
{
    printf("(");
    for (; *choices; choices++)
        printf("%s%s", *choices, choices[1] ? " " : "");
    printf(")");
}

/* What follows the option: ":ARGUMENT:ACTION". */
static void print_value(const struct anima_option *option)
{
    const struct anima_option *first = anima_option_member(option, 0);
    const struct anima_option *known = first ? first : option;

    printf(":");
    print_text(anima_option_argument(option));
    printf(":");
    if (anima_option_choices(known))
        print_choices(anima_option_choices(known));
    else if (anima_option_is_path(known))
        printf("_files");
}

static void print_option(const struct anima_option *option)
{
    printf(" \\\n            '*--%s%s[", anima_option_key(option),
           anima_option_is_bool(option) ? "" : "=");
    print_text(anima_option_help(option));
    printf("]");
    if (!anima_option_is_bool(option))
        print_value(option);
    printf("'");
}

static void print_flag(const struct cli_flag *flag)
{
    printf(" \\\n            '--%s%s[", flag->name, flag->argument ? "=" : "");
    print_text(flag->help);
    printf("]");
    if (flag->argument)
        printf(":%s:", flag->argument);
    printf("'");
}

static void print_command(const struct command *command)
{
    const struct anima_option *option;

    printf("    %s)\n        _arguments '--help[explain it]'", command->name);
    for (const struct cli_flag *flag = command->flags; flag->name; flag++)
        print_flag(flag);
    for (unsigned i = 0; (option = command_option_at(command, i)); i++)
        print_option(option);
    if (completion_wants_names(command))
        printf(" \\\n            '*:machine:_anima_words'");
    else if (command->most)
        printf(" \\\n            '*:file:_files'");
    printf(" ;;\n");
}

void completion_print_zsh(void)
{
    printf("#compdef anima\n"
           "# Completion of anima(1) for zsh.\n"
           "_anima_words() {\n"
           "    local -a names\n"
           "    names=(${(f)\"$(anima list --names 2>/dev/null)\"})\n"
           "    compadd -a names\n"
           "    _files\n"
           "}\n"
           "_anima() {\n"
           "    local -a commands\n"
           "    if (( CURRENT == 2 )); then\n"
           "        commands=(");
    for (const struct command *command = commands; command->name; command++) {
        printf("\n            '%s:", command->name);
        print_escaped(command->help, ":\\");
        printf("'");
    }
    printf(")\n"
           "        _describe command commands\n"
           "        return\n"
           "    fi\n"
           "    shift words\n"
           "    (( CURRENT-- ))\n"
           "    case $words[1] in\n");
    for (const struct command *command = commands; command->name; command++)
        print_command(command);
    printf("    esac\n"
           "}\n"
           "if [ \"$funcstack[1]\" = _anima ]; then\n"
           "    _anima \"$@\"\n"
           "else\n"
           "    compdef _anima anima\n"
           "fi\n");
}
