// SPDX-License-Identifier: Apache-2.0
/*
 * The processes of a machine. Each is this same program in another role, or a helper's program,
 * with four descriptors: nothing on 0 and 1, a pipe to the monitor on 2, and its control connection
 * on PROCESS_LINK_FD. It dies with the monitor.
 */
#pragma once

#include <glib.h>
#include <sys/types.h>

#define PROCESS_LINK_FD 3

struct process;

struct process_ops {
    /* One line that the process wrote to its standard error, cut at 4 KiB. */
    void (*log)(void *opaque, const char *line);
    /* It has ended (waitpid's status) and all that it wrote has been told. */
    void (*ended)(void *opaque, int wait_status);
};

/* Start `program` (NULL: the very file that this process runs, even when its path has another by
 * now) with the argument `role`. `*link_fd` gets the other end of its control connection. NULL and
 * CONFIG_ERROR_FAILED on failure. Callbacks come from the default main context. */
struct process *process_spawn(const char *role, const char *program, const struct process_ops *ops,
                              void *opaque, int *link_fd, GError **error);

/* Start `role` of this program so that it lives on without us, in a session of its own and with
 * nothing but its end of a connection on PROCESS_LINK_FD. Returns the other end; -1 and
 * CONFIG_ERROR_FAILED. */
int process_spawn_apart(const char *role, GError **error);

/* In a child that is to become a process without a pipe for its words: nothing but `link` is left,
 * on PROCESS_LINK_FD, and `nothing` (/dev/null) on 0, 1 and 2. Only calls that are safe there. */
void process_keep_link(int link, int nothing);

/* The path of the program `file` beside this one; NULL when it is not there. */
char *process_program(const char *file);

pid_t process_pid(const struct process *process);

/* Kill it if it lives, wait for it, and free; no callback comes any more. NULL is fine. */
void process_destroy(struct process *process);

/* Kill it; `ended` follows. */
void process_kill(struct process *process);
