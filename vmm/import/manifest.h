// SPDX-License-Identifier: Apache-2.0
/*
 * Manifests of packages (DSP0243, "Manifest file"): a line "SHA256(NAME)= DIGEST" for each file.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "vmm/import/tar.h"

#define MANIFEST_MAX (1U << 20) /* bytes */

struct digest {
    GChecksumType type;
    char *text; /* hexadecimal, small letters */
};

/* What the manifest says, by name; g_hash_table_unref frees it. NULL and an error for what is no
 * manifest, or has digests that are unknown here. */
GHashTable *manifest_read(const char *text, size_t size, GError **error);

/* Whether the member has the digest. */
bool manifest_check(const struct member *member, const struct digest *digest, GError **error);

/* A line of a manifest, with SHA-256. */
char *manifest_line(const char *name, GChecksum *sum);
