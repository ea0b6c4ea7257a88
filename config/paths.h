// SPDX-License-Identifier: Apache-2.0
/*
 * Where machines are found.
 *
 * A defined machine is a folder with its definition, and whatever else belongs to it. A running one
 * has another folder, with its lock and its control socket: root's are under /run/anima, a user's
 * under $XDG_RUNTIME_DIR/anima, or /tmp/anima-UID where there is no such variable.
 * $ANIMA_RUNTIME_DIR overrides both.
 */
#pragma once

#include <glib.h>

#define CONFIG_CONTROL_SOCKET "control"  /* in the machine's folder */
#define CONFIG_FILE           "vm.yaml"  /* a machine's definition, in its own folder */
#define CONFIG_NETWORKS       "networks" /* the folder of the networks, beside the machines' */
#define CONFIG_NETWORK_FILE   "network.yaml"
#define CONFIG_LOCK_FILE      "lock" /* held as long as the monitor lives */

/* The folder of all of this user's running machines. It need not exist. The caller frees it. */
char *runtime_folder(void);

/* A descriptor of that folder, made when it is not there. -1 and CONFIG_ERROR_FAILED when it cannot
 * be had, or is not this user's alone. */
int runtime_folder_open(GError **error);

/* The folder of this user's defined machines: /var/lib/anima for root, $XDG_DATA_HOME/anima for a
 * user; $ANIMA_DATA_DIR overrides both. It need not exist. The caller frees it. */
char *data_folder(void);

/* The definition's file of the machine called `name`, below that. It need not exist. The caller
 * frees it. */
char *definition_path(const char *name);
