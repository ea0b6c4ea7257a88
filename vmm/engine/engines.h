// SPDX-License-Identifier: Apache-2.0
/* The engines' tables of operations, for engine.c alone. */
#pragma once

#include "vmm/engine/engine.h"

extern const struct engine_ops soft_engine_ops, kvm_engine_ops;
