// SPDX-License-Identifier: Apache-2.0
/* The system calls of each role. Private to the sandbox. */
#pragma once

#include <stdbool.h>

#include "vmm/monitor/sandbox.h"

/* Load the role's filter for all threads of the process, now and later. Returns 0 or an errno. */
int sandbox_filter_load(enum sandbox_role role, bool kvm);
