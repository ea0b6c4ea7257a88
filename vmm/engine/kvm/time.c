// SPDX-License-Identifier: Apache-2.0
/*
 * Time on KVM. The guest's counters, kvmclock and the deadline of the local APIC's timer belong to
 * the kernel, which knows nothing of a machine that is paused: the machine's clock is what they
 * follow.
 *
 * The anchor is one instant on the host's counter and on the machine's clock: where the last vCPU
 * parked. Up to there guests counted with the host; what the host's counter then goes ahead of the
 * clock (a pause) is put back in all of them by the same number, so that they agree to the tick. A
 * vCPU takes that number over when it is looked at or entered.
 *
 * A timer of the local APIC that is not in deadline mode counts on in the kernel while the machine
 * is paused, and runs out too early afterwards; to stop it, its registers would have to be set as a
 * whole, which loses interrupts that come at that instant. Its count in a state is right.
 */
#include "vmm/engine/kvm/kvm.h"

#include <errno.h>
#include <x86intrin.h>

static uint64_t host_counter(void)
{
    _mm_lfence();
    return __rdtsc();
}

/* Ticks of the host's counter as guests count them. */
static uint64_t scaled(const struct kvm_engine *engine, uint64_t ticks)
{
    if (!engine->tsc_scaled)
        return ticks;
    return clock_muldiv(ticks, engine->model.tsc_khz, engine->host_khz);
}

void kvm_time_init(struct kvm_engine *engine)
{
    struct clock *clock = engine->config.clock;
    int khz = kvm_ioctl(engine->vm, KVM_GET_TSC_KHZ, NULL);

    if (khz > 0) /* Linux 5.19 and later tell it before there is a vCPU */
        clock_set_tsc_khz(clock, (uint64_t)khz);
    engine->host_khz = clock_tsc_khz(clock);
    engine->epoch = clock_epoch(clock);
    engine->anchor_host = host_counter();
    engine->anchor_tsc = clock_tsc(clock);
}

bool kvm_time_scale(struct vcpu *vcpu, GError **error)
{
    struct kvm_engine *engine = vcpu->engine;

    if (engine->model.tsc_khz == engine->host_khz)
        return true;
    engine->tsc_scaled = true;
    return kvm_ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)engine->model.tsc_khz) == 0 ||
           kvm_refuses(error, vcpu, "counter's frequency");
}

/* ---- one vCPU's counter ---- */

static bool offset_access(struct vcpu *vcpu, unsigned long request, uint64_t *offset)
{
    struct kvm_device_attr attribute = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)offset};

    return kvm_ioctl(vcpu->fd, request, &attribute) == 0;
}

/* By the offset itself, where the kernel (5.16 and later) shows it: a write of the MSR that is less
 * than a second off counts as an attempt to synchronize, and changes nothing. */
static void move(struct vcpu *vcpu, uint64_t distance)
{
    uint64_t offset, now;

    if (offset_access(vcpu, KVM_GET_DEVICE_ATTR, &offset)) {
        offset += distance;
        offset_access(vcpu, KVM_SET_DEVICE_ATTR, &offset);
    } else if (kvm_read_msr(vcpu, KVM_MSR_TSC, &now)) {
        kvm_write_msr(vcpu, KVM_MSR_TSC, now + distance);
    }
}

/* What it showed, or would have shown, at the anchor. */
static uint64_t at_anchor(struct vcpu *vcpu)
{
    const struct kvm_engine *engine = vcpu->engine;
    uint64_t offset, now = 0;

    if (!engine->tsc_scaled && offset_access(vcpu, KVM_GET_DEVICE_ATTR, &offset))
        return engine->anchor_host + offset;
    kvm_read_msr(vcpu, KVM_MSR_TSC, &now);
    return now - scaled(engine, host_counter() - engine->anchor_host);
}

/* ---- the anchor ---- */

static void anchor_locked(struct kvm_engine *engine, uint64_t host, uint64_t tsc)
{
    engine->anchor_host = host;
    engine->anchor_tsc = tsc;
    engine->epoch = clock_epoch(engine->config.clock);
}

