// SPDX-License-Identifier: Apache-2.0
/*
 * Windows of user address spaces, as mappings of the host. See user_space.h.
 *
 * How many mappings a leaf takes at most follows from which of its pages are shown: one for each,
 * and one for each gap. The sum is kept below a bound, so that the process as a whole stays below
 * the host's.
 */
#include "vmm/engine/soft/translator/user_space.h"

#include <string.h>
#include <sys/mman.h>

#include "vmm/util/sparse.h"

#define PAGE_SIZE  0x1000UL
#define PAGE_MASK  (~(PAGE_SIZE - 1))
#define WORDS      (LEAF_PAGES / 64)
#define USER_PAGES (1UL << 28) /* of guest memory whose writable places are counted: 1 TB */
#define OFTEN      UINT8_MAX
#define FRAME      0x000ffffffffff000UL /* of a page-table entry */

/* What a slot of the host is. */
enum slot_state {
    SLOT_UNKNOWN,
    SLOT_TAKEN, /* by others */
    SLOT_GUARD,
    SLOT_IDLE, /* a window, with its guards, that nobody has */
    SLOT_WINDOW,
};

/* ---- slots of the host ---- */

/* Whether the slot is reserved now, as a guard if it was nothing. */
static bool own(struct user_host *host, int slot)
{
    if (slot < 0 || slot >= WINDOW_SLOTS)
        return false;
    if (host->slots[slot] == SLOT_UNKNOWN)
        host->slots[slot] = window_slot_reserve(slot) ? SLOT_GUARD : SLOT_TAKEN;
    return host->slots[slot] == SLOT_GUARD;
}

static bool is_window(const struct user_host *host, int slot)
{
    return host->slots[slot] == SLOT_IDLE || host->slots[slot] == SLOT_WINDOW;
}

/* A guard that has only guards beside it can be a window. */
static bool can_be_window(struct user_host *host, int slot)
{
    return !is_window(host, slot - 1) && !is_window(host, slot + 1) && own(host, slot) &&
           own(host, slot - 1) && own(host, slot + 1);
}

/* A window that nobody has; -1 when there is none. */
static int take_slot(struct user_host *host)
{
    int found = -1;

    for (int i = 0; i < WINDOW_SLOTS && found < 0; i++)
        if (host->slots[i] == SLOT_IDLE)
            found = i;
    for (int i = WINDOW_LAST_SLOT - 1; i > WINDOW_FIRST_SLOT && found < 0; i--)
        if (!is_window(host, i) && can_be_window(host, i))
            found = i;
    if (found >= 0)
        host->slots[found] = SLOT_WINDOW;
    return found;
}

bool user_host_init(struct user_host *host, struct memory *memory)
{
    memset(host, 0, sizeof(*host));
    host->memory = memory;
    host->pool = sparse_create(USER_LEAVES * sizeof(struct user_leaf));
    host->writable = sparse_create(USER_PAGES);
    host->nothing = take_slot(host);
    if (host->pool && host->writable && host->nothing >= 0)
        return true;
    user_host_fini(host);
    return false;
}

void user_host_fini(struct user_host *host)
{
    for (int i = 0; i < WINDOW_SLOTS; i++)
        if (host->slots[i] > SLOT_TAKEN)
            window_slot_release(i);
    sparse_destroy(host->pool, USER_LEAVES * sizeof(struct user_leaf));
    sparse_destroy(host->writable, USER_PAGES);
}

/* ---- spaces ---- */

void user_space_init(struct user_space *space, uint64_t root)
{
    memset(space, 0, sizeof(*space));
    space->root = root;
}

void user_space_fini(struct user_host *host, struct user_space *space)
{
    while (space->leaves)
        user_space_drop(host, space, space->leaves);
    for (unsigned i = 0; i < space->slot_count; i++)
        host->slots[space->slots[i].host] = SLOT_IDLE;
    user_space_init(space, USER_NO_ROOT);
}

static const struct user_slot *find_slot(const struct user_space *space, unsigned guest)
{
    for (unsigned i = 0; i < space->slot_count; i++)
        if (space->slots[i].guest == guest)
            return &space->slots[i];
    return NULL;
}

