// SPDX-License-Identifier: Apache-2.0
/*
 * Every kind of device, in one visible list: the contract suite, the fuzzer and the committed
 * schema of state walk it.
 */
#include "vmm/device/device.h"
#include "vmm/device/legacy/acpi_pm.h"
#include "vmm/device/legacy/hpet.h"
#include "vmm/device/legacy/ioapic.h"
#include "vmm/device/legacy/pic.h"
#include "vmm/device/legacy/pit.h"
#include "vmm/device/legacy/rtc.h"
#include "vmm/device/legacy/uart16550.h"
#include "vmm/device/pci/host_bridge.h"
#include "vmm/device/pci/lpc.h"
#include "vmm/device/pci/root_port.h"

const struct device_ops *const device_kinds[] = {
    // clang-format off
    &pic_device,
    &ioapic_device,
    &hpet_device,
    &pit_device,
    &rtc_device,
    &uart16550_device,
    &acpi_pm_device,
    &host_bridge_device,
    &lpc_device,
    &root_port_device,
    NULL,
    // clang-format on
};
