// SPDX-License-Identifier: Apache-2.0
/*
 * Windows of the upper half, the guest's side (SDM 3A, 4.10).
 *
 * A page in a window is a TLB entry of every attached vCPU. So it may be there only as such an
 * entry may be; and one that is dropped for a vCPU that need not have dropped it does no harm.
 *
 * What is entered: a page that the tables map at the moment, of RAM, with a supervisor's rights,
 * global, with the accessed bit in all levels; writable only with the dirty bit. Supervisor pages
 * are not subject to SMAP and protection keys; what CR0.WP = 0 allows beyond that faults here and
 * is interpreted. Walk and mapping happen under the lock under which pages are dropped, so that
 * whoever changed a table and dropped the page then finds the new table walked from then on.
 *
 * Who is attached: a vCPU whose top-level table has, in the slots in use, the entries with which
 * those were opened. What lies below an entry is the same for all then. CR3 is looked at each time
 * that it is written, all attached tables when a slot is opened. An entry changed in place takes
 * effect with a flush, which looks again. A vCPU that is not attached has a delta that leads
 * nowhere.
 *
 * What drops: INVLPG takes the guest's page out for all. A flush of everything walks the tables for
 * what is mapped, and drops what is not found as it was: kernels flush all much more often than
 * they change much. Global pages outlive a write of CR3. When a vCPU attaches, the same is done,
 * for what was changed before counts for it as if it had flushed.
 *
 * memory/ takes away what it lent: write access of pages with translated code and of clean pages,
 * and memory that goes. Both are over when mmap(2) or mprotect(2) return, whatever vCPUs do.
 *
 * Lock order: inside memory's listeners; nothing is waited for with the lock held, and what memory/
 * calls under it (code that was written) does not take it.
 */
#include "vmm/engine/soft/translator/window.h"

#include <pthread.h>
#include <sys/auxv.h>

#include "vmm/engine/soft/system.h"
#include "vmm/engine/soft/translator/user_window.h"
#include "vmm/engine/soft/translator/window_space.h"
#include "vmm/engine/soft/walk.h"
#include "vmm/util/rcu.h"

#define PAGE_SIZE        0x1000UL
#define PAGE_MASK        (~(PAGE_SIZE - 1))
#define HWCAP2_FSGSBASE_ (1UL << 1)
#define PTE_PRESENT      (1UL << 0)
#define PTE_ACCESSED     (1UL << 5)
#define VCPUS_MAX        256
#define NO_ROOT          UINT64_MAX

/* How much is entered around a page at once, where the tables go on alike. */
#define AROUND_SMALL (64UL << 10)
#define AROUND_LARGE (32UL << 20)

/* Walks that a flush makes at most. The vCPU hears no kick meanwhile, and others wait for the lock:
 * who shows memory at thousands of addresses, in small pages, has all dropped instead. */
#define WALKS_MAX 65536U

struct soft_windows {
    struct memory *memory;
    pthread_mutex_t lock; /* of all below, and of each vCPU's window_root and window_delta */
    struct window_space space;
    uint64_t top[WINDOW_SLOTS]; /* the entry with which a slot was opened; 0: not in use */
    unsigned used;              /* slots in use: the first ones of */
    uint8_t use[WINDOW_SLOTS];
    bool refused[WINDOW_SLOTS]; /* it has no place on the host */
    unsigned vcpus;
    struct soft_cpu *vcpu[VCPUS_MAX];
    uint64_t hole[VCPUS_MAX]; /* by place in `vcpu` */
    struct user_host user;
    bool has_user; /* `user` is there */
};

/* The vCPU that this thread runs. */
static _Thread_local struct soft_cpu *loaded;

/* ThreadSanitizer ends the process where memory is wanted at an address that is not to its taste.
 */
bool soft_windows_supported(void)
{
#ifdef RCU_TSAN
    return false;
#else
    return getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_;
#endif
}

struct soft_windows *soft_windows_create(struct memory *memory)
{
    struct soft_windows *windows = g_new0(struct soft_windows, 1);

