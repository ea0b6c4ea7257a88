// SPDX-License-Identifier: Apache-2.0
/* The quark of the VMM's error domain. */
#include "vmm/util/fault.h"

G_DEFINE_QUARK(anima - vmm - error, vmm_error)
