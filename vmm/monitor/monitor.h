// SPDX-License-Identifier: Apache-2.0
/*
 * The monitor of one machine: it holds the name and the control socket, opens every file, starts
 * the vmm and says how it ended. It never touches guest memory.
 */
#pragma once

/* The role's main: the connection that owns the machine is on PROCESS_LINK_FD. Returns the
 * machine's exit status. */
int monitor_main(void);