const struct user_slot *user_space_slot(struct user_host *host, struct user_space *space,
                                        unsigned guest)
{
    const struct user_slot *slot = find_slot(space, guest);
    int taken;

    if (slot || space->slot_count == USER_SPACE_SLOTS)
        return slot;
    taken = take_slot(host);
    if (taken < 0)
        return NULL;
    space->slots[space->slot_count] =
        (struct user_slot){.guest = (uint16_t)guest, .host = (uint16_t)taken};
    return &space->slots[space->slot_count++];
}

static void *host_address(const struct user_space *space, uint64_t linear)
{
    const struct user_slot *slot = find_slot(space, (unsigned)(linear >> WINDOW_SLOT_SHIFT));

    return (void *)(linear + user_slot_delta(slot));
}

/* ---- leaves ---- */

static struct user_leaf **bucket_of(struct user_space *space, uint64_t linear)
{
    uint64_t region = linear >> LEAF_SHIFT;

    return &space->bucket[(region ^ region >> 6) & (LEAF_BUCKETS - 1)];
}

struct user_leaf *user_space_find(struct user_space *space, uint64_t linear)
{
    struct user_leaf *leaf = *bucket_of(space, linear);

    while (leaf && leaf->linear >> LEAF_SHIFT != linear >> LEAF_SHIFT)
        leaf = leaf->next_hash;
    return leaf;
}

static struct user_leaf *take_leaf(struct user_host *host)
{
    struct user_leaf *leaf = host->free;

    if (leaf)
        host->free = leaf->next;
    else if (host->used < USER_LEAVES)
        leaf = &host->pool[host->used++];
    return leaf;
}

bool user_host_has_room(const struct user_host *host)
{
    return host->pieces + LEAF_PAGES <= USER_PIECES && (host->free || host->used < USER_LEAVES);
}

static bool is_huge(const struct user_leaf *leaf)
{
    return leaf->path.translation.shift == HUGE_SHIFT;
}

struct user_leaf *user_space_add(struct user_host *host, struct user_space *space, uint64_t linear,
                                 const struct soft_path *path)
{
    struct user_leaf **bucket = bucket_of(space, linear), *leaf = take_leaf(host);

    if (!leaf)
        return NULL;
    memset(leaf, 0, offsetof(struct user_leaf, entries));
    leaf->linear = linear & ~(LEAF_SIZE - 1);
    leaf->path = *path;
    leaf->large = path->translation.shift > 12;
    leaf->path.count -= leaf->large ? 0 : 1;
    leaf->next_hash = *bucket;
    *bucket = leaf;
    leaf->next = space->leaves;
    if (leaf->next)
        leaf->next->previous = leaf;
    space->leaves = leaf;
    space->huge += is_huge(leaf);
    return leaf;
}

static unsigned count_pages(const uint64_t mask[WORDS])
{
    unsigned count = 0;

    for (unsigned i = 0; i < WORDS; i++)
        count += (unsigned)__builtin_popcountl(mask[i]);
    return count;
}

/* Keep the sum of all leaves' mappings. */
static void set_pieces(struct user_host *host, struct user_leaf *leaf)
{
    unsigned gaps = 2, pieces = 0;

    for (unsigned i = 0; i < WORDS; i++)
        gaps += (unsigned)__builtin_popcountl(leaf->shown[i] & ~(leaf->shown[i] >> 1));
    if (leaf->large)
        pieces = 2 + leaf->protected_pieces;
    else if (gaps > 2)
        pieces = count_pages(leaf->shown) + gaps;
    host->pieces += pieces - leaf->pieces;
    leaf->pieces = pieces;
}

/* ---- which pages are shown writable ---- */

static void count_writable(struct user_host *host, uint64_t physical, bool more)
{
    uint64_t page = physical >> 12;

    if (page >= USER_PAGES)
        return;
    /* What is shown very often stays marked. */
    if (more && host->writable[page] != OFTEN)
        host->writable[page]++;
    else if (!more && host->writable[page] != OFTEN)
        host->writable[page]--;
}