    windows->memory = memory;
    if (!window_space_init(&windows->space)) {
        g_free(windows);
        return NULL;
    }
    windows->has_user = user_host_init(&windows->user, memory);
    pthread_mutex_init(&windows->lock, NULL);
    return windows;
}

void soft_windows_destroy(struct soft_windows *windows)
{
    if (!windows)
        return;
    window_space_fini(&windows->space);
    if (windows->has_user)
        user_host_fini(&windows->user);
    pthread_mutex_destroy(&windows->lock);
    g_free(windows);
}

/* ---- the delta ---- */

static void set_base(uint64_t base)
{
    __asm__ volatile("wrgsbase %0" : : "r"(base));
}

void soft_window_load(struct soft_cpu *cpu)
{
    if (cpu && cpu->windows)
        set_base(cpu->window_delta);
    loaded = cpu;
}

static void set_delta(struct soft_cpu *cpu, uint64_t delta)
{
    if (cpu->window_delta == delta)
        return;
    cpu->window_delta = delta;
    if (cpu == loaded)
        set_base(delta);
}

/* ---- who is attached ---- */

/* Whether what the vCPU executes with supervisor rights may go through windows at all. */
static bool may_attach(const struct soft_cpu *cpu)
{
    return (cpu->cr0 & CR0_PG) && soft_long_mode(cpu) && (cpu->cr4 & CR4_PGE) && !cpu->break_data;
}

static uint64_t root_of(const struct soft_cpu *cpu)
{
    return cpu->cr3 & ((1UL << cpu->model->physical_bits) - 1) & PAGE_MASK;
}

/* The top-level entry of a slot as the table at `root` has it now; 0 where it has none. */
static uint64_t top_entry(struct soft_windows *windows, uint64_t root, unsigned slot)
{
    const uint8_t *table = memory_read_begin(windows->memory, root);
    uint64_t entry;

    if (!table)
        return 0;
    entry = __atomic_load_n((const uint64_t *)(table + PAGE_SIZE / 2) + slot, __ATOMIC_RELAXED);
    return entry & PTE_PRESENT ? entry & ~PTE_ACCESSED : 0;
}

static bool alone(const struct soft_windows *windows, const struct soft_cpu *cpu)
{
    for (unsigned i = 0; i < windows->vcpus; i++)
        if (windows->vcpu[i] != cpu && windows->vcpu[i]->window_root != NO_ROOT)
            return false;
    return true;
}

static uint64_t slot_linear(unsigned slot)
{
    return ~0UL << 47 | (uint64_t)slot << WINDOW_SLOT_SHIFT;
}

/* Take the slot at a place of `use` out of use. */
static void close_slot(struct soft_windows *windows, unsigned place)
{
    unsigned slot = windows->use[place];

    window_space_cut(&windows->space, slot_linear(slot), WINDOW_SLOT_SIZE);
    windows->top[slot] = 0;
    windows->use[place] = windows->use[--windows->used];
}

/* Whether the table has the entries of all slots in use. One that it has not goes out of use where
 * nobody else has it. */
static bool agrees(struct soft_windows *windows, const struct soft_cpu *cpu, uint64_t root)
{
    for (unsigned i = 0; i < windows->used;) {
        unsigned slot = windows->use[i];

        if (windows->top[slot] == top_entry(windows, root, slot)) {
            i++;
        } else if (alone(windows, cpu)) {
            close_slot(windows, i);
        } else {
            return false;
        }
    }
    return true;
}

/* What may be in a window, but for its place. */
static bool may_show(const struct soft_translation *translation)
{
    return translation->global && !translation->user && translation->accessed;
}

static bool may_write(const struct soft_translation *translation)
{
    return translation->writable && translation->dirty;
}

/* Whether the tables map the whole region as they did, and `walks` are enough to tell. */
static bool still_holds(struct soft_cpu *cpu, const struct window_region *region, unsigned *walks)
{
    for (uint64_t done = 0; done < region->size; (*walks)--) {
        struct soft_translation translation;
        uint64_t linear = region->linear + done;

        if (!*walks || !soft_walk_quietly(cpu, linear, &translation) || !may_show(&translation) ||
            translation.physical != region->physical + done || translation.shift > region->shift ||
            (region->writable && !may_write(&translation)))
            return false;
        done += (1UL << translation.shift) - (linear & ((1UL << translation.shift) - 1));
    }
    return true;
}

