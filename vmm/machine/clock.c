// SPDX-License-Identifier: Apache-2.0
/*
 * The virtual clock: one counter, and everything else a linear function of it.
 *
 * The counter is the host's TSC where it is invariant (SDM 3B, 18.17.1), else CLOCK_MONOTONIC in
 * nanoseconds, or for a manual clock a number that clock_step moves. An epoch, begun at each
 * clock_resume, pairs a value of the counter with machine time and guest TSC; readers extrapolate
 * from it without a lock, guarded by a sequence count. While paused the epoch's own values hold.
 *
 * Timers lie in a binary heap by deadline, then by order of arming.
 */
#include "vmm/machine/clock.h"

#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <time.h>
#include <x86intrin.h>

#include "vmm/util/thread.h"

enum counter_source {
    COUNTER_TSC,
    COUNTER_MONOTONIC,
    COUNTER_MANUAL,
};

/* Fields are atomic only so that a reader who loses the race reads no torn word. */
struct epoch {
    _Atomic uint32_t sequence; /* odd while it is being written */
    _Atomic bool running;
    _Atomic uint64_t counter; /* at its beginning */
    _Atomic int64_t now_ns;
    _Atomic uint64_t tsc;
};

struct clock {
    enum counter_source source;
    uint64_t khz;         /* of the counter */
    uint64_t ns_per_tick; /* 2^-48 ns */
    uint64_t tsc_khz;     /* of the guest's counter; changes only while nothing reads */
    uint64_t tsc_per_tick, ns_per_tsc; /* 2^-48 */
    struct epoch epoch;
    int64_t stopped_ns; /* the host's time of the last pause; control thread */

    _Atomic uint64_t manual_counter;
    _Atomic int64_t manual_wall_ns;

    pthread_mutex_t lock; /* timers, the writer's side of the epoch */
    pthread_cond_t wake;  /* the first deadline or `running` changed */
    pthread_cond_t done;  /* `current` ended */
    GPtrArray *heap;
    uint64_t arm_count;
    struct clock_timer *current; /* whose callback runs */
    pthread_t current_thread;
    pthread_t thread;
    bool has_thread, stop;
    /* When the thread looks by itself: machine time, INT64_MIN while it is awake. An earlier
     * deadline must wake it. */
    int64_t waits_for;
};

#define NOT_ARMED G_MAXUINT

struct clock_timer {
    struct clock *clock;
    const char *name;
    clock_timer_fn fn;
    void *opaque;
    int64_t deadline_ns;
    uint64_t order; /* of arming */
    guint position; /* in the heap, or NOT_ARMED */
};

/* ---- the counter ---- */

static int64_t host_ns(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now);
    return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

static uint64_t host_tsc(void)
{
    /* RDTSC alone may execute before earlier loads: two vCPU threads would see time go back. */
    _mm_lfence();
    return __rdtsc();
}

static uint64_t counter_read(const struct clock *clock)
{
    switch (clock->source) {
    case COUNTER_TSC:
        return host_tsc();
    case COUNTER_MONOTONIC:
        return host_ns(CLOCK_MONOTONIC);
    case COUNTER_MANUAL:
        break;
    }
    return atomic_load(&clock->manual_counter);
}

static bool tsc_is_invariant(void)
{
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) && edx >> 8 & 1;
}

/* kHz by CPUID: the hypervisor's timing leaf (used by VMware and KVM), or leaf 15H. 0: not told. */
static uint64_t tsc_khz_cpuid(void)
{
    unsigned eax, ebx, ecx, edx;

    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx >> 31) {
        __cpuid(0x40000000, eax, ebx, ecx, edx);
        if (eax >= 0x40000010 && eax < 0x40001000) {
            __cpuid(0x40000010, eax, ebx, ecx, edx);
            if (eax)
                return eax;
        }
    }
    if (__get_cpuid_count(0x15, 0, &eax, &ebx, &ecx, &edx) && eax && ebx && ecx)
        return clock_muldiv(ecx, ebx, (uint64_t)eax * 1000);
    return 0;
}

struct sample {
    uint64_t tsc;
    int64_t ns;
};

/* One instant in both clocks: the closest of several attempts, since any may be interrupted. */
static struct sample take_sample(void)
{
    struct sample best = {0};
    uint64_t best_span = UINT64_MAX;

