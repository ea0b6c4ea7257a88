// SPDX-License-Identifier: Apache-2.0
/* Reaching the control socket of a running machine. Private to libanima. */
#pragma once

#include <glib.h>

/* A new connection to the machine of this user called `name`, which was checked. -1 when nobody is
 * there. */
int control_connect(const char *name);

/* So to the process of the network called `name`. */
int network_connect(const char *name);

/* The names of this user's machines that have a folder at run time, whether or not somebody is
 * there, in the order of the alphabet; free with g_strfreev. NULL and CONFIG_ERROR_FAILED when
 * they cannot be told. */
char **control_list(GError **error);
