// SPDX-License-Identifier: Apache-2.0
/*
 * What network cards are plugged into: the cable from the vmm to a TAP of the host's, or to a
 * helper.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "config/nics.h"

struct nic_cable {
    int fd;     /* the vmm's end; -1: the card has no cable */
    int helper; /* the end that a helper has, of a pair of packet sockets; -1: there is none */
};

/* Open what `nic` (of a definition that passed its check) is plugged into. The caller closes both
 * ends. false and CONFIG_ERROR_FAILED on failure; then nothing is open. */
bool nic_open(const struct nic *nic, struct nic_cable *cable, GError **error);
