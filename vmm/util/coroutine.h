// SPDX-License-Identifier: Apache-2.0
/*
 * Coroutines: functions on stacks of their own, which give up the thread where they would wait, so
 * that a driver of an image format is written as straight lines.
 *
 * A coroutine belongs to the thread that started it, and only runs there. It runs on top of whoever
 * started or resumed it, who goes on when it suspends itself or ends. While one runs, another may
 * be started or resumed from it; they nest as calls do.
 */
#pragma once

#include <stdbool.h>

struct coroutine;

/* Stacks of one thread; those of coroutines that have ended are used again. Any thread may create
 * and destroy it, when no coroutine of it lives. */
struct coroutine_pool;

struct coroutine_pool *coroutine_pool_create(void);
/* NULL is fine. */
void coroutine_pool_destroy(struct coroutine_pool *pool);

/* Run `function` until it suspends itself for the first time, or ends. false, and nothing ran, when
 * the host has no memory for a stack. */
bool coroutine_start(struct coroutine_pool *pool, void (*function)(void *opaque), void *opaque);

/* The one that runs on this thread, NULL outside of all. */
struct coroutine *coroutine_self(void);

/* Give up the thread until somebody resumes the caller. Only inside of a coroutine. */
void coroutine_suspend(void);

/* Go on with one that is suspended, on the thread that started it; returns when it suspends itself
 * again, or has ended and its pointer is dead. */
void coroutine_resume(struct coroutine *coroutine);

/* ---- waiting for each other ---- */

/* Coroutines of one thread that wait, oldest first. All zero is an empty one. */
struct coroutine_queue {
    struct coroutine *first, *last;
};

/* Wait at its end. */
void coroutine_queue_wait(struct coroutine_queue *queue);
/* Resume the oldest; false when there is none. */
bool coroutine_queue_wake(struct coroutine_queue *queue);
/* Resume all that wait now. */
void coroutine_queue_wake_all(struct coroutine_queue *queue);

/* A lock of coroutines of one thread, handed on in the order of asking. All zero is a free one. */
struct coroutine_lock {
    bool held;
    struct coroutine_queue waiting;
};

void coroutine_lock(struct coroutine_lock *lock);
void coroutine_unlock(struct coroutine_lock *lock);