    for (int i = 0; i < 32; i++) {
        uint64_t before = host_tsc();
        int64_t ns = host_ns(CLOCK_MONOTONIC_RAW);
        uint64_t span = host_tsc() - before;

        if (span < best_span) {
            best_span = span;
            best = (struct sample){.tsc = before + span / 2, .ns = ns};
        }
    }
    return best;
}

static uint64_t tsc_khz_measure(void)
{
    const struct timespec pause = {.tv_nsec = 3000000};
    struct sample begin = take_sample(), end;

    do {
        nanosleep(&pause, NULL);
        end = take_sample();
    } while (end.ns - begin.ns < pause.tv_nsec);
    return clock_muldiv(end.tsc - begin.tsc, 1000000, end.ns - begin.ns);
}

/* ---- the epoch ---- */

static int64_t ticks_to_ns(const struct clock *clock, uint64_t ticks)
{
    unsigned __int128 ns = (unsigned __int128)ticks * clock->ns_per_tick >> 48;

    return ns > INT64_MAX ? INT64_MAX : (int64_t)ns;
}

/* Guest counter's ticks in so many of the counter's. */
static uint64_t ticks_to_tsc(const struct clock *clock, uint64_t ticks)
{
    if (clock->tsc_khz == clock->khz)
        return ticks;
    return (uint64_t)((unsigned __int128)ticks * clock->tsc_per_tick >> 48);
}

static int64_t tsc_to_ns(const struct clock *clock, uint64_t tsc)
{
    unsigned __int128 ns = (unsigned __int128)tsc * clock->ns_per_tsc >> 48;

    return ns > INT64_MAX ? INT64_MAX : (int64_t)ns;
}

/* Ticks since the epoch began. */
static uint64_t epoch_ticks(const struct clock *clock)
{
    const struct epoch *epoch = &clock->epoch;

    if (!atomic_load_explicit(&epoch->running, memory_order_relaxed))
        return 0;
    uint64_t begin = atomic_load_explicit(&epoch->counter, memory_order_relaxed);
    uint64_t now = counter_read(clock);
    /* Counters of two host CPUs may differ by a little. */
    return now > begin ? now - begin : 0;
}

void clock_sample(const struct clock *clock, int64_t *now_ns, uint64_t *tsc)
{
    const struct epoch *epoch = &clock->epoch;
    uint32_t sequence;

    do {
        sequence = atomic_load_explicit(&epoch->sequence, memory_order_acquire);
        uint64_t ticks = epoch_ticks(clock);
        *now_ns =
            atomic_load_explicit(&epoch->now_ns, memory_order_relaxed) + ticks_to_ns(clock, ticks);
        *tsc = atomic_load_explicit(&epoch->tsc, memory_order_relaxed) + ticks_to_tsc(clock, ticks);
        atomic_thread_fence(memory_order_acquire);
    } while (sequence & 1 ||
             sequence != atomic_load_explicit(&epoch->sequence, memory_order_relaxed));
}

/* Begin a new epoch where the last one stands. The counter is read while readers are held off, so
 * that none of them has seen, or will see, a time beyond the change. */
static void epoch_change_locked(struct clock *clock, bool running, int64_t ns_shift,
                                uint64_t tsc_shift)
{
    struct epoch *epoch = &clock->epoch;

    atomic_fetch_add(&epoch->sequence, 1);
    uint64_t ticks = epoch_ticks(clock);
    atomic_fetch_add(&epoch->now_ns, ticks_to_ns(clock, ticks) + ns_shift);
    atomic_fetch_add(&epoch->tsc, ticks_to_tsc(clock, ticks) + tsc_shift);
    if (running && !atomic_load(&epoch->running))
        atomic_store(&epoch->counter, counter_read(clock));
    else
        atomic_fetch_add(&epoch->counter, ticks);
    atomic_store(&epoch->running, running);
    atomic_fetch_add(&epoch->sequence, 1);
}

int64_t clock_now(const struct clock *clock)
{
    int64_t now_ns;
    uint64_t tsc;

    clock_sample(clock, &now_ns, &tsc);
    return now_ns;
}

uint64_t clock_tsc(const struct clock *clock)
{
    int64_t now_ns;
    uint64_t tsc;

    clock_sample(clock, &now_ns, &tsc);
    return tsc;
}

