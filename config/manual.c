// SPDX-License-Identifier: Apache-2.0
/*
 * A build tool: copy a manual's source (scdoc(5)) from standard input to standard output, with the
 * schema's options in the place of the line @OPTIONS@.
 */
#include <stdio.h>
#include <string.h>

#include "config/schema.h"

/* Text with the characters escaped that scdoc would take for markup. */
static void print_plain(const char *text)
{
    for (; *text; text++) {
        if (strchr("_\\#<>[]", *text))
            putchar('\\');
        putchar(*text);
    }
}

static void print_choices(const char *const *choices)
{
    printf(" One of");
    for (unsigned i = 0; choices[i]; i++) {
        printf("%s *", i ? "," : "");
        print_plain(choices[i]);
        printf("*%s", g_str_has_suffix(choices[i], "=") ? "NAME" : "");
    }
    putchar('.');
}

/* What stands behind an option's name; the first sentence is the help line's phrase. */
static void print_text(const struct option *option)
{
    putchar(g_ascii_toupper(option->help[0]));
    print_plain(option->help + 1);
    putchar('.');
    if (option->choices)
        print_choices(option->choices);
    if (option->preset) {
        printf(" Default: *");
        print_plain(option->preset);
        printf("*.");
    }
    if (option->list)
        printf(" It may be given several times, and is a list in _vm.yaml_.");
    if (option->manual)
        printf(" %s", option->manual);
    if (option->live != OPTION_LIVE_NEVER)
        printf(" *anima change* can change it while the machine runs.");
    printf("\n\n");
}

static void print_members(const struct option *option)
{
    printf("\tIts members, with commas between them (two commas stand for one in a value), or as a "
           "mapping in _vm.yaml_:\n\n");
    for (const struct option *member = option->members; member->key; member++) {
        printf("\t*%s*", member->key);
        if (member->type != OPTION_TYPE_BOOL) {
            putchar('=');
            print_plain(member->argument);
        }
        if (member == option->members)
            printf(" (its name may be left out)");
        printf("\n\t\t");
        print_text(member);
    }
}

static void print_option(const struct option *option)
{
    bool alone = option->type == OPTION_TYPE_BOOL; /* a value is optional, and joined */

    printf("*--%s*%s", option->key, alone ? "" : " ");
    print_plain(alone ? "[=" : "");
    print_plain(option->argument);
    print_plain(alone ? "]" : "");
    printf("\n\t");
    print_text(option);
    if (option->members)
        print_members(option);
}

int main(void)
{
    char line[1024];

    while (fgets(line, sizeof(line), stdin)) {
        if (strcmp(line, "@OPTIONS@\n") != 0) {
            fputs(line, stdout);
            continue;
        }
        for (unsigned id = 0; id < OPTION_COUNT; id++)
            print_option(&options[id]);
    }
    return ferror(stdout) ? 1 : 0;
}
