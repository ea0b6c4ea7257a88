// SPDX-License-Identifier: Apache-2.0
/*
 * A port that prints what is written to it: what firmware and test kernels use before anything else
 * works.
 */
#pragma once

#include "vmm/device/device.h"
#include "vmm/util/chardev.h"

struct debug_console_config {
    uint16_t port;
    struct chardev *chardev; /* borrowed; NULL: output vanishes */
};

extern const struct device_ops debug_console_device;
