// SPDX-License-Identifier: Apache-2.0
/*
 * Memory for translated code: shared pages mapped twice, writable here and executable there, so
 * that no address is ever both (W^X). Bounded; what lives in it is emptied as a whole.
 *
 * A sandbox forbids to make memory executable, so the caches of all vCPUs are mapped before it
 * closes, and are handed out and taken back afterwards. They take address space only until they are
 * used.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct code_cache {
    uint8_t *write;   /* the writable view */
    intptr_t execute; /* to be added for the executable one */
    size_t size;
};

/* The size of each cache, whole pages, when there are `cpus` of them: together they are bounded. */
size_t code_cache_share(unsigned cpus);

/* Map the caches of `cpus` vCPUs ahead; from now on this process maps no others. Where the host
 * refuses, the log says so, once, and there are none. */
void code_cache_prepare(unsigned cpus);

/* A cache of `size` bytes (a multiple of the page), all zero. Memory is taken as it is used. False
 * when the host refuses, or none is left that was mapped ahead; `error` says what. */
bool code_cache_init(struct code_cache *cache, size_t size, GError **error);
/* Nothing executes there any more. One that has no memory (all zero) is fine. */
void code_cache_fini(struct code_cache *cache);

/* Give the memory back to the host; the addresses stay. Nothing executes there. */
void code_cache_empty(struct code_cache *cache);

/* What was written came from `from` up to `to` (of the writable view): let what it has filled lie
 * in huge pages, where the host can do that, since code of a large program takes more small ones
 * than processors remember. */
void code_cache_settle(struct code_cache *cache, const uint8_t *from, const uint8_t *to);
