// SPDX-License-Identifier: Apache-2.0
/*
 * Windows of user address spaces, the guest's side (SDM 3A, 4.10).
 *
 * A page in the attached space is a TLB entry of its vCPU, for user accesses: it may be there only
 * as such an entry may be. No other vCPU uses it.
 *
 * What is entered: a page that the tables map at the moment for user accesses, of RAM, with the
 * accessed bit in all levels; writable only with the dirty bit. With it the entries that lead there
 * are kept.
 *
 * What drops: INVLPG its page. A flush, and also a change of the address space to one that had been
 * put aside, compares all entries that were kept with the tables: what is as it was could have been
 * entered just now, so it may stay, whatever happened meanwhile. So a space needs no flushes while
 * it is aside, and it does not matter whether it is that of another process by now. The comparison
 * is left out only where CR3 says that nothing is to be flushed and nothing was since.
 *
 * Who has windows: an address space whose user code was interrupted some times (timers do that to
 * what runs long). Each fault costs as much as thousands of accesses by the TLB; a space that has
 * many for its time of running loses its windows, and must run the longer before it gets others.
 */
#include "vmm/engine/soft/translator/user_window.h"

#include <glib.h>

#include "vmm/engine/soft/soft.h"
#include "vmm/engine/soft/system.h"
#include "vmm/engine/soft/tlb.h"
#include "vmm/engine/soft/translator/translation.h"

#define PAGE_SIZE   0x1000UL
#define PAGE_OFFSET (PAGE_SIZE - 1)
#define PTE_DIRTY   (1UL << 6)
#define PTE_KEY     (0xfUL << 59)

#define SAMPLES_WANTED 16   /* interrupts before windows are worth a try */
#define PENALTY_MAX    8    /* doublings of that */
#define CREDIT         4096 /* faults that a space may have when it begins */
#define CREDIT_SAMPLE  48   /* more, for each interrupt */
#define AROUND         16   /* pages that are looked at around one */

/* ---- what the vCPU sees ---- */

static void set_deltas(struct soft_cpu *cpu, const struct user_windows *windows,
                       const struct user_space *space, bool there)
{
    for (unsigned i = 0; i < space->slot_count; i++) {
        const struct user_slot *slot = &space->slots[i];

        cpu->user_delta[slot->guest] =
            there ? user_slot_delta(slot) : user_host_nowhere(windows->host, slot->guest);
    }
}

/* The mode of user code, of 32 bits or 64, with windows or without. */
static uint8_t user_mode(bool small, bool windowed)
{
    return (uint8_t)(SOFT_MMU_USER | (small ? MODE_32 : 0) | (windowed ? MODE_WINDOW : 0));
}

static void set_tables(struct soft_cpu *cpu, bool windowed)
{
    for (unsigned small = 0; small < 2; small++)
        cpu->user_table[small] = cpu->translator->indirect[user_mode(small, windowed)];
}

static void detach(struct soft_cpu *cpu, struct user_windows *windows)
{
    if (!windows->attached)
        return;
    set_deltas(cpu, windows, windows->attached, false);
    windows->attached->flushes = windows->flushes;
    windows->attached = NULL;
    cpu->user_windowed = false;
    set_tables(cpu, false);
}

static void attach(struct soft_cpu *cpu, struct user_windows *windows, struct user_space *space)
{
    windows->attached = space;
    space->used = ++windows->time;
    space->pcid = cpu->cr3 & PAGE_OFFSET;
    cpu->user_windowed = true;
    set_deltas(cpu, windows, space, true);
    set_tables(cpu, true);
}

static void forget(struct soft_cpu *cpu, struct user_windows *windows, struct user_space *space)
{
    if (windows->attached == space)
        detach(cpu, windows);
    user_space_fini(windows->host, space);
}

struct user_windows *user_windows_create(struct soft_cpu *cpu, struct user_host *host)
{
    struct user_windows *windows = g_new0(struct user_windows, 1);

    windows->host = host;
    for (unsigned i = 0; i < USER_SPACES; i++)
        user_space_init(&windows->spaces[i], USER_NO_ROOT);
    for (unsigned i = 0; i < WINDOW_SLOTS; i++)
        cpu->user_delta[i] = user_host_nowhere(host, i);
    for (unsigned i = 0; i < 4; i++) {
        if (translator_need_table(cpu->translator, user_mode(i & 1, i & 2)))
            continue;
        g_free(windows);
        return NULL;
    }
    set_tables(cpu, false);
    return windows;
}

