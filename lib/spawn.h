// SPDX-License-Identifier: Apache-2.0
/* Starting anima-vmm. Private to libanima. */
#pragma once

#include "anima.h"

/* Start a monitor; returns the connection that owns its machine, or -1. */
int spawn_monitor(struct anima_error **error);