static void drop_changed(struct soft_windows *windows, struct soft_cpu *cpu)
{
    struct window_space *space = &windows->space;
    unsigned walks = WALKS_MAX;

    for (unsigned i = 0; i < space->count && walks;) {
        const struct window_region region = space->regions[i];

        if (still_holds(cpu, &region, &walks))
            i++;
        else
            window_space_cut(space, region.linear, region.size);
    }
    if (!walks)
        window_space_clear(space);
}

static void detach(struct soft_cpu *cpu)
{
    cpu->window_root = NO_ROOT;
    set_delta(cpu, SOFT_WINDOW_NOWHERE);
}

/* Attach if that may be; one that was attached stays so if that may be. */
static bool attach(struct soft_windows *windows, struct soft_cpu *cpu)
{
    uint64_t root = root_of(cpu);
    bool anew = cpu->window_root == NO_ROOT;

    if (cpu->window_root == root && may_attach(cpu))
        return true;
    cpu->window_root = NO_ROOT;
    if (!may_attach(cpu) || !agrees(windows, cpu, root)) {
        detach(cpu);
        return false;
    }
    if (anew) {
        drop_changed(windows, cpu);
        soft_count(&cpu->counters.window_attaches);
    }
    cpu->window_root = root;
    set_delta(cpu, windows->space.placed ? windows->space.delta : SOFT_WINDOW_NOWHERE);
    return true;
}

void soft_window_switch(struct soft_cpu *cpu, bool kept)
{
    struct soft_windows *windows = cpu->windows;

    if (!windows)
        return;
    pthread_mutex_lock(&windows->lock);
    attach(windows, cpu);
    if (cpu->user_windows)
        user_window_switch(cpu, cpu->user_windows, kept);
    pthread_mutex_unlock(&windows->lock);
}

void soft_window_update(struct soft_cpu *cpu)
{
    soft_window_switch(cpu, false);
}

bool soft_window_join(struct soft_windows *windows, struct soft_cpu *cpu)
{
    bool joined;

    pthread_mutex_lock(&windows->lock);
    joined = windows->vcpus < VCPUS_MAX;
    if (joined) {
        cpu->windows = windows;
        windows->hole[windows->vcpus] = cpu->lapic_page;
        windows->vcpu[windows->vcpus++] = cpu;
        detach(cpu);
        if (windows->has_user && cpu->translator)
            cpu->user_windows = user_windows_create(cpu, &windows->user);
    }
    pthread_mutex_unlock(&windows->lock);
    return joined;
}

static unsigned place_of(const struct soft_windows *windows, const struct soft_cpu *cpu)
{
    unsigned place = 0;

    while (windows->vcpu[place] != cpu)
        place++;
    return place;
}

void soft_window_leave(struct soft_cpu *cpu)
{
    struct soft_windows *windows = cpu->windows;
    unsigned place;

    if (!windows)
        return;
    pthread_mutex_lock(&windows->lock);
    detach(cpu);
    user_windows_destroy(cpu, cpu->user_windows);
    cpu->user_windows = NULL;
    place = place_of(windows, cpu);
    windows->vcpus--;
    windows->vcpu[place] = windows->vcpu[windows->vcpus];
    windows->hole[place] = windows->hole[windows->vcpus];
    cpu->windows = NULL;
    pthread_mutex_unlock(&windows->lock);
}

/* ---- slots ---- */

static unsigned slot_of(uint64_t linear)
{
    return linear >> WINDOW_SLOT_SHIFT & (WINDOW_SLOTS - 1);
}

/* Whether all attached vCPUs have this entry. */
static bool all_have(struct soft_windows *windows, unsigned slot, uint64_t entry)
{
    for (unsigned i = 0; i < windows->vcpus; i++)
        if (windows->vcpu[i]->window_root != NO_ROOT &&
            top_entry(windows, windows->vcpu[i]->window_root, slot) != entry)
            return false;
    return true;
}

