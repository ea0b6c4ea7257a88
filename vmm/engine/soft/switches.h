// SPDX-License-Identifier: Apache-2.0
/*
 * Switches for debugging the engine, from the environment: ANIMA_SOFT is a comma-separated list,
 * ANIMA_SOFT_LOG the name of a file for the disassembly of translated blocks. docs/translator.md
 * describes them.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

struct soft_switches {
    bool interp;    /* interpret everything */
    bool nochain;   /* translated blocks end at the dispatcher */
    bool nowindows; /* the soft form of memory access only */
    bool noclones;  /* each translation is made anew */
    bool nobmi2;    /* the host has no BMI2 */
    bool noavx;     /* the host has no AVX */
    bool exact;     /* flags are whole at each fault, even those that are dead */
    bool eager;     /* translate a block when it is first met */
    bool perf;      /* write /tmp/perf-PID.map */
    int log;        /* descriptor of the disassembly log, or -1; its owner's */
    int perf_map;   /* descriptor of that map, or -1; its owner's */
};

/* Parse `text` (NULL: nothing); there are no descriptors then. False and `error` on a word that is
 * none. */
bool soft_switches_parse(const char *text, struct soft_switches *switches, GError **error);