/* If time has stopped, gone on or been set since the anchor: a new one, and what lies between by
 * the host's counter and not by the clock is put back. */
static bool follow_clock_locked(struct kvm_engine *engine)
{
    const struct clock *clock = engine->config.clock;

    if (engine->epoch == clock_epoch(clock))
        return false;
    uint64_t host = host_counter(), tsc = clock_tsc(clock);
    engine->lag += scaled(engine, host - engine->anchor_host) - (tsc - engine->anchor_tsc);
    anchor_locked(engine, host, tsc);
    return true;
}

static void catch_up_locked(struct vcpu *vcpu)
{
    struct kvm_engine *engine = vcpu->engine;

    if (vcpu->lag != engine->lag)
        move(vcpu, vcpu->lag - engine->lag);
    vcpu->lag = engine->lag;
}

void kvm_time_enter(struct vcpu *vcpu)
{
    struct kvm_engine *engine = vcpu->engine;
    struct kvm_clock_data data = {0};

    pthread_mutex_lock(&engine->time_lock);
    if (follow_clock_locked(engine)) {
        data.clock = (uint64_t)clock_now(engine->config.clock);
        kvm_ioctl(engine->vm, KVM_SET_CLOCK, &data);
    }
    catch_up_locked(vcpu);
    pthread_mutex_unlock(&engine->time_lock);
    if (vcpu->tsc_deadline)
        kvm_write_msr(vcpu, KVM_MSR_TSC_DEADLINE, vcpu->tsc_deadline);
    vcpu->tsc_deadline = 0;
}

/* The timer stops with its vCPU; one that has just run out does so again at the next entry. */
static void park_timer(struct vcpu *vcpu)
{
    if (!cpu_has_feature(&vcpu->engine->model, CPU_TSC_DEADLINE) ||
        !kvm_read_msr(vcpu, KVM_MSR_TSC_DEADLINE, &vcpu->tsc_deadline))
        vcpu->tsc_deadline = 0;
    if (vcpu->tsc_deadline)
        kvm_write_msr(vcpu, KVM_MSR_TSC_DEADLINE, 0);
}

void kvm_time_park(struct vcpu *vcpu)
{
    struct kvm_engine *engine = vcpu->engine;
    const struct clock *clock = engine->config.clock;

    park_timer(vcpu);
    pthread_mutex_lock(&engine->time_lock);
    /* Where time has stopped or been set meanwhile, the next look makes up for it. */
    if (engine->epoch == clock_epoch(clock) && clock_is_running(clock))
        anchor_locked(engine, host_counter(), clock_tsc(clock));
    vcpu->lag_parked = vcpu->lag;
    pthread_mutex_unlock(&engine->time_lock);
}

uint64_t kvm_time_get(struct vcpu *vcpu)
{
    struct kvm_engine *engine = vcpu->engine;

    pthread_mutex_lock(&engine->time_lock);
    follow_clock_locked(engine);
    catch_up_locked(vcpu);
    uint64_t tsc = at_anchor(vcpu);
    pthread_mutex_unlock(&engine->time_lock);
    return tsc;
}

int64_t kvm_time_paused(const struct vcpu *vcpu)
{
    const struct kvm_engine *engine = vcpu->engine;
    int64_t ticks = (int64_t)(vcpu->lag - vcpu->lag_parked);

    return ticks > 0 ? (int64_t)clock_muldiv((uint64_t)ticks, 1000000, engine->model.tsc_khz) : 0;
}

void kvm_time_set(struct vcpu *vcpu, uint64_t tsc)
{
    struct kvm_engine *engine = vcpu->engine;

    pthread_mutex_lock(&engine->time_lock);
    follow_clock_locked(engine);
    catch_up_locked(vcpu);
    move(vcpu, tsc - at_anchor(vcpu));
    vcpu->lag_parked = vcpu->lag;
    pthread_mutex_unlock(&engine->time_lock);
}
