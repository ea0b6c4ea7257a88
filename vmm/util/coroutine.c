// SPDX-License-Identifier: Apache-2.0
/*
 * Coroutines on stacks with a page before them that nobody may touch, so that one that grows too
 * long ends the process instead of writing into a neighbour.
 *
 * Sanitizers keep books about stacks: they are told of each switch.
 */
#include "vmm/util/coroutine.h"

#include <glib.h>
#include <stdint.h>
#include <sys/mman.h>

#define STACK_SIZE (128U << 10)
#define GUARD_SIZE 4096U
#define KEPT_MAX   256U /* stacks that wait for their next use */

#if defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define HAS_TSAN 1
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define HAS_TSAN 1
#endif
#endif

/* Somebody who runs: a coroutine, or what a thread does outside of all. */
struct context {
    void *sp;          /* while it does not run */
    const void *stack; /* its lower end and size; of a thread as ASan tells them */
    size_t size;
    void *fake_stack; /* ASan's, while it does not run */
    void *fiber;      /* TSan's */
};

struct coroutine {
    struct context context;
    struct coroutine_pool *pool;
    struct context *resumer; /* on top of whom it runs */
    struct coroutine *below; /* ...if that is one, NULL otherwise */
    struct coroutine *next;  /* in the pool's list, or in a queue */
    void (*function)(void *opaque);
    void *opaque;
    bool ended;
};

struct coroutine_pool {
    struct coroutine *kept;
    unsigned count;
};

static __thread struct coroutine *running;
static __thread struct context outside;

void coroutine_switch(void **from, void *to);
extern const char coroutine_begin[];

/* ---- what sanitizers are told ---- */

#ifdef HAS_ASAN
void __asan_unpoison_memory_region(const volatile void *address, size_t size);
void __sanitizer_start_switch_fiber(void **fake_stack, const void *stack, size_t size);
void __sanitizer_finish_switch_fiber(void *fake_stack, const void **stack, size_t *size);
#endif
#ifdef HAS_TSAN
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
#endif

/* Nothing is left of the frames that were on the stack: they were left, not returned from. */
static void clear_frames(const struct context *context)
{
#ifdef HAS_ASAN
    __asan_unpoison_memory_region(context->stack, context->size);
#endif
}

static void leave(struct context *from, const struct context *to, bool for_ever)
{
#ifdef HAS_ASAN
    __sanitizer_start_switch_fiber(for_ever ? NULL : &from->fake_stack, to->stack, to->size);
#endif
#ifdef HAS_TSAN
    if (from == &outside)
        from->fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to->fiber, 0);
#endif
}

/* `self` runs (again), after `from` has left. */
static void arrive(struct context *self, struct context *from)
{
#ifdef HAS_ASAN
    const void *stack;
    size_t size;

    __sanitizer_finish_switch_fiber(self->fake_stack, &stack, &size);
    if (from == &outside) {
        outside.stack = stack;
        outside.size = size;
    }
#endif
}

static void switch_to(struct context *from, struct context *to, bool for_ever)
{
    leave(from, to, for_ever);
    coroutine_switch(&from->sp, to->sp);
}

/* ---- stacks ---- */

static void fiber_create(struct context *context)
{
#ifdef HAS_TSAN
    context->fiber = __tsan_create_fiber(0);
#endif
}

static void fiber_destroy(struct context *context)
{
#ifdef HAS_TSAN
    __tsan_destroy_fiber(context->fiber);
#endif
}

static struct coroutine *stack_create(struct coroutine_pool *pool)
{
    size_t size = GUARD_SIZE + STACK_SIZE;
    uint8_t *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

    if (memory == MAP_FAILED)
        return NULL;
    if (mprotect(memory, GUARD_SIZE, PROT_NONE) != 0) {
        munmap(memory, size);
        return NULL;
    }
    struct coroutine *coroutine = g_new0(struct coroutine, 1);
    coroutine->pool = pool;
    coroutine->context.stack = memory + GUARD_SIZE;
    coroutine->context.size = STACK_SIZE;
    fiber_create(&coroutine->context);
    return coroutine;
}

