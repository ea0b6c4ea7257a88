// SPDX-License-Identifier: Apache-2.0
/*
 * RAM in streams: chunks of up to STREAM_RAM_PAGES pages, pages of zeros left out. RAM that was
 * never written is neither read nor allocated on either side.
 */
#pragma once

#include "vmm/memory/memory.h"
#include "vmm/state/stream.h"

/* Write all ranges, RAM and ROM. vCPUs parked, no DMA mapped. */
bool ram_stream_write(struct memory *memory, struct stream_writer *writer, GError **error);

/* Load one "ram" section into memory that memory_clear has emptied. */
bool ram_stream_load(struct memory *memory, const struct stream_section *section, GError **error);
