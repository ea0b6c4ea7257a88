// SPDX-License-Identifier: Apache-2.0
/*
 * The debugger's door: GDB's remote protocol on a Unix socket, for a machine.
 *
 *     (gdb) target remote SOCKET
 *
 * A debugger that connects pauses the machine; when it detaches or vanishes, the machine goes on
 * without breakpoints. One at a time. All on the control thread and its main context.
 */
#pragma once

#include "vmm/machine/machine.h"

struct gdb_server;

/* `fd`: a listening Unix socket, taken over. */
struct gdb_server *gdb_server_create(struct machine *machine, int fd);

/* Before machine_destroy, and not from inside the machine's listener: a debugger's "kill" ends
 * there. NULL is fine. */
void gdb_server_destroy(struct gdb_server *server);

/* Whether debuggers may come, as they may at first. Who comes meanwhile waits in the socket's
 * queue, for whichever process lets it in. */
void gdb_server_admit(struct gdb_server *server, bool admit);

/* Whether a debugger is there. */
bool gdb_server_is_connected(const struct gdb_server *server);

/* Tell a connected debugger that the machine ended with `status`. From the machine's listener. */
void gdb_server_ended(struct gdb_server *server, int status);