bool clock_tsc_bias(const struct clock *clock, uint64_t *bias)
{
    const struct epoch *epoch = &clock->epoch;
    uint32_t sequence;
    bool running;

    if (clock->source != COUNTER_TSC || clock->tsc_khz != clock->khz)
        return false;
    do {
        sequence = atomic_load_explicit(&epoch->sequence, memory_order_acquire);
        running = atomic_load_explicit(&epoch->running, memory_order_relaxed);
        *bias = atomic_load_explicit(&epoch->tsc, memory_order_relaxed) -
                atomic_load_explicit(&epoch->counter, memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
    } while (sequence & 1 ||
             sequence != atomic_load_explicit(&epoch->sequence, memory_order_relaxed));
    return running;
}

int64_t clock_tsc_to_ns(const struct clock *clock, uint64_t tsc)
{
    int64_t now_ns;
    uint64_t now_tsc;

    clock_sample(clock, &now_ns, &now_tsc);
    int64_t distance = (int64_t)(tsc - now_tsc);
    if (distance < 0)
        return now_ns - tsc_to_ns(clock, -(uint64_t)distance);

    /* Rounded up: at that time the counter has reached `tsc`. */
    int64_t ahead = tsc_to_ns(clock, distance), ns;
    if (__builtin_add_overflow(ahead, 1, &ahead) || __builtin_add_overflow(now_ns, ahead, &ns))
        return INT64_MAX;
    return ns;
}

uint64_t clock_tsc_khz(const struct clock *clock)
{
    return clock->tsc_khz;
}

static void set_counter_khz(struct clock *clock, uint64_t khz)
{
    clock->khz = khz;
    clock->ns_per_tick = (uint64_t)(((unsigned __int128)1000000 << 48) / khz);
}

static bool is_near(uint64_t a, uint64_t b)
{
    return (a > b ? a - b : b - a) <= b / 1000;
}

void clock_set_tsc_khz(struct clock *clock, uint64_t khz)
{
    if (clock->source == COUNTER_TSC && is_near(khz, clock->khz))
        set_counter_khz(clock, khz);
    clock->tsc_khz = khz;
    clock->tsc_per_tick = (uint64_t)(((unsigned __int128)khz << 48) / clock->khz);
    clock->ns_per_tsc = (uint64_t)(((unsigned __int128)1000000 << 48) / khz);
}

uint32_t clock_epoch(const struct clock *clock)
{
    return atomic_load_explicit(&clock->epoch.sequence, memory_order_acquire);
}

int64_t clock_wall(const struct clock *clock)
{
    if (clock->source == COUNTER_MANUAL)
        return atomic_load(&clock->manual_wall_ns);
    return host_ns(CLOCK_REALTIME);
}

bool clock_is_running(const struct clock *clock)
{
    return atomic_load(&clock->epoch.running);
}

/* ---- the heap of timers ---- */

static bool timer_before(const struct clock_timer *a, const struct clock_timer *b)
{
    return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns : a->order < b->order;
}

static struct clock_timer *heap_at(const struct clock *clock, guint position)
{
    return clock->heap->pdata[position];
}

static void heap_place(struct clock *clock, struct clock_timer *timer, guint position)
{
    clock->heap->pdata[position] = timer;
    timer->position = position;
}

/* Put `timer` where it belongs, beginning at the free place `position`. */
static void heap_sift(struct clock *clock, struct clock_timer *timer, guint position)
{
    while (position > 0 && timer_before(timer, heap_at(clock, (position - 1) / 2))) {
        heap_place(clock, heap_at(clock, (position - 1) / 2), position);
        position = (position - 1) / 2;
    }
    for (;;) {
        guint child = 2 * position + 1;

        if (child >= clock->heap->len)
            break;
        if (child + 1 < clock->heap->len &&
            timer_before(heap_at(clock, child + 1), heap_at(clock, child)))
            child++;
        if (!timer_before(heap_at(clock, child), timer))
            break;
        heap_place(clock, heap_at(clock, child), position);
        position = child;
    }
    heap_place(clock, timer, position);
}

static void heap_remove(struct clock *clock, struct clock_timer *timer)
{
    guint position = timer->position;

    if (position == NOT_ARMED)
        return;
    timer->position = NOT_ARMED;
    struct clock_timer *last = g_ptr_array_steal_index(clock->heap, clock->heap->len - 1);
    if (last != timer)
        heap_sift(clock, last, position);
}

void clock_timer_arm(struct clock_timer *timer, int64_t deadline_ns)
{
    struct clock *clock = timer->clock;

    pthread_mutex_lock(&clock->lock);
    timer->deadline_ns = deadline_ns;
    timer->order = clock->arm_count++;
    if (timer->position == NOT_ARMED) {
        g_ptr_array_add(clock->heap, timer);
        timer->position = clock->heap->len - 1;
    }
    heap_sift(clock, timer, timer->position);
    if (timer->position == 0 && deadline_ns < clock->waits_for)
        pthread_cond_signal(&clock->wake);
    pthread_mutex_unlock(&clock->lock);
}

void clock_timer_disarm(struct clock_timer *timer)
{
    pthread_mutex_lock(&timer->clock->lock);
    heap_remove(timer->clock, timer);
    pthread_mutex_unlock(&timer->clock->lock);
}

struct clock_timer *clock_timer_create(struct clock *clock, const char *name, clock_timer_fn fn,
                                       void *opaque)
{
    struct clock_timer *timer = g_new0(struct clock_timer, 1);

    *timer = (struct clock_timer){
        .clock = clock, .name = name, .fn = fn, .opaque = opaque, .position = NOT_ARMED};
    return timer;
}

/* Whether a callback (of `timer`, or of any when NULL) runs on another thread. */
static bool callback_elsewhere_locked(const struct clock *clock, const struct clock_timer *timer)
{
    return clock->current && (!timer || clock->current == timer) &&
           !pthread_equal(clock->current_thread, pthread_self());
}

void clock_timer_destroy(struct clock_timer *timer)
{
    if (!timer)
        return;
    struct clock *clock = timer->clock;

    pthread_mutex_lock(&clock->lock);
    heap_remove(clock, timer);
    while (callback_elsewhere_locked(clock, timer))
        pthread_cond_wait(&clock->done, &clock->lock);
    pthread_mutex_unlock(&clock->lock);
    g_free(timer);
}

/* Run the first timer's callback with the lock dropped. The timer may be gone afterwards. */
static void run_first_locked(struct clock *clock)
{
    struct clock_timer *timer = heap_at(clock, 0);

    heap_remove(clock, timer);
    clock->current = timer;
    clock->current_thread = pthread_self();
    pthread_mutex_unlock(&clock->lock);
    timer->fn(timer->opaque);
    pthread_mutex_lock(&clock->lock);
    clock->current = NULL;
    pthread_cond_broadcast(&clock->done);
}

/* ---- the thread ---- */

static void wait_locked(struct clock *clock, int64_t now, int64_t deadline)
{
    int64_t ns = deadline - now;
    /* A day at most, so that the sum cannot overflow; waking for nothing is harmless. */
    int64_t until = host_ns(CLOCK_MONOTONIC) + MIN(ns, 86400 * NS_PER_SECOND);
    struct timespec host = {.tv_sec = until / NS_PER_SECOND, .tv_nsec = until % NS_PER_SECOND};

    clock->waits_for = deadline;
    pthread_cond_clockwait(&clock->wake, &clock->lock, CLOCK_MONOTONIC, &host);
    clock->waits_for = INT64_MIN;
}

static void *clock_thread(void *opaque)
{
    struct clock *clock = opaque;

    pthread_setname_np(pthread_self(), "clock");
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    thread_begin(THREAD_CLOCK);
    pthread_mutex_lock(&clock->lock);
    while (!clock->stop) {
        if (clock->heap->len == 0 || !clock_is_running(clock)) {
            clock->waits_for = INT64_MAX;
            pthread_cond_wait(&clock->wake, &clock->lock);
            clock->waits_for = INT64_MIN;
            continue;
        }
        int64_t now = clock_now(clock), deadline = heap_at(clock, 0)->deadline_ns;

        if (deadline <= now)
            run_first_locked(clock);
        else
            wait_locked(clock, now, deadline);
    }
    pthread_mutex_unlock(&clock->lock);
    return NULL;
}

/* ---- creation and control ---- */

static struct clock *clock_new(enum counter_source source, uint64_t khz)
{
    struct clock *clock = g_new0(struct clock, 1);

    clock->source = source;
    clock->waits_for = INT64_MIN;
    clock->stopped_ns = host_ns(CLOCK_MONOTONIC);
    set_counter_khz(clock, khz);
    clock_set_tsc_khz(clock, khz);
    clock->heap = g_ptr_array_new();
    pthread_mutex_init(&clock->lock, NULL);
    pthread_cond_init(&clock->wake, NULL);
    pthread_cond_init(&clock->done, NULL);
    return clock;
}

struct clock *clock_create(GError **error)
{
    bool tsc = tsc_is_invariant();
    uint64_t khz = tsc ? tsc_khz_cpuid() : 1000000;

    if (!khz)
        khz = tsc_khz_measure();
    struct clock *clock = clock_new(tsc ? COUNTER_TSC : COUNTER_MONOTONIC, khz);

    int failure = pthread_create(&clock->thread, NULL, clock_thread, clock);
    if (failure) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(failure),
                    "cannot start the clock's thread: %s", g_strerror(failure));
        clock_destroy(clock);
        return NULL;
    }
    clock->has_thread = true;
    return clock;
}

