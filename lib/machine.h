// SPDX-License-Identifier: Apache-2.0
/* Handles of machines, with what only machines in the background need. Private to libanima. */
#pragma once

#include "anima.h"

/* anima_machine_start and anima_machine_detach, where the descriptor is the file at the absolute
 * path `log` (NULL: none): the monitor keeps it from growing without end. */
struct anima_machine *machine_start(const struct anima_definition *definition, int serial_fd,
                                    const char *log, struct anima_error **error);
bool machine_detach(struct anima_machine *machine, int log_fd, const char *log,
                    struct anima_error **error);
