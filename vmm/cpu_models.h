// SPDX-License-Identifier: Apache-2.0
/* The role that tells which CPU models there are, and which version of each is today's. */
#pragma once

/* The role's main: an object on standard output, which has for each engine that this host has, and
 * for "auto", names of models and their versions: {"soft": {"default": "x86-64-v4-1", ...}, ...}.
 * "auto" is what both the engine that is taken here and the software CPU can do. Returns the
 * program's exit status. */
int cpu_models_main(void);
