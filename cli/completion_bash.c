// SPDX-License-Identifier: Apache-2.0
/*
 * The completion script for bash.
 */
#include <stdio.h>
#include <string.h>

#include "cli/completion.h"

static void print_options(const struct command *command)
{
    const struct anima_option *option;

    for (const struct cli_flag *flag = command->flags; flag->name; flag++)
        printf(" --%s", flag->name);
    for (unsigned i = 0; (option = command_option_at(command, i)); i++)
        printf(" --%s", anima_option_key(option));
}

/* Shell words that complete one value: its choices, or files. */
static void print_choices(const struct anima_option *option)
{
    const char *const *choices = anima_option_choices(option);

    if (!choices) {
        printf("COMPREPLY=($(compgen -f -- \"$word\"))\n");
        return;
    }
    printf("COMPREPLY=($(compgen -W \"");
    for (; *choices; choices++)
        printf("%s%s", *choices, choices[1] ? " " : "");
    printf("\" -- \"$word\"))\n");
}

/* Behind a comma stand the keys of members, before it the value of the first one. */
static void print_members(const struct anima_option *option)
{
    const struct anima_option *member;

    printf("if [[ $word == *,* ]]; then\n"
           "            COMPREPLY=($(compgen -P \"${word%%,*},\" -W \"");
    for (unsigned i = 1; (member = anima_option_member(option, i)); i++)
        printf("%s%s%s", i > 1 ? " " : "", anima_option_key(member),
               anima_option_is_bool(member) ? "" : "=");
    printf("\" -- \"${word##*,}\"))\n"
           "            return\n"
           "        fi\n"
           "        ");
    print_choices(anima_option_member(option, 0));
}

/* The words that may follow "--KEY", of the command that takes most. */
static void print_values(void)
{
    const struct command *command = command_find("create");
    const struct anima_option *option;

    for (unsigned i = 0; (option = command_option_at(command, i)); i++) {
        bool members = anima_option_member(option, 0);

        if (!members && !anima_option_choices(option) && !anima_option_is_path(option))
            continue;
        printf("    --%s)\n        ", anima_option_key(option));
        if (members)
            print_members(option);
        else
            print_choices(option);
        printf("        return ;;\n");
    }
}

/* The keys of options, and of members where only those count that can change at run time. */
static void print_keys(bool live)
{
    const struct anima_option *option, *member;

    for (unsigned i = 0; (option = anima_option_at(i)); i++) {
        if (!live || anima_option_is_live(option))
            printf("%s ", anima_option_key(option));
        for (unsigned m = 0; live && (member = anima_option_member(option, m)); m++)
            if (anima_option_is_live(member))
                printf("%s ", anima_option_key(member));
    }
}

/* Behind the machine of such a command stand changes of options; those of what runs may be of its
 * devices. */
static void print_changes(const char *command, bool live)
{
    printf("    if [ \"${COMP_WORDS[1]}\" = %s ] && [ \"$COMP_CWORD\" -gt 2 ]; then\n"
           "        compopt -o nospace 2>/dev/null\n"
           "        COMPREPLY=($(compgen -S = -W \"",
           command);
    print_keys(live);
    printf("\" -- \"$word\"))\n"
           "        return\n"
           "    fi\n");
}

void completion_print_bash(void)
{
    printf("# Completion of anima(1) for bash.\n"
           "_anima() {\n"
           "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
           "    local options=\n"
           "    if [ \"$COMP_CWORD\" = 1 ]; then\n"
           "        COMPREPLY=($(compgen -W \"");
    for (const struct command *command = commands; command->name; command++)
        printf("%s%s", command == commands ? "" : " ", command->name);
    printf("\" -- \"$word\"))\n"
           "        return\n"
           "    fi\n"
           "    case $before in\n");
    print_values();
    printf("    esac\n"
           "    case ${COMP_WORDS[1]} in\n");
    for (const struct command *command = commands; command->name; command++) {
        printf("    %s) options=\"--help", command->name);
        print_options(command);
        printf("\" ;;\n");
    }
    printf("    esac\n");
    print_changes("edit", false);
    print_changes("change", true);
    printf("    case $word in\n"
           "    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")) ;;\n"
           "    *) COMPREPLY=($(compgen -f -W \"$(anima list --names 2>/dev/null)\" "
           "-- \"$word\")) ;;\n"
           "    esac\n"
           "}\n"
           "complete -F _anima anima\n");
}
