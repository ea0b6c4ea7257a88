// SPDX-License-Identifier: Apache-2.0
/*
 * What disks and network cards have in common: an id, by which commands name them, and a place on
 * the PCI bus. Both are unique in a machine.
 *
 * A place is written as PCI's tools do, BUS:DEVICE.FUNCTION in hexadecimal. On bus 0 lie the
 * devices that a machine has for life; behind each root port lies a bus with one device, which can
 * come and go while the machine runs.
 */
#pragma once

#include "config/definition.h"
#include "config/limits.h"

struct device_address {
    uint8_t bus;    /* 0, or the number of a root port from 1 on */
    uint8_t device; /* on bus 0: CONFIG_PCI_FIRST to CONFIG_PCI_LAST; else 0 */
};

/* Where an entry of a definition stands. */
struct device_place {
    enum option_id kind; /* OPTION_DISK, OPTION_NIC */
    unsigned index;
};

/* The device called `id`; false: there is none. */
bool definition_find_device(const struct definition *definition, const char *id,
                            struct device_place *place);

/* The id and the address of a device that has them. */
const char *definition_device_id(const struct definition *definition, enum option_id kind,
                                 unsigned index);
struct device_address definition_device_address(const struct definition *definition,
                                                enum option_id kind, unsigned index);

/* Give each disk and card without an id the first of disk0, disk1, ... (nic0, ...) that is free,
 * and each without an address a free place on bus 0: network cards first, then disks, as ever.
 * Places are kept free for the console and for virtio-rng, which have none of their own. USAGE when
 * there is no place left. */
bool definition_fill_devices(struct definition *definition, GError **error);

/* The kind called `kind` ("disk", "nic"); false: there is none of that name. */
bool device_kind_find(const char *kind, enum option_id *id, GError **error);

/* Add the device that the JSON object `entry` describes, for a machine that runs: with an id, and
 * with a place behind the first free root port unless it names one; its place in the definition
 * goes to `place`. What devices of `others` (or NULL) have is not chosen. On failure (USAGE: its
 * words are wrong, or do not fit the rest; STATE: all root ports are taken) the definition is as
 * before. */
bool definition_attach(struct definition *definition, const char *kind, json_t *entry,
                       const struct definition *others, struct device_place *place, GError **error);

/* Where the device called `id` stands, which is behind a root port; else an error: ABSENT, or STATE
 * when it cannot go. */
bool definition_find_detachable(const struct definition *definition, const char *id,
                                struct device_place *place, GError **error);

/* Give ids alone, to devices of one kind. */
bool definition_fill_ids(struct definition *definition, enum option_id kind, GError **error);

/* The `number`th place on bus 0 (from 0) that no disk or card has; 0 when there is none. */
uint8_t definition_free_place(const struct definition *definition, unsigned number);

/* A root port with nothing behind it, from 1 on; 0 when all are taken. */
uint8_t definition_free_port(const struct definition *definition);

/* Whether ids and addresses are unique; the message names the option. For definition_check. */
bool definition_check_devices(const struct definition *definition, GError **error);

/* The text of an address; the caller frees it. */
char *device_address_format(const struct device_address *address);

/* Checks of members, for the table of options. */
bool device_check_id(const char *text, GError **error);
bool device_check_address(const char *text, GError **error);