/* Choose the delta by what the vCPU's table uses. */
static bool place(struct soft_windows *windows, struct soft_cpu *cpu, unsigned slot)
{
    bool wanted[WINDOW_SLOTS];

    if (windows->space.placed)
        return true;
    for (unsigned i = 0; i < WINDOW_SLOTS; i++)
        wanted[i] = top_entry(windows, cpu->window_root, i);
    return window_space_place(&windows->space, wanted, slot);
}

/* Have the slot's addresses on the host. */
static bool open_slot(struct soft_windows *windows, struct soft_cpu *cpu, unsigned slot)
{
    if (windows->refused[slot])
        return false;
    if (place(windows, cpu, slot) && window_space_open(&windows->space, slot))
        return true;
    windows->refused[slot] = true;
    return false;
}

/* Have the slot in use with the entry of an attached vCPU's table. */
static bool use_slot(struct soft_windows *windows, struct soft_cpu *cpu, unsigned slot)
{
    uint64_t entry = top_entry(windows, cpu->window_root, slot);

    if (!entry)
        return false;
    if (windows->top[slot])
        return windows->top[slot] == entry;
    if (!all_have(windows, slot, entry) || !open_slot(windows, cpu, slot))
        return false;
    windows->top[slot] = entry;
    windows->use[windows->used++] = (uint8_t)slot;
    set_delta(cpu, windows->space.delta);
    return true;
}

bool soft_window_attached(const struct soft_cpu *cpu)
{
    return cpu->windows && cpu->window_root != NO_ROOT;
}

bool soft_window_reserve(struct soft_cpu *cpu, uint64_t linear)
{
    struct soft_windows *windows = cpu->windows;
    bool reserved;

    pthread_mutex_lock(&windows->lock);
    reserved = cpu->window_root != NO_ROOT && window_is_upper(linear) &&
               open_slot(windows, cpu, slot_of(linear));
    if (reserved)
        set_delta(cpu, windows->space.delta);
    pthread_mutex_unlock(&windows->lock);
    return reserved;
}

/* ---- entering pages ---- */

/* Take what lies before (or behind) guest-physical `bound` off the region. */
static void clip_before(struct window_region *region, uint64_t bound)
{
    if (bound <= region->physical)
        return;
    region->linear += bound - region->physical;
    region->size -= bound - region->physical;
    region->physical = bound;
}

static void clip_behind(struct window_region *region, uint64_t bound)
{
    if (bound - region->physical < region->size)
        region->size = bound - region->physical;
}

/* Keep of a region around the page at `physical` what lies in its range of RAM and has no holes.
 * False: not even that page. */
static bool clip_to_memory(struct soft_windows *windows, struct window_region *region,
                           uint64_t physical)
{
    struct memory_range range = {0};

    rcu_reader_lock();
    const struct memory_range *found = memory_find(windows->memory, physical);
    if (found)
        range = *found;
    rcu_reader_unlock();
    if (!found || range.kind != MEMORY_RAM)
        return false;
    clip_before(region, range.base);
    clip_behind(region, range.base + range.size);
    for (unsigned i = 0; i < windows->vcpus; i++) {
        uint64_t hole = windows->hole[i];

        if (hole == physical)
            return false;
        if (hole < physical)
            clip_before(region, hole == SOFT_TLB_NONE ? 0 : hole + PAGE_SIZE);
        else
            clip_behind(region, hole);
    }
    return true;
}

/* Keep what does not overlap the regions that are there; the page at `linear` is in none. */
static void clip_to_gap(struct window_space *space, struct window_region *region, uint64_t linear)
{
    uint64_t back = linear - region->linear, ahead = region->size - back;

    for (unsigned i = 0; i < space->count; i++) {
        const struct window_region *other = &space->regions[i];
        uint64_t other_end = other->linear + other->size;

        if (other->linear < linear)
            back = MIN(back, linear - other_end);
        else
            ahead = MIN(ahead, other->linear - linear);
    }
    region->physical += linear - region->linear - back;
    region->linear = linear - back;
    region->size = back + ahead;
}

