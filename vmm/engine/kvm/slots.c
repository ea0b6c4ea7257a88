// SPDX-License-Identifier: Apache-2.0
/*
 * Memory slots: the map of memory/ told to KVM.
 *
 * The kernel's mappings of our pages are its own affair; what must be dropped here is only a slot
 * that moved or went. Dirty pages are logged in every slot while any client wants to know.
 */
#include "vmm/engine/kvm/kvm.h"

#include <errno.h>
#include <string.h>

static bool tell(struct kvm_engine *engine, unsigned number, const struct kvm_slot *slot)
{
    struct kvm_userspace_memory_region region = {
        .slot = number,
        .flags =
            (slot->readonly ? KVM_MEM_READONLY : 0) | (slot->logged ? KVM_MEM_LOG_DIRTY_PAGES : 0),
        .guest_phys_addr = slot->base,
        .memory_size = slot->host ? slot->size : 0,
        .userspace_addr = (uintptr_t)slot->host,
    };

    return kvm_ioctl(engine->vm, KVM_SET_USER_MEMORY_REGION, &region) == 0;
}

struct kvm_slot *kvm_slot_at(struct kvm_engine *engine, unsigned number)
{
    if (number >= engine->slots->len)
        g_array_set_size(engine->slots, number + 1);
    return &g_array_index(engine->slots, struct kvm_slot, number);
}

static struct kvm_slot wanted(const struct kvm_engine *engine, const struct memory_range *range)
{
    return (struct kvm_slot){
        .base = range->base,
        .size = range->size,
        .offset = range->block_offset,
        .host = range->host,
        .block = range->block,
        .readonly = range->kind == MEMORY_ROM,
        .logged = engine->logging && range->kind == MEMORY_RAM,
    };
}

static bool same_place(const struct kvm_slot *a, const struct kvm_slot *b)
{
    return a->base == b->base && a->size == b->size && a->host == b->host &&
           a->readonly == b->readonly;
}

static const struct memory_range *range_of(const struct memory_map *map, unsigned slot)
{
    for (unsigned i = 0; i < map->count; i++) {
        if (map->ranges[i].slot == slot)
            return &map->ranges[i];
    }
    return NULL;
}

/* First what went or moved is taken away, so that nothing overlaps; then the rest is added. */
static bool update_locked(struct kvm_engine *engine)
{
    const struct memory_map *map = memory_map(engine->config.memory);
    bool good = true;

    for (unsigned i = 0; i < engine->slots->len; i++) {
        struct kvm_slot *slot = kvm_slot_at(engine, i);
        const struct memory_range *range = range_of(map, i);
        struct kvm_slot new = {0};

        if (range)
            new = wanted(engine, range);
        if (slot->host && !same_place(slot, &new)) {
            slot->host = NULL;
            good &= tell(engine, i, slot);
        }
    }
    for (unsigned i = 0; i < map->count; i++) {
        struct kvm_slot new = wanted(engine, &map->ranges[i]);
        struct kvm_slot *slot = kvm_slot_at(engine, map->ranges[i].slot);

        if (slot->host && slot->logged == new.logged)
            continue;
        *slot = new;
        good &= tell(engine, map->ranges[i].slot, slot);
    }
    return good;
}

static void update(void *opaque)
{
    struct kvm_engine *engine = opaque;

    pthread_mutex_lock(&engine->slots_lock);
    kvm_dirty_sync_locked(engine);
    if (!update_locked(engine))
        g_warning("KVM refuses a memory slot: %s", g_strerror(errno));
    pthread_mutex_unlock(&engine->slots_lock);
}

static void dirty_tracking(void *opaque, bool on)
{
    struct kvm_engine *engine = opaque;

    pthread_mutex_lock(&engine->slots_lock);
    kvm_dirty_sync_locked(engine); /* what lies in the rings belongs to the slots as they are */
    engine->logging = on;
    pthread_mutex_unlock(&engine->slots_lock);
    update(engine);
}

static void dirty_sync(void *opaque)
{
    kvm_dirty_sync(opaque);
}

bool kvm_slots_init(struct kvm_engine *engine, GError **error)
{
    const struct memory_listener listener = {
        .map_changed = update,
        .dirty_tracking = dirty_tracking,
        .dirty_sync = dirty_sync,
        .opaque = engine,
    };

    engine->slots = g_array_new(FALSE, TRUE, sizeof(struct kvm_slot));
    if (!memory_listen(engine->config.memory, &listener, error))
        return false;
    pthread_mutex_lock(&engine->slots_lock);
    bool good = update_locked(engine);
    pthread_mutex_unlock(&engine->slots_lock);
    if (!good)
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "KVM refuses the guest's memory: %s", g_strerror(errno));
    return good;
}

void kvm_slots_finish(struct kvm_engine *engine)
{
    if (!engine->slots)
        return;
    memory_unlisten(engine->config.memory, engine);
    g_array_unref(engine->slots);
}
