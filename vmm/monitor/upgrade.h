// SPDX-License-Identifier: Apache-2.0
/*
 * Another vmm in the place of the one that runs: of a newer version of the program, or with another
 * engine. The steps are told in vmm/handover.c.
 *
 * The old one has the machine until the new one has loaded its state; up to there any failure ends
 * the new one, and the old one goes on.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "config/definition.h"
#include "vmm/monitor/files.h"
#include "vmm/monitor/worker.h"

struct upgrade;

struct upgrade_config {
    const struct definition *definition; /* of the machine */
    const char *folder;                  /* that its relative paths are relative to */
    struct files *files;
    struct worker *old;
    const char *program; /* to start; copied */
    const char *engine;  /* NULL: the one that runs; copied */

    /* One line of the new vmm's standard error. */
    void (*log)(void *opaque, const char *line);
    /* The guest is about to stand still: what is asked of its vmm now must wait for `ended`. */
    void (*standing)(void *opaque);
    /* The new one has the machine, and belongs to the callee, with its definition. The old one is
     * still the callee's, and of no use any more. */
    void (*switched)(void *opaque, struct worker *fresh, struct definition *definition);
    /* It has done `done` of `total` steps. NULL: nobody asks. */
    void (*progress)(void *opaque, unsigned done, unsigned total);
    /* The last call; upgrade_destroy is due and allowed in here. With a failure the old one goes
     * on, unless it was switched; `code` is the failure's. `result` is borrowed. */
    void (*ended)(void *opaque, json_t *result, int code, const char *failure);
    void *opaque;
};

/* Begin; none of the calls comes from in here. NULL and CONFIG_ERROR_FAILED on failure. */
struct upgrade *upgrade_create(const struct upgrade_config *config, GError **error);
/* Stop it, and let the old one go on; `ended` comes from in here. False: it is too late. */
bool upgrade_cancel(struct upgrade *upgrade);
/* NULL is fine. One that has not ended is given up. */
void upgrade_destroy(struct upgrade *upgrade);
