// SPDX-License-Identifier: Apache-2.0
/*
 * A build tool: copy a manual's source (scdoc(5)) from standard input to standard output, with the
 * schema's options in the place of the line @OPTIONS@, and so those of a cloud's image for @CLOUD@
 * and of networks for @NETWORK@.
 */
#include <stdio.h>
#include <string.h>

#include "config/cloud.h"
#include "config/network.h"
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

/* What stands behind an option's name; the first sentence is the help line's phrase. Those that are
 * `kept` stand in vm.yaml. */
static void print_text(const struct option *option, bool kept)
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
        printf(" It may be given several times%s.", kept ? ", and is a list in _vm.yaml_" : "");
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
        print_text(member, true);
    }
}

static void print_option(const struct option *option, bool kept)
{
    bool alone = option->type == OPTION_TYPE_BOOL; /* a value is optional, and joined */

    printf("*--%s*%s", option->key, alone ? "" : " ");
    print_plain(alone ? "[=" : "");
    print_plain(option->argument);
    print_plain(alone ? "]" : "");
    printf("\n\t");
    print_text(option, kept);
    if (option->members)
        print_members(option);
}

/* The table that the line stands for, or NULL. */
static const struct option *find_table(const char *line)
{
    if (strcmp(line, "@OPTIONS@\n") == 0)
        return options;
    if (strcmp(line, "@NETWORK@\n") == 0)
        return network_options;
    return strcmp(line, "@CLOUD@\n") == 0 ? cloud_options : NULL;
}

int main(void)
{
    char line[1024];

    while (fgets(line, sizeof(line), stdin)) {
        const struct option *table = find_table(line);
        bool kept = table == options;

        if (!table)
            fputs(line, stdout);
        for (; table && table->key; table++)
            print_option(table, kept);
    }
    return ferror(stdout) ? 1 : 0;
}
