// SPDX-License-Identifier: Apache-2.0
/*
 * Kinds of threads of a vmm. A thread says what it is before it does anything, so that a sandbox
 * can hold it to what its kind does (docs/security.md). Threads that it starts in turn are held to
 * the same.
 */
#pragma once

enum thread_kind {
    THREAD_MAIN,    /* control */
    THREAD_VCPU,    /* guest code, register handlers of devices */
    THREAD_CLOCK,   /* timer callbacks of devices and local APICs */
    THREAD_IO,      /* back ends of disks and networks, with its pool */
    THREAD_CHARDEV, /* one character device */
    THREAD_SAVE,    /* the RAM of a paused machine */
    THREAD_KINDS,
};

/* The calling thread is of this kind from now on. Called once a thread, THREAD_MAIN excepted. */
void thread_begin(enum thread_kind kind);

/* Have `guard` called by each thread_begin from now on, on the thread itself; NULL: nobody. While
 * the process has one thread. */
void thread_set_guard(void (*guard)(enum thread_kind kind));
