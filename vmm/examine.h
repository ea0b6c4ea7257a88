// SPDX-License-Identifier: Apache-2.0
/* What this program finds of the host that only trying tells. */
#pragma once

/* The role's main: prints one JSON object, for libanima's anima_doctor: "kvm" ("usable", "why"),
 * "io" (what machines wait with), "userfaultfd", "sandbox" ("namespaces", "missing", "landlock",
 * "seccomp", or "error"). Returns the program's exit status. */
int examine_main(void);
