// SPDX-License-Identifier: Apache-2.0
/*
 * Read-copy-update for tables that vCPU threads read without a lock: the memory map and the buses.
 *
 * The flavour is liburcu-memb: a reader runs no barrier, the writer has the kernel run one on every
 * thread (membarrier(2)); where the kernel refuses that call, liburcu falls back to barriers. It
 * wants every reading thread registered; here a thread is registered at its first read and taken
 * off when it ends, so nobody has to think of it. Sections nest. Neither section nor grace period
 * may be used in a signal handler.
 *
 * A reader loads the table's pointer with rcu_load; a writer stores a new one with rcu_store, calls
 * rcu_wait_for_readers and frees the old one.
 */
#pragma once

#include <stdbool.h>

#if defined(__SANITIZE_THREAD__)
#define RCU_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RCU_TSAN 1
#endif
#endif

#if !defined(RCU_TSAN) && !defined(_LGPL_SOURCE)
#define _LGPL_SOURCE /* inlines the read side */
#endif
#include <urcu/urcu-memb.h>

#define rcu_load(pointer)         __atomic_load_n((pointer), __ATOMIC_ACQUIRE)
#define rcu_store(pointer, value) __atomic_store_n((pointer), (value), __ATOMIC_RELEASE)

extern _Thread_local bool rcu_reader_registered;

/* Register the calling thread until it ends. Only rcu_reader_lock calls this. */
void rcu_reader_register(void);

/* ThreadSanitizer does not see into liburcu: tell it what a grace period orders. */
#ifdef RCU_TSAN
extern char rcu_tsan_tag;
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define RCU_TSAN_RELEASE() __tsan_release(&rcu_tsan_tag)
#define RCU_TSAN_ACQUIRE() __tsan_acquire(&rcu_tsan_tag)
#else
#define RCU_TSAN_RELEASE() ((void)0)
#define RCU_TSAN_ACQUIRE() ((void)0)
#endif

static inline void rcu_reader_lock(void)
{
    if (__builtin_expect(!rcu_reader_registered, 0))
        rcu_reader_register();
    urcu_memb_read_lock();
}

static inline void rcu_reader_unlock(void)
{
    RCU_TSAN_RELEASE();
    urcu_memb_read_unlock();
}

/* The calling thread is inside a read section. */
static inline bool rcu_reader_ongoing(void)
{
    return urcu_memb_read_ongoing();
}

/* Return when every read section that runs now has ended. Never from inside one. */
static inline void rcu_wait_for_readers(void)
{
    urcu_memb_synchronize_rcu();
    RCU_TSAN_ACQUIRE();
}
