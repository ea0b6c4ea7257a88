// SPDX-License-Identifier: Apache-2.0
/*
 * The sandboxed half of an export: writes a package of files that it is given to descriptors that
 * it is given.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/block/vmdk.h"

struct pack;

/* What is packed, as an object: "yaml", the definition; "name", the machine's; "base", what names
 * of files begin with; "parts", a list of objects with "option", "index" (of the entry) and "href";
 * "archive", whether all goes into one file. NULL and an error. */
struct pack *pack_create(const json_t *request, GError **error);
/* NULL is fine. */
void pack_destroy(struct pack *pack);

/* Where the bytes of part `index` are. Taken. */
void pack_give_part(struct pack *pack, unsigned index, int fd);
/* Where the package goes: the archive (0); or the descriptor (0), the manifest (1) and the parts
 * (from 2 on). Taken. */
void pack_give_out(struct pack *pack, unsigned index, int fd);

/* Write it, and see it on the disk. The total of what `progress` tells is *total, which is set
 * before. A list of lines: what is not carried over, or only for Anima. NULL and an error. */
json_t *pack_write(struct pack *pack, uint64_t *total, const struct vmdk_progress *progress,
                   GError **error);
