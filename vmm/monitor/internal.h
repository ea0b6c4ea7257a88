// SPDX-License-Identifier: Apache-2.0
/*
 * The monitor's parts, for each other: its state, and the functions of one file that another calls.
 * Everything runs on the main thread.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "config/definition.h"
#include "vmm/control/method.h"
#include "vmm/monitor/calls.h"
#include "vmm/monitor/cgroup.h"
#include "vmm/monitor/clients.h"
#include "vmm/monitor/console.h"
#include "vmm/monitor/files.h"
#include "vmm/monitor/folder.h"
#include "vmm/monitor/jobs.h"
#include "vmm/monitor/log_file.h"
#include "vmm/monitor/nats.h"
#include "vmm/monitor/restart.h"
#include "vmm/monitor/upgrade.h"
#include "vmm/monitor/worker.h"

/* How the machine ended. */
struct verdict {
    bool known;
    int status;
    char *cause, *message;
};

struct monitor {
    GMainLoop *loop;
    struct clients *clients;
    struct definition *definition; /* NULL before "start" */
    struct folder *folder;
    struct files *files;
    struct nats *nats;
    struct cgroup *cgroup; /* NULL: none */
    struct worker *vmm;    /* NULL before "start" */
    struct calls *calls;
    struct jobs *jobs;
    const struct control_call *start; /* that is under way; NULL: none is */
    bool start_cancelled;
    struct change *change;             /* of options; NULL: none is under way */
    GPtrArray *plugs;                  /* devices on their way in or out; plug.c's */
    GPtrArray *killers;                /* of struct control_call *, which wait for the end */
    struct upgrade *upgrade;           /* NULL: none is under way */
    struct control_call *upgrade_call; /* that asked for it */
    bool standing;                     /* calls wait for its end */
    char *program;                     /* path of this program */
    char *started_in;                  /* working folder of the command that started the machine */
    struct console *console;           /* the line on stdio; NULL: none */
    bool detached;                     /* it lives on without its owner */
    struct log_file *log;              /* standard error, when that is a file of ours; or NULL */
    bool leaving;                      /* somebody asked for its end */
    bool lives;                        /* the guest began to run */
    gint64 born_us;                    /* when */
    struct restart restart;
    guint restart_source; /* 0: it is not being started again */
    guint stop_timer;     /* 0: the guest has all the time that it wants */
    gint64 stop_until_us; /* what that waits for */
    struct verdict verdict;
};

/* ---- life.c ---- */

/* A line with the time of day in the log of a machine that was let go. */
void monitor_note(const struct monitor *monitor, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* How this life ends; the first word counts. */
void monitor_decide(struct monitor *monitor, int status, const char *cause, const char *message);
/* An end that somebody wants, so that it is final. */
void monitor_leave(struct monitor *monitor, int status, const char *cause, const char *message);

/* The methods of these names. */
void life_handle_start(void *opaque, struct control_call *call);
void life_handle_console(void *opaque, struct control_call *call);

/* Close whatever this life had. Whoever waits for an answer hears `message`. */
void life_end(struct monitor *monitor, const char *message);

/* Give up the start that `call` asked for; false: it is none. */
bool life_cancel(struct monitor *monitor, const struct control_call *call);

/* When the machine has no life at the moment, whoever wants its end has it at once: true. */
bool life_leave(struct monitor *monitor, const char *cause);

/* What a vmm's worker calls for, with the monitor. */
extern const struct worker_ops life_worker_ops;
void life_on_log(void *opaque, const char *line);
/* The vmm's answer to a call that was forwarded. */
void life_on_answer(void *opaque, struct control_call *call, const struct rpc_message *answer);

/* ---- plug.c ---- */

/* "device.attach" and "device.detach". */
void monitor_handle_attach(void *opaque, struct control_call *call);
void monitor_handle_device_detach(void *opaque, struct control_call *call);
/* The vmm's notification "released". */
void plugs_released(struct monitor *monitor, json_t *params);
/* Whether a device is on its way in. */
bool plugs_come(const struct monitor *monitor);
/* An upgrade is over, whatever came of it: the vmm that has the machine now hears which devices are
 * to go. */
void plugs_renew(struct monitor *monitor);
/* Give up the work that `call` asked for; false: it is none of this kind. */
bool plugs_cancel(struct monitor *monitor, const struct control_call *call);
void plugs_forget_peer(struct monitor *monitor, const struct peer *peer);
/* The machine's life is over; while files and helpers are there. */
void plugs_fail(struct monitor *monitor, const char *message);

/* ---- change.c ---- */

/* "device.change" and "machine.change". */
void monitor_handle_change(void *opaque, struct control_call *call);
void change_forget_peer(struct monitor *monitor, const struct peer *peer);
/* The machine's life is over; while files and helpers are there. */
void change_end(struct monitor *monitor, const char *message);

/* ---- replace.c ---- */

/* The methods of these names. */
void monitor_handle_upgrade(void *opaque, struct control_call *call);
void monitor_handle_job_list(void *opaque, struct control_call *call);
void monitor_handle_job_cancel(void *opaque, struct control_call *call);
