// SPDX-License-Identifier: Apache-2.0
/*
 * Cells in rows, measured before they are printed.
 */
#include "cli/table.h"

#include <stdio.h>
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

static void print_cell(const struct table *table, unsigned column, const char *text, unsigned width)
{
    unsigned length = width_of(text), keep = MIN(length, width);
    bool last = column + 1 == table->count;
    g_autofree char *cut = g_utf8_substring(text, 0, length > width ? keep - 1 : keep);
    unsigned pad = width - keep;

    printf("%*s%s%s%*s", table->columns[column].right ? pad : 0, "", cut,
           length > width ? ELLIPSIS : "", table->columns[column].right || last ? 0 : pad, "");
    printf(last ? "\n" : "%*s", GAP, "");
}

void table_print(const struct table *table, unsigned width)
{
    g_autofree unsigned *widths = g_new(unsigned, table->count);
    unsigned total = GAP * (table->count - 1);

    if (!table->cells->len)
        return;
    for (unsigned i = 0; i < table->count; i++)
        total += widths[i] = column_width(table, i);
    if (width && total > width)
        widths[0] = MAX(MIN(LEAST, widths[0]), widths[0] - MIN(widths[0], total - width));
    for (unsigned i = 0; i < table->count; i++)
        print_cell(table, i, table->columns[i].title, widths[i]);
    for (unsigned i = 0; i < table->cells->len; i++)
        print_cell(table, i % table->count, table->cells->pdata[i], widths[i % table->count]);
}

unsigned terminal_width(void)
{
    struct winsize size;

    return isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}
