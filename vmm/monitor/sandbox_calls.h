// SPDX-License-Identifier: Apache-2.0
/*
 * The system calls of each role and kind of thread, in one table: a row is a call, with who makes
 * it and, where it has an argument that decides, what that is held to. What is in no row is
 * refused.
 *
 * To give a part of the vmm a further call: find the thread it runs on in docs/architecture.md
 * ("Threads"), and add the call's row or that thread's SANDBOX_BY_ bit to it. The rows of a call
 * are alternatives. What one of the vmm's threads may, its main thread may, from which all others
 * are made. tests/unit/sandbox_libc.c tells whether a new function of the C library works there.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/monitor/sandbox.h"
#include "vmm/util/thread.h"

/* Who makes a call, as a set. */
enum sandbox_caller {
    SANDBOX_BY_MAIN = 1 << 0, /* the vmm's threads */
    SANDBOX_BY_VCPU = 1 << 1,
    SANDBOX_BY_CLOCK = 1 << 2,
    SANDBOX_BY_IO = 1 << 3,
    SANDBOX_BY_CHARDEV = 1 << 4,
    SANDBOX_BY_SAVE = 1 << 5,
    SANDBOX_BY_DUMP = 1 << 8, /* the other roles */
    SANDBOX_BY_NAT = 1 << 9,
    SANDBOX_BY_OSINFO = 1 << 10,
    SANDBOX_BY_SWITCH = 1 << 11,
    SANDBOX_BY_PACKAGE = 1 << 12,
};

struct sandbox_call {
    int number;  /* as libseccomp knows it */
    unsigned by; /* set of enum sandbox_caller */
    bool kvm;    /* only on that engine */
    /* `checks`: (argument & mask) == value, or `below`: argument < value, by its index; else the
     * call may have any. */
    bool checks, below;
    uint8_t argument;
    uint64_t mask, value;
};

extern const struct sandbox_call sandbox_calls[];
extern const unsigned sandbox_call_count;

/* Calls that libraries try and do without: they fail with `error`, and nothing is said of it. */
struct sandbox_absent {
    int number, error;
};

extern const struct sandbox_absent sandbox_absent[];
extern const unsigned sandbox_absent_count;

/* Calls that take a path, which libraries make at moments of their own choice (an allocator that
 * trims its heap reads a file in /proc): they fail, name themselves, and the process goes on. */
bool sandbox_call_takes_path(int number);

/* The first system call that these tables do not know. From it on they fail with ENOSYS as on a
 * kernel that is older, so that a newer C library does what it did there. */
#define SANDBOX_FIRST_UNKNOWN 451