struct clock *clock_create_manual(int64_t wall_ns)
{
    struct clock *clock = clock_new(COUNTER_MANUAL, 1000000);

    atomic_store(&clock->manual_wall_ns, wall_ns);
    clock_resume(clock);
    return clock;
}

void clock_destroy(struct clock *clock)
{
    if (!clock)
        return;
    if (clock->has_thread) {
        pthread_mutex_lock(&clock->lock);
        clock->stop = true;
        pthread_cond_signal(&clock->wake);
        pthread_mutex_unlock(&clock->lock);
        pthread_join(clock->thread, NULL);
    }
    g_ptr_array_unref(clock->heap);
    pthread_cond_destroy(&clock->done);
    pthread_cond_destroy(&clock->wake);
    pthread_mutex_destroy(&clock->lock);
    g_free(clock);
}

static void set_running(struct clock *clock, bool running)
{
    pthread_mutex_lock(&clock->lock);
    if (clock_is_running(clock) != running) {
        epoch_change_locked(clock, running, 0, 0);
        if (!running)
            clock->stopped_ns = host_ns(CLOCK_MONOTONIC);
        pthread_cond_signal(&clock->wake);
    }
    while (!running && callback_elsewhere_locked(clock, NULL))
        pthread_cond_wait(&clock->done, &clock->lock);
    pthread_mutex_unlock(&clock->lock);
}