/* Whether the page of the guest at `linear` goes on as the region does, at `physical`. */
static bool alike(struct soft_cpu *cpu, const struct window_region *region, uint64_t linear,
                  uint64_t physical)
{
    struct soft_translation translation;

    return soft_walk_quietly(cpu, linear, &translation) && translation.physical == physical &&
           translation.shift == region->shift && may_show(&translation) &&
           may_write(&translation) == region->writable;
}

/* The region of the guest's page and of its neighbours that are alike, within bounds. */
static void spread(struct soft_cpu *cpu, struct window_region *region, uint64_t linear,
                   const struct soft_translation *translation)
{
    uint64_t page = 1UL << translation->shift;
    uint64_t around = translation->shift == 12 ? AROUND_SMALL : AROUND_LARGE;
    uint64_t start = linear & ~(around - 1), unit = MIN(page, around);

    *region = (struct window_region){.linear = linear & ~(unit - 1),
                                     .physical = translation->physical & ~(unit - 1),
                                     .size = unit,
                                     .writable = may_write(translation),
                                     .shift = translation->shift};
    while (region->linear - start >= page && region->physical >= page &&
           alike(cpu, region, region->linear - page, region->physical - page)) {
        region->linear -= page;
        region->physical -= page;
        region->size += page;
    }
    while (region->linear - start + region->size + page <= around &&
           alike(cpu, region, region->linear + region->size, region->physical + region->size))
        region->size += page;
}

/* Drop each guest page that `linear` is in, whatever size it had when it was entered. */
static void drop_page(struct window_space *space, uint64_t linear)
{
    static const uint8_t shifts[] = {12, 21, 30};

    for (unsigned i = 0; i < sizeof(shifts); i++) {
        uint64_t size = 1UL << shifts[i], start = linear & ~(size - 1);
        bool found = false;

        for (unsigned j = 0; j < space->count && !found; j++)
            found = space->regions[j].shift == shifts[i] &&
                    space->regions[j].linear - start + space->regions[j].size - 1 <
                        space->regions[j].size - 1 + size;
        if (found)
            window_space_cut(space, start, size);
    }
}

/* The page is mapped already, or was, with other rights or another address. */
static bool allow_again(struct soft_windows *windows, uint64_t linear, uint64_t physical,
                        bool write)
{
    const struct window_region *region = window_space_find(&windows->space, linear);

    return region && region->physical + (linear - region->linear) == physical &&
           (!write || (region->writable && window_space_unprotect(&windows->space, linear)));
}

static bool enter(struct soft_windows *windows, struct soft_cpu *cpu, uint64_t linear, bool write)
{
    struct soft_translation translation;
    struct window_region region;
    uint32_t error;
    bool keep;

    if (!soft_walk(cpu, linear, write ? SOFT_WRITE : SOFT_READ, SOFT_MMU_SUPERVISOR, &translation,
                   &error) ||
        !soft_walk_quietly(cpu, linear, &translation) || !may_show(&translation))
        return false;
    /* Code that writes itself would be translated, and its page protected, over and over. */
    if (write &&
        (!may_write(&translation) || memory_has_code(windows->memory, translation.physical)))
        return false;
    if (write && (!memory_write_begin(windows->memory, translation.physical, &keep) || !keep))
        return false;
    if (allow_again(windows, linear, translation.physical, write))
        return true;
    drop_page(&windows->space, linear);
    spread(cpu, &region, linear, &translation);
    if (!clip_to_memory(windows, &region, translation.physical))
        return false;
    clip_to_gap(&windows->space, &region, linear);
    return window_space_map(&windows->space, windows->memory, &region);
}

static bool upper_fault(struct soft_windows *windows, struct soft_cpu *cpu, uint64_t linear,
                        bool write)
{
    bool entered = (cpu->window_root != NO_ROOT || attach(windows, cpu)) &&
                   use_slot(windows, cpu, slot_of(linear)) && enter(windows, cpu, linear, write);

    if (cpu->window_root != NO_ROOT && windows->space.placed)
        set_delta(cpu, windows->space.delta);
    return entered;
}

enum window_fault soft_window_fault(struct soft_cpu *cpu, uint64_t linear, bool write)
{
    struct soft_windows *windows = cpu->windows;
    enum window_fault result = WINDOW_NEVER;

