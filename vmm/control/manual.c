// SPDX-License-Identifier: Apache-2.0
/*
 * A build tool: copy a manual's source (scdoc(5)) from standard input to standard output, with the
 * protocol's tables in the place of the lines @METHODS@, @EVENTS@ and @ERRORS@.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "vmm/control/protocol.h"

/* Text with the characters escaped that scdoc would take for markup. */
static void print_plain(const char *text)
{
    for (; *text; text++) {
        if (strchr("_*\\#<>[]", *text))
            putchar('\\');
        putchar(*text);
    }
}

static void print_choices(const char *const *choices)
{
    printf(": ");
    for (unsigned i = 0; choices[i]; i++)
        printf("%s*%s*", i ? ", " : "", choices[i]);
}

static void print_type(const struct control_field *field)
{
    static const char *const names[] = {
        [CONTROL_BOOL] = "boolean", [CONTROL_INT] = "integer", [CONTROL_TEXT] = "string",
        [CONTROL_LIST] = "array",   [CONTROL_MAP] = "map",     [CONTROL_OBJECT] = "object",
    };

    printf("%s", names[field->type]);
    if (field->entry) {
        printf(" of ");
        print_type(field->entry);
    }
    if (field->choices)
        print_choices(field->choices);
    if (field->min != field->max && field->max != INT64_MAX)
        printf(" from %" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT, field->min, field->max);
}

static const struct control_field *members_of(const struct control_field *field)
{
    while (field->entry)
        field = field->entry;
    return field->fields;
}

static void print_fields(const char *title, const struct control_field *fields, unsigned depth)
{
    static const char tabs[] = "\t\t\t\t\t\t";

    if (title && fields->name)
        printf("%.*s%s:\n\n", (int)depth, tabs, title);
    for (; fields->name; fields++) {
        printf("%.*s_", (int)depth, tabs);
        print_plain(fields->name);
        printf("_ (");
        print_type(fields);
        printf("%s)\n%.*s", fields->required ? "" : ", may be absent", (int)depth + 1, tabs);
        putchar(g_ascii_toupper(fields->about[0]));
        print_plain(fields->about + 1);
        printf(".\n\n");
        if (members_of(fields))
            print_fields(NULL, members_of(fields), depth + 1);
    }
}

static void print_methods(void)
{
    for (const struct control_method *method = control_methods; method->name; method++) {
        if (!method->result)
            continue;
        printf("*%s*\n\t", method->name);
        print_plain(method->about);
        if (method->lasting)
            printf(" This may take long.");
        printf("\n\n");
        print_fields("Parameters", method->params, 1);
        if (method->fds_about) {
            printf("\tWith %s%u descriptor beside the line: ", method->fds_min ? "" : "at most ",
                   method->fds_max);
            print_plain(method->fds_about);
            printf(".\n\n");
        }
        print_fields("Result", method->result, 1);
    }
}

static void print_events(void)
{
    for (const struct control_event *event = control_events; event->name; event++) {
        printf("*%s*\n\t", event->name);
        print_plain(event->about);
        printf("\n\n");
        print_fields(NULL, event->fields, 1);
    }
}

static void print_codes(void)
{
    for (const struct control_code *code = control_codes; code->name; code++) {
        printf("*%d* %s\n\t", code->code, code->name);
        print_plain(code->about);
        printf("\n\n");
    }
}

int main(void)
{
    char line[1024];

    while (fgets(line, sizeof(line), stdin)) {
        if (strcmp(line, "@METHODS@\n") == 0)
            print_methods();
        else if (strcmp(line, "@EVENTS@\n") == 0)
            print_events();
        else if (strcmp(line, "@ERRORS@\n") == 0)
            print_codes();
        else
            fputs(line, stdout);
    }
    return ferror(stdout) ? 1 : 0;
}
