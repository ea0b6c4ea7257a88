// SPDX-License-Identifier: Apache-2.0
/*
 * Every kind of device, in one visible list: the contract suite, the fuzzer and the committed
 * schema of state walk it.
 */
#include "vmm/device/device.h"
#include "vmm/device/legacy/acpi_pm.h"
#include "vmm/device/legacy/debug_console.h"
#include "vmm/device/legacy/debug_exit.h"
#include "vmm/device/legacy/fw_cfg.h"
#include "vmm/device/legacy/hpet.h"
#include "vmm/device/legacy/i8042.h"
#include "vmm/device/legacy/ioapic.h"
#include "vmm/device/legacy/pc_testdev.h"
#include "vmm/device/legacy/pic.h"
#include "vmm/device/legacy/pit.h"
#include "vmm/device/legacy/pvpanic.h"
#include "vmm/device/legacy/rtc.h"
#include "vmm/device/legacy/uart16550.h"
#include "vmm/device/pci/host_bridge.h"
#include "vmm/device/pci/lpc.h"
#include "vmm/device/pci/root_port.h"
#include "vmm/device/virtio/virtio_blk.h"
#include "vmm/device/virtio/virtio_console.h"
#include "vmm/device/virtio/virtio_net.h"
#include "vmm/device/virtio/virtio_rng.h"

/* clang-format off */
const struct device_ops *const device_kinds[] = {
    &pic_device,
    &ioapic_device,
    &hpet_device,
    &pit_device,
    &rtc_device,
    &uart16550_device,
    &acpi_pm_device,
    &i8042_device,
    &pvpanic_device,
    &debug_exit_device,
    &debug_console_device,
    &pc_testdev_device,
    &fw_cfg_device,
    &host_bridge_device,
    &lpc_device,
    &root_port_device,
    &virtio_net_device,
    &virtio_blk_device,
    &virtio_rng_device,
    &virtio_console_device,
    NULL,
};
/* clang-format on */
