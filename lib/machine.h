// SPDX-License-Identifier: Apache-2.0
/* Handles of machines, with what only machines in the background need. Private to libanima. */
#pragma once

#include "anima.h"

/* anima_machine_start_begin, where the descriptor is the file at the absolute path `log` (NULL:
 * none): the monitor keeps it from growing without end. */
struct anima_machine *machine_start_begin(const struct anima_definition *definition, int serial_fd,
                                          const char *log, struct anima_error **error);
/* Have it let go once it has started. Takes `log_fd` and `log`, which the machine's log is. */
void machine_detach_later(struct anima_machine *machine, int log_fd, char *log);
/* Wait until it has started; on failure the handle is destroyed, and NULL is returned. NULL for
 * `machine` gives NULL. */
struct anima_machine *machine_await_start(struct anima_machine *machine,
                                          struct anima_error **error);
