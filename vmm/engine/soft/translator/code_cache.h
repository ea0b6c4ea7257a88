// SPDX-License-Identifier: Apache-2.0
/*
 * Memory for translated code: one memfd mapped twice, writable here and executable there, so that
 * no address is ever both (W^X). Bounded; what lives in it is emptied as a whole.
 */
#pragma once

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

struct code_cache {
    uint8_t *write;   /* the writable view */
    intptr_t execute; /* to be added for the executable one */
    size_t size;
};

/* Map `size` bytes (a multiple of the page). Memory is taken as it is used. False when the host
 * refuses; `error` says what. Works inside the vmm's sandbox. */
bool code_cache_init(struct code_cache *cache, size_t size, GError **error);
void code_cache_fini(struct code_cache *cache);

/* Give the memory back to the host; the addresses stay. Nothing executes there. */
void code_cache_empty(struct code_cache *cache);