bool user_host_shows_writable(const struct user_host *host, uint64_t page)
{
    return page >> 12 >= USER_PAGES || host->writable[page >> 12];
}

static void count_large(struct user_host *host, const struct user_leaf *leaf, bool more)
{
    for (unsigned i = 0; i < LEAF_PAGES; i++)
        count_writable(host, leaf->physical + i * PAGE_SIZE, more);
}

/* ---- showing and hiding ---- */

static bool bit_of(const uint64_t mask[WORDS], unsigned index)
{
    return mask[index / 64] >> index % 64 & 1;
}

static uint64_t physical_of(const struct user_leaf *leaf, unsigned index)
{
    return leaf->entries[index] & FRAME;
}

/* Forget that a page is shown. */
static void forget_page(struct user_host *host, struct user_space *space, struct user_leaf *leaf,
                        unsigned index)
{
    uint64_t bit = 1UL << index % 64;

    if (leaf->writable[index / 64] & bit)
        count_writable(host, physical_of(leaf, index), false);
    if (leaf->shown[index / 64] & bit)
        space->pages--;
    leaf->shown[index / 64] &= ~bit;
    leaf->writable[index / 64] &= ~bit;
}

/* Where the host refuses, all of the slot goes, which takes no more mappings than before. */
static void hide(void *host, uint64_t size)
{
    void *slot = (void *)((uint64_t)host & ~(WINDOW_SLOT_SIZE - 1));

    if (!window_hide(host, size) && !window_hide(slot, WINDOW_SLOT_SIZE))
        mprotect(slot, WINDOW_SLOT_SIZE, PROT_NONE);
}

void user_leaf_hide(struct user_host *host, struct user_space *space, struct user_leaf *leaf,
                    const uint64_t mask[WORDS])
{
    uint8_t *base = host_address(space, leaf->linear);

    for (unsigned first = 0, end; first < LEAF_PAGES; first = end) {
        bool wanted = bit_of(mask, first);

        for (end = first; end < LEAF_PAGES && bit_of(mask, end) == wanted; end++)
            if (wanted)
                forget_page(host, space, leaf, end);
        if (wanted)
            hide(base + first * PAGE_SIZE, (end - first) * PAGE_SIZE);
    }
    set_pieces(host, leaf);
}

void user_space_drop(struct user_host *host, struct user_space *space, struct user_leaf *leaf)
{
    struct user_leaf **link = bucket_of(space, leaf->linear);

    if (leaf->large && leaf->large_writable)
        count_large(host, leaf, false);
    for (unsigned i = 0; !leaf->large && i < LEAF_PAGES; i++)
        if (bit_of(leaf->shown, i))
            forget_page(host, space, leaf, i);
    if (leaf->large && leaf->pieces)
        space->pages--;
    if (leaf->pieces)
        hide(host_address(space, leaf->linear), LEAF_SIZE);
    host->pieces -= leaf->pieces;
    while (*link != leaf)
        link = &(*link)->next_hash;
    *link = leaf->next_hash;
    if (leaf->previous)
        leaf->previous->next = leaf->next;
    else
        space->leaves = leaf->next;
    if (leaf->next)
        leaf->next->previous = leaf->previous;
    space->huge -= is_huge(leaf);
    leaf->next = host->free;
    host->free = leaf;
}

bool user_leaf_show(struct user_host *host, struct user_space *space, struct user_leaf *leaf,
                    unsigned index, unsigned count, uint64_t entry, uint64_t physical,
                    bool writable)
{
    uint64_t mask[WORDS] = {0}, linear = leaf->linear + index * PAGE_SIZE;

    for (unsigned i = index; i < index + count; i++) {
        uint64_t bit = 1UL << i % 64, moved = (uint64_t)(i - index) << 12;

        mask[i / 64] |= bit;
        forget_page(host, space, leaf, i);
        leaf->entries[i] = entry + moved;
        leaf->shown[i / 64] |= bit;
        if (writable) {
            leaf->writable[i / 64] |= bit;
            count_writable(host, physical + moved, true);
        }
        space->pages++;
    }
    set_pieces(host, leaf);
    if (window_show(host->memory, host_address(space, linear), physical, count * PAGE_SIZE,
                    writable, LEAF_PAGES))
        return true;
    user_leaf_hide(host, space, leaf, mask);
    return false;
}

