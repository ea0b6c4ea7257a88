// SPDX-License-Identifier: Apache-2.0
/*
 * The tables behind cpu_model.h: models and names of features, and what its two halves share. Only
 * cpu_model.c, cpu_adopt.c and tests include this.
 */
#pragma once

#include "vmm/engine/cpu_model.h"

/* One version of one model. It has exactly the features of `required` and, of `optional` and
 * cpu_system_features, those that the engine gives. */
struct cpu_model {
    const char *name;
    unsigned version;
    int vendor;            /* enum cpu_vendor, or -1: the host's */
    uint32_t signature[2]; /* by enum cpu_vendor */
    const char *brand;
    uint8_t physical_bits;
    uint32_t required[CPU_WORDS];
    uint32_t optional[CPU_WORDS];
};

/* In the order in which people shall see them; of one name the newest version first. */
extern const struct cpu_model cpu_models[];
extern const unsigned cpu_models_count;

/* What every model has where the engine gives it: what kernels use beside the user's instructions,
 * random numbers, and what is known about speculation. */
extern const uint32_t cpu_system_features[CPU_WORDS];

/* Names as /proc/cpuinfo of Linux has them where it has one; NULL for bits without a name. */
extern const char *const cpu_feature_names[CPU_WORDS][32];

/* ---- cpu_model.c ---- */

/* What follows from vendor and features, and from the machine: bits that mirror others, XCR0. */
void cpu_model_settle(struct cpu_definition *out, unsigned cpus, uint64_t tsc_khz);
/* Names of the features in `words`, separated by ", ". The caller frees it. */
char *cpu_feature_list(const uint32_t words[CPU_WORDS]);
uint8_t cpu_host_physical_bits(void);
