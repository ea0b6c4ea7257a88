// SPDX-License-Identifier: Apache-2.0
/*
 * The two processes that import and export packages; both are roles of anima-import.
 *
 * The *worker* is what libanima starts and asks: it has the user's rights, opens and makes every
 * file, and reads nothing that a stranger wrote. The *package* process does that, in a sandbox, on
 * descriptors that the worker sends it. Both talk in JSON lines over Unix sockets, the worker with
 * libanima as a machine's monitor does (JSON-RPC), with the package process by messages of their
 * own:
 *
 *     {"do": "read", "descriptor", "name", "keep_macs"}  fds: package, manifest if there is one
 *         {"read": {"yaml", "lost", "files"}}
 *     {"do": "file", "index"}                            fds: target, source if it is no archive
 *     {"do": "copy", "room"}                             {"progress": [done, total]}, {"copied":
 * {}}
 *
 *     {"do": "pack", ...} as pack.h has it
 *     {"do": "part", "index"}                            fd
 *     {"do": "out", "index"}                             fd
 *     {"do": "write"}                                    progress, {"written": {"lost"}}
 *
 * A fault is {"error": TEXT, "usage": whether the file is to blame}.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* The program's roles; each returns its exit status. */
int package_run(void);
int worker_run(void);

/* ---- the worker's parts ---- */

struct helper;

/* The sandboxed process. `ops` come from the default main context; after one of `failed` and
 * destruction none comes. */
struct helper_ops {
    /* The answer called `what`: "read", "copied", "written". */
    void (*answer)(void *opaque, const char *what, const json_t *content);
    void (*progress)(void *opaque, uint64_t done, uint64_t total);
    /* What it complained about, or that it has gone. */
    void (*failed)(void *opaque, const GError *error);
};

struct helper *helper_create(const struct helper_ops *ops, void *opaque, GError **error);
/* Kills it. NULL is fine. */
void helper_destroy(struct helper *helper);
/* Send a message, taken over; duplicates of `fds` go beside it. */
void helper_send(struct helper *helper, json_t *message, const int *fds, unsigned count);

/* What a job tells the worker; each of the last two once, and destroys the job later. */
struct job_ops {
    void (*progress)(uint64_t done, uint64_t total);
    void (*finished)(json_t *result); /* taken over */
    void (*failed)(GError *error);    /* taken over */
};

struct job_kind {
    const char *method;
    /* Begin; NULL and an error. */
    void *(*begin)(const json_t *params, const struct job_ops *ops, GError **error);
    /* Stop it if it is not finished; nothing is left of it then. */
    void (*destroy)(void *job);
};

extern const struct job_kind import_job, export_job;
