// SPDX-License-Identifier: Apache-2.0
/* What the engines give to engine.c, and to nobody else. */
#pragma once

#include "vmm/engine/engine.h"

extern const struct engine_ops soft_engine_ops, kvm_engine_ops;

/* Whether `kvm`, an open /dev/kvm or -1, runs guest kernels in hardware; takes under 50 ms. `why`
 * gets one static phrase, either way. */
bool kvm_probe(int kvm, const char **why);
