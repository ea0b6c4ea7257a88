// SPDX-License-Identifier: Apache-2.0
/*
 * The descriptors that came with "start", sorted by what they are for, and the character devices
 * made of some of them.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "config/definition.h"
#include "config/devices.h"
#include "config/limits.h"
#include "config/lines.h"
#include "vmm/machine/machine.h"
#include "vmm/net/link.h"
#include "vmm/state/stream.h"

/* Character devices: the lines, the debug console, and the agent's port. */
#define ATTACHMENTS_CHARDEVS (LINES_MAX + 2)

struct attachments {
    int kernel, initrd, gdb, kvm; /* -1: none */
    int incoming;                 /* the stream of a machine to go on from */
    int ram;                      /* of a machine whose place is taken */
    int soft_log, perf_map;       /* for those who debug the engine */
    int modules[MACHINE_MODULES_MAX];
    unsigned module_count;
    /* By disk, as the definition has them. */
    int disk_fds[CONFIG_DISKS_MAX]; /* -1 once the block node has it */
    struct block *disks[CONFIG_DISKS_MAX];
    /* As definition_lines lists them. */
    int line_fds[LINES_MAX]; /* -1 once the character device has it */
    struct chardev *lines[LINES_MAX];
    unsigned line_count;
    struct chardev *debug_console;
    int agent_fd; /* of our own client of the guest's agent; -1 once the character device has it */
    struct chardev *agent;
    /* By card, as the definition has them. */
    int nic_fds[CONFIG_NICS_MAX];            /* -1 once the link has it, and without a cable */
    struct net_link *links[CONFIG_NICS_MAX]; /* NULL: no cable */
};

/* Nothing is there. */
void attachments_init(struct attachments *attachments);

/* Take all `fds`, whose uses the JSON list `names` tells. False when they do not fit together or
 * do not fit `definition`. */
bool attachments_take(struct attachments *attachments, const struct definition *definition,
                      const json_t *names, int *fds, unsigned count, GError **error);

/* Make the character devices; starts their threads. Where the place of another vmm is taken, they
 * stand still until attachments_resume_lines. */
bool attachments_open_lines(struct attachments *attachments, const struct definition *definition,
                            GError **error);

/* Make a block node or a link of the descriptors (one, or none for a card without a cable) that
 * come along for the device at `place`, the last of its kind in `definition`; takes them. On
 * failure attachments_remove is due. */
bool attachments_add(struct attachments *attachments, const struct definition *definition,
                     const struct device_place *place, int *fds, unsigned count, struct loop *loop,
                     GError **error);
/* Destroy it; those behind it move up. */
void attachments_remove(struct attachments *attachments, enum option_id kind, unsigned index);

/* Make the block nodes, on `loop`, which outlives them. Where the place of another vmm is taken,
 * they are activated by attachments_activate_disks, once that one has let go. */
bool attachments_open_disks(struct attachments *attachments, const struct definition *definition,
                            struct loop *loop, GError **error);
bool attachments_activate_disks(struct attachments *attachments, GError **error);
/* Let go of them: what they hold in memory is in their files then. The machine stands. */
bool attachments_deactivate_disks(struct attachments *attachments, GError **error);

/* The rate limits of disk `index` of the definition. */
struct block_limits attachments_disk_limits(const struct definition *definition, unsigned index);

/* Make the links that network cards are plugged into. */
bool attachments_open_links(struct attachments *attachments, const struct definition *definition,
                            GError **error);

/* A link of `fd`, which is taken over, to the network of card `card`. NULL and `error` when it
 * cannot be one. */
struct net_link *attachments_link(const struct definition *definition, unsigned card, int fd,
                                  GError **error);

/* ---- going to another process, and coming from one ---- */

/* All character devices stand still, or move again. */
void attachments_suspend_lines(struct attachments *attachments);
void attachments_resume_lines(struct attachments *attachments);

/* Connections of clients that character devices accepted: into `fds`, which stay theirs, with the
 * numbers of their devices as a JSON list; and the other way round, where each that is taken is set
 * to -1. While they stand still. */
json_t *attachments_clients(const struct attachments *attachments, int fds[ATTACHMENTS_CHARDEVS],
                            unsigned *count);
bool attachments_adopt_clients(struct attachments *attachments, const json_t *numbers, int *fds,
                               unsigned count, GError **error);

/* Output that has not left: a section "line/N" each in a machine's stream. For struct
 * machine_stream_extra; `attachments` is a struct attachments. */
bool attachments_save_lines(void *attachments, struct stream_writer *writer, GError **error);
enum stream_verdict attachments_load_line(void *attachments, const struct stream_section *section,
                                          GError **error);

/* Close everything. */
void attachments_finish(struct attachments *attachments);
