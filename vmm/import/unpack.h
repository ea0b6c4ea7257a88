// SPDX-License-Identifier: Apache-2.0
/*
 * The sandboxed half of an import: reads a package and writes a machine's files to descriptors that
 * it is given.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/block/vmdk.h"

struct unpack;

struct unpack *unpack_create(void);
/* NULL is fine. */
void unpack_destroy(struct unpack *unpack);

/* What is known before anything is read. */
struct unpack_request {
    int package;            /* a file: an archive, or a descriptor */
    int manifest;           /* of a descriptor that is no archive; -1: it has none */
    const char *descriptor; /* the name of the file `package` */
    const char *name;       /* that the machine gets; NULL: its own */
    bool keep_macs;
};

/* Read the package; takes both descriptors. An object: "yaml", the definition; "lost", lines;
 * "files", a list of objects with "kind" (disk, blank, plain), "path" in the machine's folder, and
 * unless it is blank "href", the member. NULL and an error. */
json_t *unpack_read(struct unpack *unpack, const struct unpack_request *request, GError **error);

/* Where file `index` goes, and where its bytes are when the package is no archive (else -1). Takes
 * both. */
void unpack_give(struct unpack *unpack, unsigned index, int target, int source);

/* Write all files, and see them on the disk. Not more than `room` bytes. The total of what
 * `progress` tells is *total, which is set before. */
bool unpack_copy(struct unpack *unpack, uint64_t room, uint64_t *total,
                 const struct vmdk_progress *progress, GError **error);
