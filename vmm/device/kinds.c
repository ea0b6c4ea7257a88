// SPDX-License-Identifier: Apache-2.0
/*
 * Every kind of device, in one visible list: the contract suite, the fuzzer and the committed
 * schema of state walk it.
 */
#include "vmm/device/device.h"
#include "vmm/device/pci/host_bridge.h"

const struct device_ops *const device_kinds[] = {
    &host_bridge_ops,
    NULL,
};
