// SPDX-License-Identifier: Apache-2.0
/*
 * A port by which a guest tells that it crashed.
 */
#pragma once

#include "vmm/device/device.h"

struct pvpanic_config {
    uint16_t port;
};

extern const struct device_ops pvpanic_device;
