// SPDX-License-Identifier: Apache-2.0
/*
 * The files of a machine: every descriptor that the vmm gets, opened by the monitor from the
 * definition and handed over under a name. They stay open here while the machine lives: another vmm
 * may take its place.
 */
#pragma once

#include <glib.h>
#include <jansson.h>

#include "config/definition.h"
#include "vmm/monitor/nics.h"

struct files;

/* Open all that `definition` names. `stdio_fd` (or -1) is the caller's end of the line on stdio and
 * is duplicated. Files for output and sockets are made only after all that is read could be opened.
 * NULL and CONFIG_ERROR on failure; then nothing that was made is left. */
struct files *files_open(const struct definition *definition, int stdio_fd, GError **error);

/* Close everything, remove the sockets that files_open made, and free. NULL is fine. */
void files_destroy(struct files *files);

/* Descriptors and, as a new JSON list in the same order, what each is for: "kernel", "initrd",
 * "state", "module" and "line" (once each, in the definition's order), "device/ID" (of a disk or a
 * network card), "gdb", "kvm", "soft-log", "perf-map". */
const int *files_fds(const struct files *files, unsigned *count);
json_t *files_names(const struct files *files);
/* The name of the descriptor at `index`; static. */
const char *files_name(const struct files *files, unsigned index);

/* The end of a network card's socket pair that its NAT helper has, by the card's id; the files'.
 * -1: none. */
int files_nat_end(const struct files *files, const char *nic);

/* Open what disk or card `index` of `definition`, which has an id, leads to. On failure nothing is
 * left once files_remove_device was called. */
bool files_add_disk(struct files *files, const struct definition *definition, unsigned index,
                    GError **error);
bool files_add_nic(struct files *files, const struct definition *definition, unsigned index,
                   GError **error);
/* The vmm's descriptor of a device, by its id; the files'. -1: it has none. */
int files_device(const struct files *files, const char *id);
/* Close what belongs to the device called `id`, if there is anything. */
void files_remove_device(struct files *files, const char *id);

/* Keep a place for one more descriptor, until it is released; false and an error when there is
 * none. Without `reserved` nothing is released. */
bool files_reserve_room(struct files *files, GError **error);
void files_release_room(struct files *files, bool reserved);
/* Put another cable, which is taken over, in the place of a network card's; the former is closed.
 * A place was reserved for it. */
void files_replug(struct files *files, const char *nic, const struct nic_cable *cable);

/* Open what engine kvm needs, if it is not there yet. */
bool files_add_kvm(struct files *files, GError **error);

/* Open the map of code in which perf(1) looks for process `pid`, in the place of an earlier one, if
 * ANIMA_SOFT asks for one. It outlives us: perf reads it later. */
bool files_add_perf_map(struct files *files, pid_t pid, GError **error);

/* The pseudo-terminals that were made for lines, as a new JSON object: the line ("serial",
 * "port NAME"), and the name of the file under which a client finds it. */
json_t *files_ptys(const struct files *files);
