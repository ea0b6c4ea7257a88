// SPDX-License-Identifier: Apache-2.0
/* The choice of --engine auto. */
#pragma once

#include <stdbool.h>

/* Whether /dev/kvm is there and runs guest kernels in hardware; takes under 50 ms. `why` gets one
 * static phrase, either way. */
bool kvm_probe(const char **why);
