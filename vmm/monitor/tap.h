// SPDX-License-Identifier: Apache-2.0
/* Opening TAP interfaces of the host (tun(4) in the kernel's Documentation/networking). */
#pragma once

#include <glib.h>

/* Attach to the interface `name`, which must be there: none is made. The descriptor carries frames
 * behind virtio headers of 12 bytes. -1 and CONFIG_ERROR_FAILED with what to do on failure. */
int tap_open(const char *name, GError **error);