void clock_resume(struct clock *clock)
{
    set_running(clock, true);
}

void clock_pause(struct clock *clock)
{
    set_running(clock, false);
}

void clock_set(struct clock *clock, int64_t now_ns)
{
    pthread_mutex_lock(&clock->lock);
    epoch_change_locked(clock, clock_is_running(clock), now_ns - clock_now(clock), 0);
    pthread_mutex_unlock(&clock->lock);
}

int64_t clock_stopped_ns(const struct clock *clock)
{
    return clock->stopped_ns;
}

void clock_skip(struct clock *clock, int64_t ns)
{
    pthread_mutex_lock(&clock->lock);
    epoch_change_locked(clock, clock_is_running(clock), ns,
                        clock_muldiv((uint64_t)ns, clock->tsc_khz, 1000000));
    pthread_mutex_unlock(&clock->lock);
}

static void manual_move(struct clock *clock, int64_t ns)
{
    atomic_fetch_add(&clock->manual_counter, ns);
    atomic_fetch_add(&clock->manual_wall_ns, ns);
}

void clock_step(struct clock *clock, int64_t ns)
{
    int64_t target = clock_now(clock) + ns;

    if (!clock_is_running(clock)) {
        manual_move(clock, ns);
        return;
    }
    pthread_mutex_lock(&clock->lock);
    while (clock_is_running(clock) && clock->heap->len &&
           heap_at(clock, 0)->deadline_ns <= target) {
        int64_t ahead = heap_at(clock, 0)->deadline_ns - clock_now(clock);

        if (ahead > 0)
            manual_move(clock, ahead);
        run_first_locked(clock);
    }
    pthread_mutex_unlock(&clock->lock);
    manual_move(clock, target - clock_now(clock));
}
