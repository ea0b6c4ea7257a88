// SPDX-License-Identifier: Apache-2.0
/*
 * The host's side of windows of user address spaces: which slots of the host mirror which of the
 * guest's, and which pages are shown there with what rights. It decides nothing: user_window.c
 * does, and holds the lock of the engine's windows around every call.
 *
 * A space is what one vCPU shows of one address space. Its pages are kept by leaves: the 2 MB under
 * one entry of a page directory, with the page-table entries as they were when the pages were
 * shown. So after a flush it takes a comparison of tables to know what has changed.
 */
#pragma once

#include "vmm/engine/soft/translator/window_map.h"
#include "vmm/engine/soft/walk.h"

#define LEAF_SHIFT       21
#define LEAF_SIZE        (1UL << LEAF_SHIFT)
#define LEAF_PAGES       512
#define LEAF_BUCKETS     64
#define HUGE_SHIFT       30    /* of pages that are many leaves */
#define USER_SPACE_SLOTS 8     /* of the guest that a space shows */
#define USER_LEAVES      8192U /* of an engine */
#define USER_PIECES      24000 /* of the host's 65,530 mappings of a process; see WINDOW_PIECES */
#define USER_NO_ROOT     UINT64_MAX

struct user_leaf {
    struct user_leaf *next_hash, *previous, *next; /* `next` of a free one too */
    uint64_t linear;
    uint64_t physical;     /* of a large one */
    struct soft_path path; /* of a small one without the last entry */
    bool large;            /* one page of the guest of 2 MB or more */
    bool large_writable;
    unsigned pieces;           /* mappings of the host, at most */
    unsigned protected_pieces; /* of these: those that single pages of a large one add */
    uint64_t shown[LEAF_PAGES / 64], writable[LEAF_PAGES / 64]; /* pages of a small one */
    uint64_t entries[LEAF_PAGES];                               /* of those that are shown */
};

struct user_slot {
    uint16_t guest, host;
};

struct user_space {
    uint64_t root; /* of its page tables; USER_NO_ROOT: there is none */
    unsigned slot_count;
    struct user_slot slots[USER_SPACE_SLOTS];
    struct user_leaf *leaves; /* all of them */
    struct user_leaf *bucket[LEAF_BUCKETS];
    unsigned pages; /* that are shown; a large one counts as one */
    unsigned huge;  /* leaves that are part of a page of 1 GB */
    /* user_window.c: */
    uint64_t used;    /* when it was attached last */
    uint64_t flushes; /* how many flushes there had been when it was valid */
    uint64_t paging;  /* how its tables are read */
    unsigned pcid;
    int credit; /* faults that it may take before it costs more than it is worth */
};

/* What the spaces of an engine share. */
struct user_host {
    struct memory *memory;
    uint8_t slots[WINDOW_SLOTS]; /* enum in user_space.c */
    int nothing;                 /* a slot where nothing is ever shown */
    unsigned pieces;
    struct user_leaf *pool, *free;
    unsigned used;     /* of the pool */
    uint8_t *writable; /* by guest page: how often it is shown writable; USER_PAGES of them */
};

/* False when there is no memory or no address space. */
bool user_host_init(struct user_host *host, struct memory *memory);
void user_host_fini(struct user_host *host);

/* The delta for a slot of the guest's lower half with which each access faults. */
static inline uint64_t user_host_nowhere(const struct user_host *host, unsigned slot)
{
    return ((uint64_t)host->nothing - slot) << WINDOW_SLOT_SHIFT;
}

/* Whether another leaf with pages of any kind stays within bounds. */
bool user_host_has_room(const struct user_host *host);

void user_space_init(struct user_space *space, uint64_t root);
/* Hide everything and give its slots back. */
void user_space_fini(struct user_host *host, struct user_space *space);

/* The place of a guest's slot, made if need be; NULL when there is none. */
const struct user_slot *user_space_slot(struct user_host *host, struct user_space *space,
                                        unsigned guest);

static inline uint64_t user_slot_delta(const struct user_slot *slot)
{
    return ((uint64_t)slot->host - slot->guest) << WINDOW_SLOT_SHIFT;
}

struct user_leaf *user_space_find(struct user_space *space, uint64_t linear);

/* A leaf for the 2 MB around `linear`, which has none and whose slot has a place. NULL when there
 * are too many. */
struct user_leaf *user_space_add(struct user_host *host, struct user_space *space, uint64_t linear,
                                 const struct soft_path *path);
/* Hide what the leaf shows, and forget it. */
void user_space_drop(struct user_host *host, struct user_space *space, struct user_leaf *leaf);

/* Show `count` pages of a small leaf from the one with `index` on, whose entries (and guest pages)
 * follow each other, the first with `entry`. False when the host refuses; they are hidden then. */
bool user_leaf_show(struct user_host *host, struct user_space *space, struct user_leaf *leaf,
                    unsigned index, unsigned count, uint64_t entry, uint64_t physical,
                    bool writable);
/* Hide those of the leaf's pages that `mask` names. */
void user_leaf_hide(struct user_host *host, struct user_space *space, struct user_leaf *leaf,
                    const uint64_t mask[LEAF_PAGES / 64]);
/* Show a large leaf as a whole. False when the host refuses; the leaf is to be dropped then. */
bool user_leaf_show_large(struct user_host *host, struct user_space *space, struct user_leaf *leaf,
                          uint64_t physical, bool writable);
/* Show one page of a large one again, which memory.h lets be written now. */
bool user_leaf_unprotect(struct user_host *host, struct user_space *space, struct user_leaf *leaf,
                         uint64_t linear);

/* Take write access to a guest-physical page away, or hide what is shown of guest-physical
 * memory. */
void user_space_protect(struct user_host *host, struct user_space *space, uint64_t page);
void user_space_cut_physical(struct user_host *host, struct user_space *space, uint64_t physical,
                             uint64_t size);
/* Whether the page is shown writable in any space, or may be. */
bool user_host_shows_writable(const struct user_host *host, uint64_t page);
