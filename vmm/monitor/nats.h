// SPDX-License-Identifier: Apache-2.0
/*
 * The NAT helpers of a machine: one process for each network card on 'user'. The monitor holds both
 * ends of the socket pair between a card and its helper, so that either may be replaced: when a
 * helper dies, another one is started on the same pair, and the guest loses its connections only.
 *
 * Everything runs on the default main context's thread.
 */
#pragma once

#include <glib.h>
#include <jansson.h>

#include "config/definition.h"
#include "vmm/monitor/files.h"

struct nats;
struct nat;

/* Each is told `opaque`. */
struct nats_listener {
    /* Every helper carries frames; called once, also when there is none, never from nats_create. */
    void (*ready)(void *opaque);
    /* One could not begin; `message` names the option. Instead of ready. */
    void (*failed)(void *opaque, const char *message);
    /* A line for the machine's log. */
    void (*log)(void *opaque, const char *line);
    /* Another helper has taken a dead one's place; takes `details`, an object. */
    void (*restarted)(void *opaque, json_t *details);
    void *opaque;
};

/* Start the helpers for `definition`, which has a name, on the ends that `files` (which lives
 * longer) has for them. NULL and CONFIG_ERROR_FAILED when one cannot be started. */
struct nats *nats_create(const struct definition *definition, const struct files *files,
                         const struct nats_listener *listener, GError **error);

/* What became of a helper that was added: `failure` names the option, or is NULL. Called once,
 * unless it is removed before, which may be done in here. */
typedef void (*nats_added_fn)(void *opaque, const char *failure);

/* The same for card `index` alone, which is on 'user', while the machine runs; `added` follows. */
bool nats_add(struct nats *nats, const struct definition *definition, unsigned index,
              const struct files *files, nats_added_fn added, void *opaque, GError **error);
/* End the helper of the card with this id, if it has one. */
void nats_remove(struct nats *nats, const char *nic);

/* The same beside the one that the card may have, on `fd`, the helper's end of a pair; both stay
 * the caller's. It is none of the set before nat_adopt, which takes it, as nat_discard does (NULL
 * is fine). NULL and `error` when it cannot be started. */
struct nat *nat_begin(struct nats *nats, const struct definition *definition, unsigned index,
                      int fd, nats_added_fn added, void *opaque, GError **error);
void nats_adopt(struct nats *nats, struct nat *nat);
void nat_discard(struct nat *nat);

/* The forwards of card `card` as the definition has them: a new JSON list of texts. */
json_t *nats_forwards_of(const struct definition *definition, unsigned card);

/* Let the helper of the card with this id have these forwards, a JSON list of texts as the
 * definition has them, and no others; those that it has already are left alone. What came of it is
 * told by `changed`, unless that is NULL: on failure all is as it was. false: no helper is ready.
 */
bool nats_set_forwards(struct nats *nats, const char *nic, json_t *wanted, nats_added_fn changed,
                       void *opaque);
/* Nobody waits for that any more. */
void nats_forget(struct nats *nats, const void *opaque);

/* The ports of the host that lead to the guest, as "query" tells them: a new JSON list. */
json_t *nats_forwards(const struct nats *nats);

/* Ends them. NULL is fine. */
void nats_destroy(struct nats *nats);
