// SPDX-License-Identifier: Apache-2.0
/* Interfaces on bridges of the host's, which the helper anima-bridge makes (vmm/net/bridge). */
#pragma once

#include <glib.h>

/* Make a TAP interface on the bridge `name`; it goes with its last descriptor. The descriptor
 * carries frames as that of tap_open does. -1 and CONFIG_ERROR_FAILED with what to do on failure.
 */
int bridge_open(const char *name, GError **error);
