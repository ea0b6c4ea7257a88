// SPDX-License-Identifier: Apache-2.0
/*
 * GLib's locks for ThreadSanitizer. They are built on futexes inside of a library that is not
 * instrumented, so the sanitizer would call everything below them a race. In a build with it, these
 * definitions come before the library's and tell it what a lock orders. In no other build.
 */
#include <dlfcn.h>
#include <glib.h>

void __tsan_acquire(void *address);
void __tsan_release(void *address);

#define NEXT(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

void(g_mutex_lock)(GMutex *mutex)
{
    static __typeof__(&g_mutex_lock) next;

    if (!__atomic_load_n(&next, __ATOMIC_RELAXED))
        __atomic_store_n(&next, NEXT(g_mutex_lock), __ATOMIC_RELAXED);
    __atomic_load_n(&next, __ATOMIC_RELAXED)(mutex);
    __tsan_acquire(mutex);
}

gboolean(g_mutex_trylock)(GMutex *mutex)
{
    gboolean locked = NEXT(g_mutex_trylock)(mutex);

    if (locked)
        __tsan_acquire(mutex);
    return locked;
}

void(g_mutex_unlock)(GMutex *mutex)
{
    static __typeof__(&g_mutex_unlock) next;

    if (!__atomic_load_n(&next, __ATOMIC_RELAXED))
        __atomic_store_n(&next, NEXT(g_mutex_unlock), __ATOMIC_RELAXED);
    __tsan_release(mutex);
    __atomic_load_n(&next, __ATOMIC_RELAXED)(mutex);
}

void(g_cond_wait)(GCond *cond, GMutex *mutex)
{
    __tsan_release(mutex);
    NEXT(g_cond_wait)(cond, mutex);
    __tsan_acquire(mutex);
}

gboolean(g_cond_wait_until)(GCond *cond, GMutex *mutex, gint64 end_time)
{
    __tsan_release(mutex);
    gboolean signalled = NEXT(g_cond_wait_until)(cond, mutex, end_time);
    __tsan_acquire(mutex);
    return signalled;
}
