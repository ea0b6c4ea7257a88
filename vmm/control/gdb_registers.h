// SPDX-License-Identifier: Apache-2.0
/*
 * The registers that GDB sees: its amd64 core set, x87, SSE, segment bases, and the system
 * registers beside them. Numbers are positions in the target description.
 */
#pragma once

#include "vmm/engine/cpu_state.h"

#include <glib.h>

/* How many there are. */
unsigned gdb_register_count(void);

/* Append register `number` in target byte order as hexadecimal text. False: no such register. */
bool gdb_register_append(GString *out, const struct cpu_state *state, unsigned number);

/* Take register `number` from the front of `*text`, which moves on. */
bool gdb_register_take(const char **text, struct cpu_state *state, unsigned number);

/* The target description (GDB manual, appendix G), "target.xml". The caller frees it. */
char *gdb_target_description(void);
