// SPDX-License-Identifier: Apache-2.0
/*
 * Definitions of other hypervisors.
 *
 * An importer reads a foreign description and sets in a definition what has a counterpart. It never
 * guesses: what it knows and cannot carry over, or does not know, it names. Whatever it sets is
 * checked by the schema as a user's word is; a value that is refused is named too.
 */
#pragma once

#include <glib.h>
#include <libxml/tree.h>
#include <stdbool.h>

#include "config/definition.h"

struct import {
    struct definition *definition;
    GPtrArray *lost;   /* of char *: what could not be carried over, a line each */
    bool without_macs; /* addresses of network cards are lost */
};

void import_init(struct import *import);
void import_finish(struct import *import);

/* Set an option, or name it with the reason why not. NULL sets nothing. */
void import_set(struct import *import, const char *key, const char *text);
/* Name something that is lost. */
void import_lose(struct import *import, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Add to an entry of an option with members: "key=value" (the first member's without the key), with
 * commas in the value doubled. NULL adds nothing. */
void import_entry_add(GString *entry, const char *key, const char *value);

/* Add the format of the disk `path`, as its writer calls it (NULL: raw). False, and it is named as
 * lost, when it is none of ours. */
bool import_format_add(struct import *import, GString *entry, const char *path, const char *format);

/* Add a card's address to its entry, or lose it. NULL adds nothing. */
void import_take_mac(struct import *import, GString *entry, const char *mac);

/* Read what is in memory, in whatever format it is. False when it is in none of them: USAGE. The
 * message begins with line and column, "3:13: ", where there are such. */
bool import_read(struct import *import, const char *data, size_t size, GError **error);

/* The importers. `root` is the outermost element. */
void import_libvirt(struct import *import, xmlNode *root);
void import_vbox(struct import *import, xmlNode *root);
/* The adapters of VirtualBox's element Network. */
void import_vbox_network(struct import *import, xmlNode *network);
/* False when it is no such file. */
bool import_xl(struct import *import, const char *data, size_t size, GError **error);

/* ---- elements ---- */

/* What becomes of an element; the table ends with a NULL name. */
struct import_rule {
    const char *name;
    /* NULL: it means nothing to a machine of ours, and is not missed. */
    void (*take)(struct import *import, xmlNode *node);
};

/* Apply rules to the children of `node`; those without a rule are lost, by their name. `what` is
 * put before it. */
void import_children(struct import *import, xmlNode *node, const struct import_rule *rules,
                     const char *what);

/* The first child element of this name, or NULL; of NULL it is NULL. */
xmlNode *import_child(xmlNode *node, const char *name);
/* An attribute's value, NULL when there is none or no node. Text within the element, without space
 * around it. The caller frees both. */
char *import_attribute(xmlNode *node, const char *name);
char *import_text(xmlNode *node);
/* An attribute of a child. */
char *import_child_attribute(xmlNode *node, const char *child, const char *name);