void user_windows_destroy(struct soft_cpu *cpu, struct user_windows *windows)
{
    for (unsigned i = 0; windows && i < USER_SPACES; i++)
        forget(cpu, windows, &windows->spaces[i]);
    g_free(windows);
}

/* ---- whether what is shown still holds ---- */

/* Those of the leaf's pages whose entries have changed but for a dirty bit that came. */
static bool find_changed(struct soft_cpu *cpu, const struct user_leaf *leaf,
                         uint64_t changed[LEAF_PAGES / 64])
{
    uint64_t table = leaf->path.gpa[leaf->path.count] & ~PAGE_OFFSET, any = 0;
    const uint64_t *now = (const uint64_t *)soft_page_read(cpu, table);

    for (unsigned word = 0; word < LEAF_PAGES / 64; word++) {
        changed[word] = now ? 0 : leaf->shown[word];
        for (uint64_t left = now ? leaf->shown[word] : 0; left; left &= left - 1) {
            unsigned index = word * 64 + (unsigned)__builtin_ctzl(left);
            uint64_t entry = __atomic_load_n(&now[index], __ATOMIC_RELAXED);

            if (entry != leaf->entries[index] && entry != (leaf->entries[index] | PTE_DIRTY))
                changed[word] |= left & -left;
        }
        any |= changed[word];
    }
    return any;
}

/* Hide pages of a small leaf. It goes with the last one, for others to have its place. */
static void hide(struct user_windows *windows, struct user_space *space, struct user_leaf *leaf,
                 const uint64_t mask[LEAF_PAGES / 64])
{
    user_leaf_hide(windows->host, space, leaf, mask);
    if (!leaf->pieces)
        user_space_drop(windows->host, space, leaf);
}

/* Hide what the tables no longer have as it was. */
static void compare(struct soft_cpu *cpu, struct user_windows *windows, struct user_space *space)
{
    uint64_t changed[LEAF_PAGES / 64];
    struct user_leaf *next;

    for (struct user_leaf *leaf = space->leaves; leaf; leaf = next) {
        next = leaf->next;
        if (!soft_path_holds(cpu, leaf->linear, &leaf->path, leaf->path.count))
            user_space_drop(windows->host, space, leaf);
        else if (!leaf->large && find_changed(cpu, leaf, changed))
            hide(windows, space, leaf, changed);
    }
}

/* Hide all of the guest's page of 1 GB around an address, which may be shown elsewhere only. */
static void drop_huge(struct user_windows *windows, struct user_space *space, uint64_t linear)
{
    struct user_leaf *next;

    for (struct user_leaf *leaf = space->huge ? space->leaves : NULL; leaf; leaf = next) {
        next = leaf->next;
        if (leaf->path.translation.shift == HUGE_SHIFT &&
            leaf->linear >> HUGE_SHIFT == linear >> HUGE_SHIFT)
            user_space_drop(windows->host, space, leaf);
    }
}

/* Translations of the present PCID were dropped: a space that was put aside under this number is to
 * be compared when it comes back, even where CR3 says that nothing is flushed then. */
static void doubt_others(const struct soft_cpu *cpu, struct user_windows *windows)
{
    for (unsigned i = 0; i < USER_SPACES && (cpu->cr4 & CR4_PCIDE); i++)
        if (&windows->spaces[i] != windows->attached &&
            windows->spaces[i].pcid == (cpu->cr3 & PAGE_OFFSET))
            windows->spaces[i].flushes = windows->flushes - 1;
}

/* ---- spaces ---- */

static uint64_t root_of(const struct soft_cpu *cpu)
{
    uint64_t low = soft_long_mode(cpu) ? PAGE_OFFSET : 0x1f; /* of PAE's table */

    return cpu->cr3 & ((1UL << cpu->model->physical_bits) - 1) & ~low;
}

static bool may_attach(const struct soft_cpu *cpu)
{
    bool keyed = (cpu->cr4 & CR4_PKE) && (cpu->pkru & 3); /* pages with key 0 */

    return (cpu->cr0 & CR0_PG) && (cpu->cr4 & CR4_PAE) && !cpu->break_data && !keyed;
}

