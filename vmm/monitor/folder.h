// SPDX-License-Identifier: Apache-2.0
/*
 * The folder of a running machine: its lock and its control socket, below runtime_folder(). So for
 * networks, below their folder in there.
 *
 * Whoever holds the lock owns the name; a folder without a holder is what a killed monitor left,
 * and is taken over. The kernel drops the lock with the process, so nothing is ever stale.
 */
#pragma once

#include <glib.h>

struct folder;

/* Take the machine's name, or fail when it is in use. */
struct folder *folder_claim(const char *name, GError **error);
/* So for a network; CONFIG_ERROR_STATE when it is in use. */
struct folder *folder_claim_network(const char *name, GError **error);

/* A connection to the process of the network called `name`. -1 with errno when nobody is there. */
int folder_connect_network(const char *name);

/* Bind the control socket. Returns the listening descriptor, which the folder owns; -1 on error. */
int folder_listen(struct folder *folder, GError **error);

/* Remove socket, lock and folder. NULL is fine. */
void folder_release(struct folder *folder);

/* A listening Unix socket at `path`, readable and writable by this user alone; a socket that
 * nobody listens on any more is replaced. -1 and CONFIG_ERROR_FAILED on error. */
int socket_listen(const char *path, GError **error);
