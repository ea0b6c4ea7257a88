// SPDX-License-Identifier: Apache-2.0
/*
 * What the files of the vmm role share.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "config/definition.h"
#include "vmm/attachments.h"
#include "vmm/control/gdb.h"
#include "vmm/control/method.h"
#include "vmm/guest.h"
#include "vmm/machine/machine.h"
#include "vmm/monitor/sandbox.h"

struct vmm {
    GMainLoop *loop;
    struct peer *link; /* to the monitor */
    struct definition *definition;
    char *folder; /* that its relative paths are relative to; NULL: not known */
    struct attachments attachments;
    struct sandbox_report sandbox;
    const struct engine_ops *engine;
    const char *why; /* this engine; static */
    struct engine_debug debug;
    struct loop *io;
    struct machine *machine;
    struct gdb_server *debugger; /* NULL: none is awaited */
    struct guest *guest;         /* its agent; NULL: it has no port for one */
    gint64 started_us;           /* monotonic; when the guest was started, by whatever vmm */
    bool quiet;                  /* changes of the machine's state are our own affair */
    bool resumes;                /* handed over: the machine ran before */
    int64_t began_ns;            /* handed over: CLOCK_MONOTONIC when we began to stop it */
    bool described;              /* another vmm is being made like this one */
    struct vmm_save *save;       /* of the machine's state that is under way; NULL: none */
    struct control_call *start;  /* "vmm.start", while the machine is made; else NULL */
    int64_t told_us;             /* monotonic; when it was last told how far that is */
};

/* Tell an event; takes `details`. */
void vmm_tell(struct vmm *vmm, const char *type, json_t *details);

/* Await a debugger, if the definition says so. */
void vmm_await_debugger(struct vmm *vmm);

/* What the machine is made of, as JSON text for free(3): a choice that was left to the host
 * ("default", "auto") is told as it fell, since another host would choose anew, and paths are
 * absolute. */
char *vmm_effective_definition(const struct vmm *vmm);

/* ---- plug.c: disks and network cards ---- */

/* As the machine wants to know them; what it points to is the definition's and the attachments'. */
struct machine_disk vmm_disk(const struct vmm *vmm, unsigned index);
struct machine_nic vmm_nic(const struct vmm *vmm, unsigned index);
void vmm_handle_attach(void *vmm, struct control_call *call);
void vmm_handle_detach(void *vmm, struct control_call *call);
void vmm_handle_keep(void *vmm, struct control_call *call);
/* For the machine's listener. */
void vmm_on_released(void *vmm, const char *id);

/* ---- change.c: "vmm.change" ---- */

void vmm_handle_change(void *vmm, struct control_call *call);
/* The machine's policies, by the definition. */
enum machine_on_reboot vmm_reboot_policy(const struct definition *definition);
enum machine_on_crash vmm_crash_policy(const struct definition *definition);

/* ---- save.c: "state.save" ---- */

/* Once, at the process's start. */
void vmm_save_prepare(void);
void vmm_handle_save(void *vmm, struct control_call *call);
/* "vmm.cancel", of work that lasts. */
void vmm_handle_cancel(void *vmm, struct control_call *call);

/* ---- metrics.c: "metrics" ---- */

void vmm_handle_metrics(void *vmm, struct control_call *call);

/* ---- handover.c: what the monitor asks of a vmm that goes, and of one that comes ---- */

void handover_describe(void *vmm, struct control_call *call);
void handover_pause(void *vmm, struct control_call *call);
void handover_cancel(void *vmm, struct control_call *call);
void handover_load(void *vmm, struct control_call *call);
void handover_go(void *vmm, struct control_call *call);