/* What the meaning of tables depends on. */
static uint64_t paging_of(const struct soft_cpu *cpu)
{
    return (cpu->cr4 & (CR4_PAE | CR4_PSE | CR4_PKE)) << 32 |
           (cpu->msrs.efer & (EFER_NXE | EFER_LMA));
}

static struct user_space *find_space(struct user_windows *windows, uint64_t root)
{
    for (unsigned i = 0; i < USER_SPACES; i++)
        if (windows->spaces[i].root == root)
            return &windows->spaces[i];
    return NULL;
}

static struct user_sample *sample_of(struct user_windows *windows, uint64_t root)
{
    struct user_sample *sample =
        &windows->samples[(root >> 5) * 0x9e3779b97f4a7c15UL >> 58 & (USER_SAMPLES - 1)];

    if (sample->root != root)
        *sample = (struct user_sample){.root = root};
    return sample;
}

/* Give the windows up of the space that was put aside for longest. False: there is none. */
static bool make_way(struct soft_cpu *cpu, struct user_windows *windows)
{
    struct user_space *oldest = NULL;

    for (unsigned i = 0; i < USER_SPACES; i++) {
        struct user_space *space = &windows->spaces[i];

        if (space->root != USER_NO_ROOT && space != windows->attached &&
            (!oldest || space->used < oldest->used))
            oldest = space;
    }
    if (oldest)
        forget(cpu, windows, oldest);
    return oldest;
}

/* A place for another one, while none is attached. */
static struct user_space *make_room(struct soft_cpu *cpu, struct user_windows *windows)
{
    struct user_space *space = find_space(windows, USER_NO_ROOT);

    if (space)
        return space;
    make_way(cpu, windows);
    return find_space(windows, USER_NO_ROOT);
}

static void promote(struct soft_cpu *cpu, struct user_windows *windows, uint64_t root)
{
    struct user_space *space = make_room(cpu, windows);

    user_space_init(space, root);
    space->credit = CREDIT;
    space->paging = paging_of(cpu);
    soft_tlb_flush(cpu, false); /* what misses there teaches code where its operands lie */
    attach(cpu, windows, space);
    soft_count(&cpu->counters.promotions);
}

/* Windows cost the space more than they bring, or it is another process now. */
static void demote(struct soft_cpu *cpu, struct user_windows *windows, struct user_space *space)
{
    struct user_sample *sample = sample_of(windows, space->root);

    sample->count = 0;
    sample->penalty += sample->penalty < PENALTY_MAX;
    forget(cpu, windows, space);
    soft_count(&cpu->counters.demotions);
}

void user_window_switch(struct soft_cpu *cpu, struct user_windows *windows, bool kept)
{
    uint64_t root = root_of(cpu);
    struct user_space *space = find_space(windows, root);
    unsigned before;

    if (windows->attached && windows->attached == space && kept &&
        space->pcid == (cpu->cr3 & PAGE_OFFSET) && may_attach(cpu))
        return;
    detach(cpu, windows);
    if (!kept)
        doubt_others(cpu, windows);
    if (!may_attach(cpu))
        return;
    if (space && space->paging != paging_of(cpu)) {
        forget(cpu, windows, space);
        space = NULL;
    }
    if (!space) {
        if (cpu->engine->switches.eager)
            promote(cpu, windows, root);
        return;
    }
    before = space->pages;
    if (!kept || space->pcid != (cpu->cr3 & PAGE_OFFSET) || space->flushes != windows->flushes)
        compare(cpu, windows, space);
    if (before && !space->pages && !cpu->engine->switches.eager) {
        sample_of(windows, root)->count = 0;
        forget(cpu, windows, space);
        return;
    }
    attach(cpu, windows, space);
}

void user_window_flush(struct soft_cpu *cpu, struct user_windows *windows)
{
    user_window_switch(cpu, windows, false);
    windows->flushes++; /* behind it: a space that it has put aside is flushed too */
}

void user_window_flush_page(struct soft_cpu *cpu, struct user_windows *windows, uint64_t linear)
{
    struct user_space *space = windows->attached;
    uint64_t mask[LEAF_PAGES / 64] = {0};
    unsigned index = linear >> 12 & (LEAF_PAGES - 1);
    struct user_leaf *leaf;

    doubt_others(cpu, windows);
    if (!space)
        return;
    drop_huge(windows, space, linear);
    leaf = user_space_find(space, linear);
    if (!leaf)
        return;
    if (leaf->large) {
        user_space_drop(windows->host, space, leaf);
    } else {
        mask[index / 64] = leaf->shown[index / 64] & 1UL << index % 64;
        hide(windows, space, leaf, mask);
    }
}

