// SPDX-License-Identifier: Apache-2.0
/*
 * The guest's writes told to memory/ (KVM_CAP_DIRTY_LOG_RING; api.rst, 8.29).
 *
 * Where the kernel has it, each vCPU has a ring in which the kernel puts every page that is written
 * for the first time since it was protected. Taking a page means to mark it in memory/ and to hand
 * its entry back; KVM_RESET_DIRTY_RINGS protects all pages that were handed back. A page that is
 * written in between needs no new entry: whoever collects reads it only later. Elsewhere the log is
 * a bitmap a slot, which the kernel clears as it hands it over.
 */
#include "vmm/engine/kvm/kvm.h"

#include <cpuid.h>
#include <sched.h>
#include <sys/mman.h>

#define RING_BYTES (64 * 1024)

static bool enable_ring(struct kvm_engine *engine, uint32_t capability)
{
    struct kvm_enable_cap enable = {.cap = capability, .args = {RING_BYTES}};

    return kvm_ioctl(engine->vm, KVM_CHECK_EXTENSION, (void *)(uintptr_t)capability) >=
               RING_BYTES &&
           kvm_ioctl(engine->vm, KVM_ENABLE_CAP, &enable) == 0;
}

/* Intel's processors log pages themselves, and show the kernel their log when the guest is left. */
static bool host_is_intel(void)
{
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid(0, &eax, &ebx, &ecx, &edx) && ebx == 0x756e6547;
}

/* A KVM that interprets guests goes on writing to pages that a reset of the rings has protected,
 * and logs nothing: there the bitmap is left. */
void kvm_dirty_init(struct kvm_engine *engine)
{
    if (!kvm_processor_virtualizes())
        return;
#ifdef KVM_CAP_DIRTY_LOG_RING_ACQ_REL
    if (enable_ring(engine, KVM_CAP_DIRTY_LOG_RING_ACQ_REL))
        engine->ring_entries = RING_BYTES / sizeof(struct kvm_dirty_gfn);
#endif
    if (!engine->ring_entries && enable_ring(engine, KVM_CAP_DIRTY_LOG_RING))
        engine->ring_entries = RING_BYTES / sizeof(struct kvm_dirty_gfn);
    engine->ring_hidden = host_is_intel();
}

bool kvm_dirty_map_ring(struct vcpu *vcpu)
{
    const off_t offset = KVM_DIRTY_LOG_PAGE_OFFSET * (off_t)GUEST_PAGE_SIZE;

    if (!vcpu->engine->ring_entries)
        return true;
    void *ring = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, offset);
    if (ring == MAP_FAILED)
        return false;
    vcpu->ring = ring;
    return true;
}

void kvm_dirty_unmap_ring(struct vcpu *vcpu)
{
    if (vcpu->ring)
        munmap(vcpu->ring, RING_BYTES);
    vcpu->ring = NULL;
}

/* ---- rings ---- */

/* Entries come from the kernel and name a slot as it was when the page was written; the rings are
 * emptied before slots change. */
static void mark(struct kvm_engine *engine, const struct kvm_dirty_gfn *entry)
{
    unsigned number = entry->slot & 0xffff;
    const struct kvm_slot *slot = kvm_slot_at(engine, number);

    if (slot->host && entry->offset < slot->size / GUEST_PAGE_SIZE)
        memory_dirty_mark(engine->config.memory, slot->base + entry->offset * GUEST_PAGE_SIZE);
}

static unsigned take_ring(struct vcpu *vcpu)
{
    struct kvm_engine *engine = vcpu->engine;
    unsigned taken = 0;

    for (; taken < engine->ring_entries; taken++) {
        struct kvm_dirty_gfn *entry = &vcpu->ring[vcpu->ring_next % engine->ring_entries];

        if (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
            break;
        mark(engine, entry);
        __atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
        vcpu->ring_next++;
    }
    return taken;
}

static void take_rings_locked(struct kvm_engine *engine)
{
    unsigned taken = 0;

    for (unsigned i = 0; i < engine->count; i++) {
        if (engine->vcpus[i])
            taken += take_ring(engine->vcpus[i]);
    }
    if (taken)
        kvm_ioctl(engine->vm, KVM_RESET_DIRTY_RINGS, NULL);
}

/* Have every vCPU leave the guest once, so that its ring is complete. The caller's own is not
 * inside. */
static void flush_locked(struct kvm_engine *engine)
{
    for (unsigned i = 0; engine->ring_hidden && i < engine->count; i++) {
        struct vcpu *vcpu = engine->vcpus[i];
        if (!vcpu)
            continue;
        uint32_t pass = atomic_load(&vcpu->passes);
        if (!atomic_load(&vcpu->inside))
            continue;
        kvm_vcpu_poke(vcpu);
        while (atomic_load(&vcpu->inside) && atomic_load(&vcpu->passes) == pass)
            sched_yield();
    }
}

void kvm_dirty_ring_full(struct vcpu *vcpu)
{
    struct kvm_engine *engine = vcpu->engine;

    pthread_mutex_lock(&engine->slots_lock);
    take_rings_locked(engine);
    pthread_mutex_unlock(&engine->slots_lock);
}

/* ---- bitmaps ---- */

/* Fetch one slot's log; the kernel clears it and tracks anew. */
static void take_bitmap_locked(struct kvm_engine *engine, unsigned number)
{
    const struct kvm_slot *slot = kvm_slot_at(engine, number);
    uint64_t words = (slot->size / GUEST_PAGE_SIZE + 63) / 64;
    g_autofree uint64_t *bitmap = g_try_new0(uint64_t, words);
    struct kvm_dirty_log log = {.slot = number, .dirty_bitmap = bitmap};

    if (bitmap && kvm_ioctl(engine->vm, KVM_GET_DIRTY_LOG, &log) == 0) {
        for (uint64_t i = 0; i < words; i++) {
            for (uint64_t word = bitmap[i]; word; word &= word - 1)
                memory_dirty_mark(engine->config.memory,
                                  slot->base + (i * 64 + __builtin_ctzl(word)) * GUEST_PAGE_SIZE);
        }
        return;
    }
    /* Unknown is dirty. */
    for (uint64_t page = 0; page < slot->size; page += GUEST_PAGE_SIZE)
        memory_dirty_mark(engine->config.memory, slot->base + page);
}

/* ---- both ---- */

void kvm_dirty_sync_locked(struct kvm_engine *engine)
{
    if (!engine->logging)
        return;
    if (engine->ring_entries) {
        flush_locked(engine);
        take_rings_locked(engine);
        return;
    }
    for (unsigned i = 0; i < engine->slots->len; i++) {
        if (kvm_slot_at(engine, i)->host && kvm_slot_at(engine, i)->logged)
            take_bitmap_locked(engine, i);
    }
}

void kvm_dirty_sync(struct kvm_engine *engine)
{
    pthread_mutex_lock(&engine->slots_lock);
    kvm_dirty_sync_locked(engine);
    pthread_mutex_unlock(&engine->slots_lock);
}
