// SPDX-License-Identifier: Apache-2.0
/*
 * Cells in rows, measured before they are printed.
 */
#include "cli/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define GAP      2 /* between columns */
#define LEAST    8 /* of a column that is cut */
#define ELLIPSIS "…"

struct table {
    const struct table_column *columns;
    unsigned count;   /* of columns */
    GPtrArray *cells; /* of char * */
};

struct table *table_create(const struct table_column *columns)
{
    struct table *table = g_new0(struct table, 1);

    table->columns = columns;
    while (columns[table->count].title)
        table->count++;
    table->cells = g_ptr_array_new_with_free_func(g_free);
    return table;
}

void table_destroy(struct table *table)
{
    if (!table)
        return;
    g_ptr_array_unref(table->cells);
    g_free(table);
}

void table_add(struct table *table, char *text)
{
    g_ptr_array_add(table->cells, text);
}

static unsigned width_of(const char *text)
{
    return g_utf8_strlen(text, -1);
}

/* How wide the column is with all that is in it. */
static unsigned column_width(const struct table *table, unsigned column)
{
    unsigned width = width_of(table->columns[column].title);

    for (unsigned i = column; i < table->cells->len; i += table->count)
        width = MAX(width, width_of(table->cells->pdata[i]));
    return width;
}

/* The beginning of the text, with an ellipsis when that is not all, in `width` columns. */
static char *cut(const char *text, unsigned width)
{
    g_autofree char *begin = NULL;

    if (width_of(text) <= width)
        return g_strdup(text);
    begin = g_utf8_substring(text, 0, width - 1);
    return g_strconcat(begin, ELLIPSIS, NULL);
}

static void add_cell(const struct table *table, GString *line, unsigned column, const char *text,
                     unsigned width)
{
    g_autofree char *fitted = cut(text, width);
    int pad = (int)(width - width_of(fitted));
    bool right = table->columns[column].right, last = column + 1 == table->count;

    g_string_append_printf(line, "%*s%s%*s%*s", right ? pad : 0, "", fitted,
                           right || last ? 0 : pad, "", last ? 0 : GAP, "");
}

/* `cells` are those of one row. What is wider than the terminal would break it into two lines. */
static void print_row(const struct table *table, char *const *cells, const unsigned *widths,
                      unsigned width)
{
    g_autoptr(GString) line = g_string_new(NULL);
    g_autofree char *fitted = NULL;

    for (unsigned i = 0; i < table->count; i++)
        add_cell(table, line, i, cells[i], widths[i]);
    fitted = width ? cut(line->str, width) : g_strdup(line->str);
    puts(fitted);
}

const char *table_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "-";
}

void table_print(const struct table *table, unsigned width)
{
    g_autofree unsigned *widths = g_new(unsigned, table->count);
    g_autofree char **titles = g_new(char *, table->count);
    unsigned total = GAP * (table->count - 1);

    if (!table->cells->len)
        return;
    for (unsigned i = 0; i < table->count; i++) {
        titles[i] = (char *)table->columns[i].title;
        total += widths[i] = column_width(table, i);
    }
    if (width && total > width)
        widths[0] = MAX(MIN(LEAST, widths[0]), widths[0] - MIN(widths[0], total - width));
    print_row(table, titles, widths, width);
    for (unsigned i = 0; i < table->cells->len; i += table->count)
        print_row(table, (char *const *)&table->cells->pdata[i], widths, width);
}

unsigned terminal_width(void)
{
    struct winsize size;

    return isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

bool terminal_colours(void)
{
    const char *unwanted = getenv("NO_COLOR"), *kind = getenv("TERM");

    return isatty(STDOUT_FILENO) && !(unwanted && *unwanted) && kind && strcmp(kind, "dumb") != 0;
}
