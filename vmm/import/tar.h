// SPDX-License-Identifier: Apache-2.0
/*
 * Packages as one file (OVA): a tar archive of plain files (DSP0243, "Distribution as a Single
 * File"), read and written by libarchive.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define TAR_BLOCK 512U

/* A file of a package. */
struct member {
    char *name; /* without folders */
    int fd;     /* whose bytes `at` to `at` + `size` it is; not owned */
    uint64_t at, size;
};

void member_free(struct member *member);

/* The members of the archive in `fd`, a file of `size` bytes, in their order. Each is a plain file
 * with a name of its own that leads to no folder, and lies in one piece; whatever else there is
 * makes the archive refused: NULL and an error (VMM_ERROR). Free with g_ptr_array_unref. */
GPtrArray *tar_list(int fd, uint64_t size, GError **error);

/* Make the header of a member. The name has up to 100 bytes. */
bool tar_header(const char *name, uint64_t size, uint8_t block[TAR_BLOCK], GError **error);
