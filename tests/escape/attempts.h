// SPDX-License-Identifier: Apache-2.0
/*
 * What hostile code tries that has taken over a sandboxed process: a list of attempts, each with a
 * name. Those against something of the host's (a file, a process, a port) are given it by the
 * variables of the environment ANIMA_ESCAPE_*.
 */
#pragma once

#include <stdbool.h>

/* What the hook's handler of SIGSYS noted of the calling thread's last call. */
extern _Thread_local int attempt_trapped;

/* Make all attempts (`beneath`: those that have to fail without a filter too) and write a line for
 * each to standard error, "escape WHERE NAME OUTCOME": the outcome is "filter" (it raised SIGSYS),
 * the name of an error, or "DONE". The last line is "escape WHERE end". */
void attempts_run(const char *where, bool beneath);

/* A ring of this process's, whose operations are attempted too; a struct io_uring *. */
void attempts_set_ring(void *ring);