static void stack_destroy(struct coroutine *coroutine)
{
    uint8_t *memory = (uint8_t *)coroutine->context.stack - GUARD_SIZE;

    fiber_destroy(&coroutine->context);
    munmap(memory, GUARD_SIZE + STACK_SIZE);
    g_free(coroutine);
}

static struct coroutine *stack_take(struct coroutine_pool *pool)
{
    struct coroutine *coroutine = pool->kept;

    if (!coroutine)
        return stack_create(pool);
    pool->kept = coroutine->next;
    pool->count--;
    return coroutine;
}

static void stack_give(struct coroutine *coroutine)
{
    struct coroutine_pool *pool = coroutine->pool;

    if (pool->count == KEPT_MAX) {
        stack_destroy(coroutine);
        return;
    }
    coroutine->next = pool->kept;
    pool->kept = coroutine;
    pool->count++;
}

struct coroutine_pool *coroutine_pool_create(void)
{
    return g_new0(struct coroutine_pool, 1);
}

void coroutine_pool_destroy(struct coroutine_pool *pool)
{
    if (!pool)
        return;
    while (pool->kept) {
        struct coroutine *next = pool->kept->next;
        stack_destroy(pool->kept);
        pool->kept = next;
    }
    g_free(pool);
}

/* ---- running ---- */

static void give_back(struct coroutine *self, bool for_ever)
{
    struct context *resumer = self->resumer;

    running = self->below;
    switch_to(&self->context, resumer, for_ever);
}

static void body(struct coroutine *self)
{
    arrive(&self->context, self->resumer);
    self->function(self->opaque);
    self->ended = true;
    give_back(self, true);
}

/* The words that coroutine_switch takes from the stack: r15, r14, r13, r12, rbx, rbp, and where it
 * returns to; the stack is aligned then as at a call. */
static void prepare(struct coroutine *coroutine)
{
    void **top = (void **)((uint8_t *)coroutine->context.stack + STACK_SIZE) - 9;

    clear_frames(&coroutine->context);
    top[0] = top[1] = top[2] = top[5] = NULL;
    top[3] = coroutine;
    top[4] = (void *)(uintptr_t)body;
    top[6] = (void *)(uintptr_t)coroutine_begin;
    coroutine->context.sp = top;
    coroutine->context.fake_stack = NULL;
    coroutine->ended = false;
}

void coroutine_resume(struct coroutine *coroutine)
{
    struct context *self = running ? &running->context : &outside;

    coroutine->resumer = self;
    coroutine->below = running;
    running = coroutine;
    switch_to(self, &coroutine->context, false);
    arrive(self, &coroutine->context);
    if (coroutine->ended)
        stack_give(coroutine);
}

bool coroutine_start(struct coroutine_pool *pool, void (*function)(void *opaque), void *opaque)
{
    struct coroutine *coroutine = stack_take(pool);

    if (!coroutine)
        return false;
    coroutine->function = function;
    coroutine->opaque = opaque;
    prepare(coroutine);
    coroutine_resume(coroutine);
    return true;
}

struct coroutine *coroutine_self(void)
{
    return running;
}

void coroutine_suspend(void)
{
    struct coroutine *self = running;

    give_back(self, false);
    arrive(&self->context, self->resumer);
}

/* ---- queues and locks ---- */

void coroutine_queue_wait(struct coroutine_queue *queue)
{
    struct coroutine *self = running;

    self->next = NULL;
    if (queue->first)
        queue->last->next = self;
    else
        queue->first = self;
    queue->last = self;
    coroutine_suspend();
}

bool coroutine_queue_wake(struct coroutine_queue *queue)
{
    struct coroutine *oldest = queue->first;

    if (!oldest)
        return false;
    queue->first = oldest->next;
    coroutine_resume(oldest);
    return true;
}

void coroutine_queue_wake_all(struct coroutine_queue *queue)
{
    struct coroutine_queue now = *queue;

    *queue = (struct coroutine_queue){0};
    while (coroutine_queue_wake(&now))
        ;
}

void coroutine_lock(struct coroutine_lock *lock)
{
    if (lock->held)
        coroutine_queue_wait(&lock->waiting);
    lock->held = true;
}

/* Whoever waits is given it without its becoming free in between. */
void coroutine_unlock(struct coroutine_lock *lock)
{
    if (!coroutine_queue_wake(&lock->waiting))
        lock->held = false;
}
