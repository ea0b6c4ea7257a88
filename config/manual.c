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
        printf("*%s", g_str_has_suffix(choices[i], "=") ? "FILE" : "");
    }
    putchar('.');
}

/* The first sentence is the help line's phrase. */
static void print_option(const struct option *option)
{
    printf("*--%s* ", option->key);
    print_plain(option->argument);
    printf("\n\t%c", g_ascii_toupper(option->help[0]));
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
    printf("\n\n");
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
