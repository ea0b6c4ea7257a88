// SPDX-License-Identifier: Apache-2.0
/*
 * What writer and reader of streams share: heads and checksum.
 */
#pragma once

#include "vmm/state/stream.h"

#define STREAM_MAGIC         "ANIMA\r\n\x1a"
#define STREAM_SECTION_MAGIC 0x54434553U /* "SECT" */
#define STREAM_DEFINITION    "definition"
#define STREAM_END           "end"
#define STREAM_FLAGS_KNOWN   (STREAM_OPTIONAL | STREAM_STATE)

struct stream_head {
    char magic[8];
    uint32_t version;
    uint32_t reserved; /* 0 */
};

struct stream_section_head {
    uint32_t magic;
    uint16_t name_length;
    uint16_t flags;
    uint32_t version;
    uint32_t reserved; /* 0 */
    uint64_t length;
    uint64_t checksum;
};

/* The checksum that `head` should have; its own field does not count. */
uint64_t stream_checksum(const struct stream_section_head *head, const char *name,
                         const void *content);
