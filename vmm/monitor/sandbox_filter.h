// SPDX-License-Identifier: Apache-2.0
/* The filter of system calls. Private to the sandbox. */
#pragma once

#include <stdbool.h>

#include "vmm/monitor/sandbox.h"

/* Load the role's filter for all threads of the process, now and later; a vmm's threads add that of
 * their kind as they begin. Returns 0 or an errno. */
int sandbox_filter_load(enum sandbox_role role, bool kvm);

/* What is done with a signal SIGSYS from here on: tests take the place of this. Returns 0 or an
 * errno. */
int sandbox_watch_violations(void);
