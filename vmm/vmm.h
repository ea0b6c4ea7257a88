// SPDX-License-Identifier: Apache-2.0
/*
 * The vmm: the process that runs a guest. It opens nothing; all it has came from the monitor as
 * descriptors, and it is sandboxed before it reads a byte of any of them.
 */
#pragma once

/* The role's main: the connection to the monitor is on PROCESS_LINK_FD. Returns the program's exit
 * status; how the machine ended is told over the connection. */
int vmm_main(void);
