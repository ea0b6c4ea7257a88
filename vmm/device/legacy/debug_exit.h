// SPDX-License-Identifier: Apache-2.0
/*
 * A port by which a test kernel ends the VMM: a write of `value` exits with (value << 1) | 1.
 */
#pragma once

#include "vmm/device/device.h"

struct debug_exit_config {
    uint16_t port;
};

extern const struct device_ops debug_exit_device;