bool user_leaf_show_large(struct user_host *host, struct user_space *space, struct user_leaf *leaf,
                          uint64_t physical, bool writable)
{
    unsigned count = window_show(host->memory, host_address(space, leaf->linear), physical,
                                 LEAF_SIZE, writable, LEAF_PAGES);

    leaf->physical = physical;
    leaf->large_writable = writable;
    leaf->protected_pieces = count;
    if (writable)
        count_large(host, leaf, true);
    space->pages++;
    set_pieces(host, leaf);
    return count;
}

bool user_leaf_unprotect(struct user_host *host, struct user_space *space, struct user_leaf *leaf,
                         uint64_t linear)
{
    linear &= PAGE_MASK;
    leaf->protected_pieces = MIN(leaf->protected_pieces + 2, LEAF_PAGES);
    set_pieces(host, leaf);
    return window_show(host->memory, host_address(space, linear),
                       leaf->physical + (linear - leaf->linear), PAGE_SIZE, leaf->large_writable,
                       1);
}

/* ---- by guest-physical address ---- */

static void protect(struct user_space *space, uint64_t linear)
{
    if (mprotect(host_address(space, linear), PAGE_SIZE, PROT_READ) < 0)
        hide(host_address(space, linear), PAGE_SIZE);
}

static void protect_leaf(struct user_host *host, struct user_space *space, struct user_leaf *leaf,
                         uint64_t page)
{
    for (unsigned i = 0; i < LEAF_PAGES; i++) {
        if (!leaf->writable[i / 64]) {
            i |= 63;
            continue;
        }
        if (!bit_of(leaf->writable, i) || physical_of(leaf, i) != page)
            continue;
        protect(space, leaf->linear + i * PAGE_SIZE);
        leaf->writable[i / 64] &= ~(1UL << i % 64);
        count_writable(host, page, false);
    }
}

/* Where that takes more mappings than there are to be, all of the page goes. */
static void protect_large(struct user_host *host, struct user_space *space, struct user_leaf *leaf,
                          uint64_t page)
{
    if (host->pieces + 2 > USER_PIECES) {
        user_space_drop(host, space, leaf);
        return;
    }
    leaf->protected_pieces = MIN(leaf->protected_pieces + 2, LEAF_PAGES);
    set_pieces(host, leaf);
    protect(space, leaf->linear + (page - leaf->physical));
}

void user_space_protect(struct user_host *host, struct user_space *space, uint64_t page)
{
    struct user_leaf *next;

    page &= PAGE_MASK;
    for (struct user_leaf *leaf = space->leaves; leaf && user_host_shows_writable(host, page);
         leaf = next) {
        next = leaf->next;
        if (!leaf->large)
            protect_leaf(host, space, leaf, page);
        else if (leaf->large_writable && page - leaf->physical < LEAF_SIZE)
            protect_large(host, space, leaf, page);
    }
}

/* Whether a leaf shows any of the memory. */
static bool shows(const struct user_leaf *leaf, uint64_t physical, uint64_t size)
{
    if (leaf->large)
        return leaf->physical < physical + size && physical < leaf->physical + LEAF_SIZE;
    for (unsigned i = 0; i < LEAF_PAGES; i++)
        if (bit_of(leaf->shown, i) && physical_of(leaf, i) - physical < size)
            return true;
    return false;
}

void user_space_cut_physical(struct user_host *host, struct user_space *space, uint64_t physical,
                             uint64_t size)
{
    struct user_leaf *next;

    for (struct user_leaf *leaf = space->leaves; leaf; leaf = next) {
        next = leaf->next;
        if (shows(leaf, physical, size))
            user_space_drop(host, space, leaf);
    }
}