    linear &= PAGE_MASK;
    if (!windows)
        return result;
    pthread_mutex_lock(&windows->lock);
    if (window_is_upper(linear))
        result = upper_fault(windows, cpu, linear, write) ? WINDOW_ENTERED : WINDOW_NEVER;
    else if (cpu->user_windows)
        result = user_window_fault(cpu, cpu->user_windows, linear, write);
    pthread_mutex_unlock(&windows->lock);
    return result;
}

/* ---- dropping ---- */

void soft_window_flush(struct soft_cpu *cpu)
{
    struct soft_windows *windows = cpu->windows;

    if (!windows)
        return;
    pthread_mutex_lock(&windows->lock);
    detach(cpu);
    attach(windows, cpu);
    if (cpu->user_windows)
        user_window_flush(cpu, cpu->user_windows);
    pthread_mutex_unlock(&windows->lock);
}

void soft_window_flush_page(struct soft_cpu *cpu, uint64_t linear)
{
    struct soft_windows *windows = cpu->windows;

    soft_window_flush_user_page(cpu, linear);
    if (!windows || !window_is_upper(linear))
        return;
    pthread_mutex_lock(&windows->lock);
    drop_page(&windows->space, linear);
    pthread_mutex_unlock(&windows->lock);
}

void soft_window_flush_user(struct soft_cpu *cpu)
{
    if (!cpu->user_windows)
        return;
    pthread_mutex_lock(&cpu->windows->lock);
    user_window_flush(cpu, cpu->user_windows);
    pthread_mutex_unlock(&cpu->windows->lock);
}

void soft_window_flush_user_page(struct soft_cpu *cpu, uint64_t linear)
{
    if (!cpu->user_windows || window_is_upper(linear))
        return;
    pthread_mutex_lock(&cpu->windows->lock);
    user_window_flush_page(cpu, cpu->user_windows, linear);
    pthread_mutex_unlock(&cpu->windows->lock);
}

void soft_window_flush_others(struct soft_cpu *cpu)
{
    if (!cpu->user_windows)
        return;
    pthread_mutex_lock(&cpu->windows->lock);
    user_window_flush_others(cpu->user_windows);
    pthread_mutex_unlock(&cpu->windows->lock);
}

void soft_window_sample(struct soft_cpu *cpu)
{
    if (!cpu->user_windows || cpu->cpl != 3)
        return;
    pthread_mutex_lock(&cpu->windows->lock);
    user_window_sample(cpu, cpu->user_windows);
    pthread_mutex_unlock(&cpu->windows->lock);
}

static void cut_physical(struct soft_windows *windows, uint64_t base, uint64_t size)
{
    window_space_cut_physical(&windows->space, base, size);
    for (unsigned i = 0; i < windows->vcpus; i++)
        if (windows->vcpu[i]->user_windows)
            user_windows_unmapped(windows->vcpu[i]->user_windows, base, size);
}

void soft_window_set_hole(struct soft_cpu *cpu, uint64_t page)
{
    struct soft_windows *windows = cpu->windows;

    if (!windows)
        return;
    pthread_mutex_lock(&windows->lock);
    windows->hole[place_of(windows, cpu)] = page;
    if (page != SOFT_TLB_NONE)
        cut_physical(windows, page, PAGE_SIZE);
    pthread_mutex_unlock(&windows->lock);
}

void soft_windows_unmapped(struct soft_windows *windows, uint64_t base, uint64_t size)
{
    if (!windows)
        return;
    pthread_mutex_lock(&windows->lock);
    cut_physical(windows, base, size);
    pthread_mutex_unlock(&windows->lock);
}

void soft_windows_protect(struct soft_windows *windows, uint64_t page)
{
    if (!windows)
        return;
    pthread_mutex_lock(&windows->lock);
    window_space_protect(&windows->space, page);
    for (unsigned i = 0; i < windows->vcpus; i++)
        if (windows->vcpu[i]->user_windows)
            user_windows_protect(windows->vcpu[i]->user_windows, page);
    pthread_mutex_unlock(&windows->lock);
}
