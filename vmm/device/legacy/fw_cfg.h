// SPDX-License-Identifier: Apache-2.0
/*
 * The firmware configuration device: named blobs that the machine hands to firmware and kernel.
 *
 * An item is found by a 16-bit key or, for files, by name in the directory item. Contents are the
 * machine's configuration, not the device's state: the same machine is made with the same items.
 */
#pragma once

#include "vmm/device/device.h"

#define FW_CFG_NAME_MAX  55 /* bytes of a file's name */
#define FW_CFG_FILES_MAX 128

/* Keys that firmware knows. */
enum fw_cfg_key {
    FW_CFG_SIGNATURE = 0x00,
    FW_CFG_ID = 0x01,
    FW_CFG_RAM_SIZE = 0x03, /* 8 bytes */
    FW_CFG_CPUS = 0x05,     /* 2 bytes */
    FW_CFG_MAX_CPUS = 0x0F, /* 2 bytes */
    FW_CFG_DIRECTORY = 0x19,
    FW_CFG_FIRST_FILE = 0x20,
};

struct fw_cfg_config {
    uint16_t port; /* selector; data follows it, DMA is at port + 4 */
};

extern const struct device_ops fw_cfg_device;

/* Add an item by key, below FW_CFG_FIRST_FILE; its bytes are little-endian as firmware expects
 * them. Before the machine runs. A reference to `content` is kept. */
void fw_cfg_add(struct device *device, enum fw_cfg_key key, GBytes *content);

/* Add a file. False with `error` when there are too many, or the name is too long or taken. */
bool fw_cfg_add_file(struct device *device, const char *name, GBytes *content, GError **error);
