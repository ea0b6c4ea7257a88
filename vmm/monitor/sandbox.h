// SPDX-License-Identifier: Apache-2.0
/*
 * The sandbox of a role: entered once, before the process reads the first byte that a guest, an
 * image or a peer wrote, and never left.
 *
 * What the host does not allow (namespaces in many containers) is left out and reported; what every
 * supported kernel has (no new privileges, seccomp) must succeed. The process must still have a
 * single thread: namespaces and Landlock are a thread's own.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

enum sandbox_role {
    SANDBOX_VMM,  /* runs a guest on descriptors that it was given; starts threads */
    SANDBOX_DUMP, /* reads one stream from descriptor 0 and prints to 1 and 2 */
    SANDBOX_NAT,  /* opens sockets of the host's network, reads who its resolvers are */
};

/* What is in force; `query` shows it. */
struct sandbox_report {
    bool namespaces; /* mount (an empty root), network, IPC, host name */
    int landlock;    /* version of its interface, 0: none */
    bool seccomp;
};

/* `kvm`: the process makes KVM's calls on an open /dev/kvm. */
bool sandbox_enter(enum sandbox_role role, bool kvm, struct sandbox_report *report, GError **error);

/* If `line` is what a process (of `role`: "vmm") wrote as it died of a forbidden system call, the
 * sentence with the call's name; else NULL. The caller frees it. */
char *sandbox_explain(const char *role, const char *line);
