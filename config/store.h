// SPDX-License-Identifier: Apache-2.0
/*
 * Kept definitions of this user: a folder a machine, named as it, with vm.yaml in it; and so for
 * networks.
 *
 * Every change is one rename(2): what is defined is there whole or not at all, a definition is the
 * old one or the new one, whatever happens meanwhile, and whoever reads needs no lock. Texts are
 * stored as they are: what they mean is the caller's business. Each call checks the name first
 * (CONFIG_ERROR_USAGE), so that it leads nowhere else. From any thread.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* What is kept where. */
struct store {
    const char *what;   /* "machine" */
    const char *folder; /* below the data folder; "": that itself */
    const char *file;   /* of a definition, in the folder of its name */
};

extern const struct store store_machines, store_networks;

/* Whether `name` can be one's name. */
bool store_check_name(const struct store *store, const char *name, GError **error);

/* The definition's file of the one called `name`, which was checked. It need not exist. The caller
 * frees it. */
char *store_path(const struct store *store, const char *name);

/* Make the folder of the one called `name` with this definition. CONFIG_ERROR_STATE when there is
 * one. */
bool store_create(const struct store *store, const char *name, const char *text, GError **error);

/* A new machine's folder in the making, for what takes a while to write; used by one thread at a
 * time. Nobody sees it. One whose process has died is removed when the next one is begun. */
struct store_draft;

/* Begin the folder of the one called `name`. CONFIG_ERROR_STATE when there is one already. */
struct store_draft *store_draft_begin(const struct store *store, const char *name, GError **error);
/* Where files that belong to the machine are written meanwhile; it lives as long as the draft. */
const char *store_draft_folder(const struct store_draft *draft);
/* Add this definition: the machine is there, with all that lies in the folder. False: it is not,
 * with CONFIG_ERROR_STATE when somebody else has made one of its name meanwhile. */
bool store_draft_keep(struct store_draft *draft, const char *text, GError **error);
/* Forget the draft; what has not become a machine's folder is removed. NULL is fine. */
void store_draft_destroy(struct store_draft *draft);

/* The text of its definition; the caller frees it. CONFIG_ERROR_ABSENT when there is none. */
char *store_read(const struct store *store, const char *name, GError **error);

/* Put `text` in the place of the definition, if that still is `before`: CONFIG_ERROR_STATE when
 * somebody else has changed it. */
bool store_replace(const struct store *store, const char *name, const char *before,
                   const char *text, GError **error);

/* Remove the folder with all that is in it. `may` is asked before, and again once it cannot be
 * found any more; when that sets an error, the folder stays, or is put back. */
bool store_delete(const struct store *store, const char *name,
                  bool (*may)(const char *name, GError **error), GError **error);

/* The names of all that have a definition, in the order of the alphabet; free with g_strfreev. */
char **store_list(const struct store *store, GError **error);
