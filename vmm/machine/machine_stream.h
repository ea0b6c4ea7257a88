// SPDX-License-Identifier: Apache-2.0
/* A whole machine written to a stream, and read from one. */
#pragma once

#include "vmm/machine/machine.h"
#include "vmm/state/stream.h"

/* Write a paused machine to the blocking descriptor `fd`, with its definition as JSON text. Control
 * thread. The machine is unchanged. False also while something waits that the guest asked for (a
 * reset, its end): the stream has no place for it, and the guest would go on as if refused. */
bool machine_save(struct machine *machine, int fd, const char *definition, GError **error);

/* Read the rest of a stream into a machine made from its definition (config.incoming) that has not
 * run. On false it is half loaded, counts as crashed, and is good for machine_destroy only. */
bool machine_load(struct machine *machine, struct stream_reader *reader, GError **error);