void user_window_flush_others(struct user_windows *windows)
{
    windows->flushes++;
}

void user_window_sample(struct soft_cpu *cpu, struct user_windows *windows)
{
    struct user_space *space = windows->attached;
    struct user_sample *sample;

    if (space) {
        space->credit = MIN(space->credit + CREDIT_SAMPLE, CREDIT);
        if (space->credit < 0 && !cpu->engine->switches.eager)
            demote(cpu, windows, space);
        return;
    }
    if (!may_attach(cpu))
        return;
    sample = sample_of(windows, root_of(cpu));
    if (++sample->count >= SAMPLES_WANTED << sample->penalty)
        promote(cpu, windows, root_of(cpu));
}

/* ---- entering pages ---- */

/* Whether the vCPU's local APIC lies over some of the memory. */
static bool is_over(const struct soft_cpu *cpu, uint64_t physical, uint64_t size)
{
    return cpu->lapic_page != SOFT_TLB_NONE && cpu->lapic_page - physical < size;
}

/* How many pages beside the one with `index`, in the direction, go on as it does: their entries
 * are alike, their frames follow. */
static unsigned alike(struct soft_cpu *cpu, const struct user_leaf *leaf, unsigned index,
                      const struct soft_path *path, int direction)
{
    uint64_t entry = path->entry[path->count - 1], physical = path->translation.physical;
    uint64_t table = leaf->path.gpa[leaf->path.count] & ~PAGE_OFFSET;
    const uint64_t *now = (const uint64_t *)soft_page_read(cpu, table);
    unsigned count = 0, first = index & ~(AROUND - 1U);

    for (int at = (int)index + direction; now && at >= (int)first && at < (int)(first + AROUND);
         at += direction) {
        entry += (uint64_t)(direction * (int)PAGE_SIZE);
        physical += (uint64_t)(direction * (int)PAGE_SIZE);
        if (is_over(cpu, physical, PAGE_SIZE) || (leaf->shown[at / 64] >> at % 64 & 1) ||
            __atomic_load_n(&now[at], __ATOMIC_RELAXED) != entry)
            break;
        count++;
    }
    return count;
}

static bool show_small(struct soft_cpu *cpu, struct user_windows *windows, struct user_space *space,
                       struct user_leaf *leaf, uint64_t linear, const struct soft_path *path)
{
    const struct soft_translation *found = &path->translation;
    unsigned index = linear >> 12 & (LEAF_PAGES - 1);
    uint64_t entry = path->entry[path->count - 1];
    unsigned back = alike(cpu, leaf, index, path, -1);
    unsigned ahead = alike(cpu, leaf, index, path, 1);
    bool writable = found->writable && found->dirty;

    return user_leaf_show(windows->host, space, leaf, index - back, back + 1 + ahead,
                          entry - back * PAGE_SIZE, found->physical - back * PAGE_SIZE, writable) ||
           user_leaf_show(windows->host, space, leaf, index, 1, entry, found->physical, writable);
}

static bool show_large(struct user_windows *windows, struct user_space *space,
                       struct user_leaf *leaf, uint64_t linear, const struct soft_path *path)
{
    const struct soft_translation *found = &path->translation;
    uint64_t physical = found->physical & ~(LEAF_SIZE - 1);
    bool writable = found->writable && found->dirty;

    if (leaf->pieces) /* shown already, but for writing to this page */
        return user_leaf_unprotect(windows->host, space, leaf, linear);
    return user_leaf_show_large(windows->host, space, leaf, physical, writable);
}

/* The leaf for what the path leads to: the one that is there may be of what was mapped before. */
static struct user_leaf *get_leaf(struct soft_cpu *cpu, struct user_windows *windows,
                                  struct user_space *space, uint64_t linear,
                                  const struct soft_path *path)
{
    struct user_leaf *leaf = user_space_find(space, linear);

    if (leaf && (leaf->large != (path->translation.shift > 12) ||
                 !soft_path_holds(cpu, linear, &leaf->path, leaf->path.count))) {
        user_space_drop(windows->host, space, leaf);
        leaf = NULL;
    }
    return leaf ? leaf : user_space_add(windows->host, space, linear, path);
}

