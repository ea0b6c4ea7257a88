// SPDX-License-Identifier: Apache-2.0
/*
 * The control protocol as tables: every method with its parameters and its result, every event,
 * every error code.
 *
 * The dispatcher holds requests, results and events to these tables; the method
 * "protocol.describe" tells them to clients as JSON Schema (json-schema.org, draft 2020-12), and
 * anima-protocol(7) is printed from them. So none of these can say something else than the others.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#define CONTROL_FREEZE_MAX 3600 /* seconds that a guest's file systems may stay frozen */

/* What a connection was granted. */
enum control_access {
    CONTROL_OBSERVE = 1, /* look */
    CONTROL_OPERATE = 2, /* change what runs */
    CONTROL_OWN = 4,     /* the connection that started the machine */
    CONTROL_LEAD = 8,    /* the monitor, to its vmm; not told to clients */
};

enum control_type {
    CONTROL_BOOL,
    CONTROL_INT,
    CONTROL_TEXT,
    CONTROL_LIST,   /* of `entry` */
    CONTROL_MAP,    /* an object with any keys; each value is an `entry` */
    CONTROL_OBJECT, /* with these `fields` and no others */
};

/* A parameter, or a member of a result or an event. */
struct control_field {
    const char *name; /* NULL ends a list of fields, and stands in an `entry` */
    enum control_type type;
    bool required;
    const char *about;                  /* a phrase */
    json_int_t min, max;                /* INT: inclusive; both 0: any */
    const char *const *choices;         /* TEXT: NULL-terminated; NULL: any */
    const struct control_field *entry;  /* LIST, MAP: what each is; NULL: anything */
    const struct control_field *fields; /* OBJECT; NULL: any members */
};

struct control_method {
    const char *name;
    const char *about; /* sentences */
    enum control_access access;
    bool in_vmm;               /* answered by the vmm; the monitor forwards it */
    bool lasting;              /* it may take long: its progress is told, and it can be cancelled */
    unsigned fds_min, fds_max; /* descriptors beside the line */
    const char *fds_about;     /* what they are; NULL: there are none */
    const struct control_field *params; /* never NULL */
    const struct control_field *result; /* NULL: between our own processes, and not described */
};

struct control_event {
    const char *name;
    const char *about;
    const struct control_field *fields; /* beside "seq", "type", "time" */
    bool in_vmm;                        /* a vmm may tell it */
    /* A guest, or much work, can cause any number of it: in the history it gives way before what
     * tells of the machine's state. */
    bool frequent;
};

struct control_code {
    int code;
    const char *name;
    const char *about;
};

/* Each ends with a row without name. */
extern const struct control_method control_methods[];
extern const struct control_event control_events[];
extern const struct control_code control_codes[];

const struct control_method *control_method_find(const char *name);
const struct control_event *control_event_find(const char *name);

/* Check that `object` is an object (NULL: one without members), and its members against `fields`.
 * False sets an RPC_ERROR_INVALID_PARAMS; where it is a member's fault, the phrase begins with its
 * name, and *at (unless NULL) is set to that name, which the caller frees. */
bool control_fields_check(const struct control_field *fields, json_t *object, char **at,
                          GError **error);

/* What "protocol.describe" answers: methods but those of CONTROL_LEAD, events, error codes. */
json_t *control_describe(void);
