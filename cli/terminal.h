// SPDX-License-Identifier: Apache-2.0
/*
 * The user's terminal: raw while a machine's serial line is on it, and always restored, also when
 * this program crashes.
 */
#pragma once

#include <stdbool.h>

/* Make standard input's terminal raw. Does nothing when it is no terminal, or when this process is
 * in the background of it. Repeating it is harmless. */
void terminal_raw(void);

/* Put it back as it was before the first terminal_raw. Idempotent; safe in a signal handler. */
void terminal_restore(void);

/* Whether it is raw now. */
bool terminal_is_raw(void);