/* Whether there is room on the host for more; spaces that are put aside make some. */
static bool have_room(struct soft_cpu *cpu, struct user_windows *windows)
{
    while (!user_host_has_room(windows->host))
        if (!make_way(cpu, windows))
            return false;
    return true;
}

static bool place(struct soft_cpu *cpu, struct user_windows *windows, struct user_space *space,
                  uint64_t linear)
{
    unsigned guest = (unsigned)(linear >> WINDOW_SLOT_SHIFT);
    const struct user_slot *slot = user_space_slot(windows->host, space, guest);

    while (!slot && space->slot_count < USER_SPACE_SLOTS && make_way(cpu, windows))
        slot = user_space_slot(windows->host, space, guest);
    if (slot)
        cpu->user_delta[slot->guest] = user_slot_delta(slot);
    return slot;
}

/* May the page be written, as far as memory.h is concerned? */
static bool begin_writing(struct soft_cpu *cpu, uint64_t physical)
{
    bool keep;

    /* Code that writes itself would be translated, and its page protected, over and over. */
    return !memory_has_code(cpu->memory, physical) &&
           memory_write_begin(cpu->memory, physical, &keep) && keep;
}

/* Whether registers lie over what would be shown of the guest's page. */
static bool has_registers(const struct soft_cpu *cpu, const struct soft_translation *translation)
{
    uint64_t size = translation->shift > 12 ? LEAF_SIZE : PAGE_SIZE;

    return is_over(cpu, translation->physical & ~(size - 1), size);
}

/* There is no room for what the space wants: its code goes on without windows. */
static enum window_fault do_without(struct soft_cpu *cpu, struct user_windows *windows,
                                    struct user_space *space)
{
    demote(cpu, windows, space);
    return WINDOW_ABSENT;
}

enum window_fault user_window_fault(struct soft_cpu *cpu, struct user_windows *windows,
                                    uint64_t linear, bool write)
{
    struct user_space *space = windows->attached;
    struct soft_translation translation;
    struct user_leaf *leaf;
    struct soft_path path;
    uint32_t error;
    bool placed, shown;

    linear &= ~PAGE_OFFSET;
    if (!space)
        return WINDOW_ABSENT;
    if (!window_is_lower(linear))
        return WINDOW_NEVER;
    space->credit--;
    if (!soft_walk(cpu, linear, write ? SOFT_WRITE : SOFT_READ, SOFT_MMU_USER, &translation,
                   &error) ||
        !soft_walk_path(cpu, linear, &path))
        return WINDOW_ABSENT;
    if (!path.translation.user || !path.translation.accessed ||
        (write && !(path.translation.writable && path.translation.dirty)))
        return WINDOW_ABSENT;
    if (((cpu->cr4 & CR4_PKE) && path.entry[path.count - 1] & PTE_KEY) ||
        (write && !begin_writing(cpu, path.translation.physical)) ||
        has_registers(cpu, &path.translation))
        return WINDOW_NEVER;
    placed = place(cpu, windows, space, linear);
    if (!placed && space->slot_count == USER_SPACE_SLOTS)
        return WINDOW_NEVER;
    if (!placed || !have_room(cpu, windows))
        return do_without(cpu, windows, space);
    leaf = get_leaf(cpu, windows, space, linear, &path);
    if (!leaf)
        return do_without(cpu, windows, space);
    shown = leaf->large ? show_large(windows, space, leaf, linear, &path)
                        : show_small(cpu, windows, space, leaf, linear, &path);
    if (!shown && leaf->large)
        user_space_drop(windows->host, space, leaf);
    return shown ? WINDOW_ENTERED : WINDOW_NEVER;
}

/* ---- what memory/ takes away ---- */

void user_windows_unmapped(struct user_windows *windows, uint64_t base, uint64_t size)
{
    for (unsigned i = 0; i < USER_SPACES; i++)
        if (windows->spaces[i].root != USER_NO_ROOT)
            user_space_cut_physical(windows->host, &windows->spaces[i], base, size);
}

void user_windows_protect(struct user_windows *windows, uint64_t page)
{
    for (unsigned i = 0; i < USER_SPACES && user_host_shows_writable(windows->host, page); i++)
        if (windows->spaces[i].root != USER_NO_ROOT)
            user_space_protect(windows->host, &windows->spaces[i], page);
}
