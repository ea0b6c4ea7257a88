// SPDX-License-Identifier: Apache-2.0
/*
 * Tables for people: columns as wide as what is in them. On a terminal that is too narrow the first
 * column is cut, with an ellipsis; what goes into a pipe or a file is whole.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

struct table_column {
    const char *title; /* NULL ends the list */
    bool right;        /* numbers stand at the right */
};

struct table;

/* `columns` lives longer than the table. */
struct table *table_create(const struct table_column *columns);
/* NULL is fine. */
void table_destroy(struct table *table);

/* Add the next cell, from left to right and down; takes `text`. */
void table_add(struct table *table, char *text);

/* The member of the object as text for a cell: "-" where it is none. It belongs to the object. */
const char *table_text(const json_t *object, const char *key);

/* Print it, with the titles above; nothing when it has no rows. `width` is the terminal's, 0: no
 * limit. */
void table_print(const struct table *table, unsigned width);

/* Columns of the terminal that is standard output; 0 when it is none. */
unsigned terminal_width(void);
/* Whether standard output takes colours: a terminal that has them, of a user who wants them (no
 * NO_COLOR in the environment, see no-color.org). */
bool terminal_colours(void);
