// SPDX-License-Identifier: Apache-2.0
/* Opening TAP interfaces of the host (tun(4) in the kernel's Documentation/networking). */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Attach to the interface `name`, which must be there: none is made. The descriptor carries frames
 * behind virtio headers of 12 bytes. -1 and CONFIG_ERROR_FAILED with what to do on failure. */
int tap_open(const char *name, GError **error);

/* Settle the form of frames on the descriptor of a TAP: false with errno when it is none. It
 * becomes non-blocking. */
bool tap_set_form(int fd);
