// SPDX-License-Identifier: Apache-2.0
/*
 * Virtio console device: a console (hvc0 in a Linux guest) and named ports, by which programs of
 * the guest and of the host talk (/dev/virtio-ports/NAME there).
 */
#pragma once

#include "vmm/device/pci/pci.h"
#include "vmm/util/chardev.h"

#define VIRTIO_CONSOLE_PORTS 31 /* number 0 is the console or not there, the others have names */

/* Not named _config: that is the registers' name in <linux/virtio_console.h>. */
struct virtio_console_setup {
    struct pci_address address;
    struct virtio_console_port {
        bool present;
        const char *name; /* copied; NULL for the console */
        struct chardev
            *chardev; /* NULL: nobody will ever be at the other end; stays the caller's */
    } ports[VIRTIO_CONSOLE_PORTS];
};

extern const struct device_ops virtio_console_device;
