// SPDX-License-Identifier: Apache-2.0
/*
 * The machine's part in what is asked of its guest by the agent there: the methods "guest.*", and
 * what the machine's pauses, restarts and changes of its vmm mean for them.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "vmm/control/method.h"
#include "vmm/machine/machine.h"

struct guest;
struct vmm;

/* Before the sandbox closes. *far is the end for the port's character device. */
struct guest *guest_create(struct vmm *vmm, int *far, GError **error);
/* Whoever waits for an answer hears that the vmm ends. NULL is fine, as it is below. */
void guest_destroy(struct guest *guest);

void guest_machine_changed(struct guest *guest, enum machine_state state);
/* The guest begins anew. */
void guest_restarted(struct guest *guest);
/* The machine has ended, as a guest may have been asked to let it. */
void guest_ended(struct guest *guest);
/* The machine goes on from a saved state. */
void guest_restored(struct guest *guest);

/* Another vmm takes over: whoever waits for an answer hears that, but for a command that runs in
 * the guest. The failure of that has what "vmm.guest-watch" takes as its data. */
void guest_leave(struct guest *guest);
/* For it: milliseconds until the guest is thawed, negative when it is not frozen. */
int64_t guest_frozen_ms(const struct guest *guest);
void guest_adopt(struct guest *guest, int64_t frozen_ms);

/* Cancel the call with this id, if it is one of these methods. */
bool guest_cancel(struct guest *guest, const json_t *id);

/* The methods of these names. */
void guest_handle_info(void *vmm, struct control_call *call);
void guest_handle_addresses(void *vmm, struct control_call *call);
void guest_handle_exec(void *vmm, struct control_call *call);
void guest_handle_watch(void *vmm, struct control_call *call);
void guest_handle_freeze(void *vmm, struct control_call *call);
void guest_handle_thaw(void *vmm, struct control_call *call);
void guest_handle_time(void *vmm, struct control_call *call);
void guest_handle_shutdown(void *vmm, struct control_call *call);
