// SPDX-License-Identifier: Apache-2.0
/*
 * A helper's life: spawned, asked to "start" with its end of the pair, answers when its ports are
 * bound and its sandbox is closed. One that dies after that is started again: at once if it lived
 * for a while, else after a pause that doubles with each failure.
 */
#include "vmm/monitor/nats.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>

#include "config/devices.h"
#include "config/forward.h"
#include "config/nics.h"
#include "vmm/monitor/network_port.h"
#include "vmm/monitor/port_owner.h"
#include "vmm/monitor/process.h"
#include "vmm/monitor/resolvers.h"
#include "vmm/monitor/worker.h"

#define PROGRAM       "anima-nat"
#define DEFAULT_MTU   1500
#define PAUSE_MIN_MS  1000
#define PAUSE_MAX_MS  30000
#define LIVED_LONG_US (5 * G_USEC_PER_SEC)

struct nat {
    struct nats *nats;
    char *nic; /* the card's id */
    /* Of a card on a network that machines share, whose process stands for the helper. */
    struct network_port_config *shared; /* NULL: it has a helper of its own */
    struct network_port *port;
    int fd;         /* the helper's end of the pair; the files' */
    json_t *asked;  /* the forwards, as the definition has them... */
    json_t *params; /* of "start"; its forwards are what those were made, once it is ready */
    struct worker *worker;
    unsigned resolvers; /* that it reads; 0: the host's own */
    bool ready;
    gint64 began_us;
    guint pause_ms; /* before the next start; 0: none */
    guint timer;
    char *death;                   /* how the last one ended; NULL: none did */
    struct forwarding *forwarding; /* a change of its forwards that is under way; NULL: none */
    nats_added_fn added;           /* who waits for a later one to be ready; NULL: nobody */
    void *added_opaque;
};

struct forwarding {
    json_t *wanted, *made;
    nats_added_fn changed; /* NULL: nobody waits */
    void *opaque;
};

struct nats {
    struct nats_listener listener;
    char *program;
    GPtrArray *list;           /* of struct nat * */
    const struct nat *telling; /* whose `added` is being called; NULL: none's */
    bool settled;              /* ready or failed was told */
    guint idle;
};

static bool nat_spawn(struct nat *nat, GError **error);

/* Let go of the process. */
static void nat_end(struct nat *nat)
{
    g_clear_pointer(&nat->port, network_port_destroy);
    g_clear_pointer(&nat->worker, worker_destroy);
    resolvers_forget(nat->resolvers);
    nat->resolvers = 0;
}

/* ---- what helpers tell ---- */

static void tell(struct nat *nat, const char *what)
{
    g_autofree char *line = g_strdup_printf("%s: %s", nat->nic, what);

    nat->nats->listener.log(nat->nats->listener.opaque, line);
}

/* To who waits for this one alone, who may remove it in there. False: nobody does. */
static bool tell_added(struct nat *nat, const char *failure)
{
    nats_added_fn added = nat->added;
    struct nats *nats = nat->nats;

    nat->added = NULL;
    if (!added)
        return false;
    nats->telling = nat;
    added(nat->added_opaque, failure);
    nats->telling = NULL;
    return true;
}

/* It could not begin. */
static void fail(struct nat *nat, const char *what)
{
    g_autofree char *message = g_strdup_printf("nic: %s", what);

    if (tell_added(nat, message))
        return;
    nat->nats->settled = true;
    nat->nats->listener.failed(nat->nats->listener.opaque, message);
}

static void tell_ready_if_all_are(struct nats *nats)
{
    for (guint i = 0; i < nats->list->len; i++)
        if (!((struct nat *)nats->list->pdata[i])->ready)
            return;
    nats->settled = true;
    nats->listener.ready(nats->listener.opaque);
}

static void tell_restarted(struct nat *nat)
{
    json_t *details = json_object();

    json_object_set_new(details, "helper", json_string(nat->shared ? "network" : "nat"));
    json_object_set_new(details, "nic", json_string(nat->nic));
    json_object_set_new(details, "reason", json_string(nat->death));
    nat->nats->listener.restarted(nat->nats->listener.opaque, details);
}

static void on_log(void *opaque, const char *line)
{
    g_autofree char *said = g_strdup_printf("nat: %s", line);

    tell(opaque, said);
}

static void on_notified(void *opaque, const struct rpc_message *message)
{
}

static gboolean on_timer(gpointer opaque)
{
    struct nat *nat = opaque;
    g_autoptr(GError) error = NULL;

    nat->timer = 0;
    nat_end(nat);
    if (nat_spawn(nat, &error))
        return G_SOURCE_REMOVE;
    tell(nat, error->message);
    nat->pause_ms = CLAMP(nat->pause_ms * 2, PAUSE_MIN_MS, PAUSE_MAX_MS);
    nat->timer = g_timeout_add(nat->pause_ms, on_timer, nat);
    return G_SOURCE_REMOVE;
}

static void on_lost(void *opaque, const char *how)
{
    struct nat *nat = opaque;

    if (!nat->nats->settled || nat->added) {
        fail(nat, how);
        return;
    }
    nat->ready = false;
    if (nat->worker)
        worker_fail_requests(nat->worker, how);
    g_free(nat->death);
    nat->death = g_strdup(how);
    g_autofree char *line =
        g_strdup_printf("%s%s", how, nat->shared ? "" : "; another one takes its place");
    tell(nat, line);
    if (g_get_monotonic_time() - nat->began_us >= LIVED_LONG_US)
        nat->pause_ms = 0;
    else
        nat->pause_ms = CLAMP(nat->pause_ms * 2, PAUSE_MIN_MS, PAUSE_MAX_MS);
    if (!nat->timer)
        nat->timer = g_timeout_add(nat->pause_ms, on_timer, nat);
}

static void on_ended(void *opaque, struct worker *worker, const char *how)
{
    on_lost(opaque, how);
}

static const struct worker_ops worker_ops = {on_log, on_notified, on_ended};

/* Why the helper failed, with the program that has the port of a forward: the helper sees no
 * processes. */
static char *explain(const struct rpc_message *answer)
{
    const char *text = json_string_value(json_object_get(answer->data, "taken"));
    struct forward forward;

    if (!text || !forward_parse(text, &forward, NULL))
        return g_strdup(answer->text);
    g_autofree char *owner = port_owner(forward.udp, &forward.host);
    return g_strdup_printf("%s%s%s", answer->text, owner ? ", by " : "", owner ? owner : "");
}

/* What the forwards have become, of which some left the port to the helper: another helper takes
 * the same. */
static void note_forwards(struct nat *nat, const struct rpc_message *answer)
{
    json_t *made = json_object_get(answer->result, "forwards");

    if (json_array_size(made) == json_array_size(json_object_get(nat->params, "forward")))
        json_object_set(nat->params, "forward", made);
}

/* Frames flow. */
static void on_ready(void *opaque)
{
    struct nat *nat = opaque;

    nat->ready = true;
    if (!nat->nats->settled)
        tell_ready_if_all_are(nat->nats);
    else if (!tell_added(nat, NULL))
        tell_restarted(nat);
}

static const struct network_port_ops port_ops = {on_ready, on_lost};

static void on_answer(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    g_autofree char *reason = answer->kind == RPC_FAILURE ? explain(answer) : NULL;
    struct nat *nat = opaque;

    if (reason && (!nat->nats->settled || nat->added)) {
        fail(nat, reason);
    } else if (reason) {
        tell(nat, reason); /* and it ends */
    } else {
        note_forwards(nat, answer);
        if (count && !nat->resolvers) {
            nat->resolvers = resolvers_follow(fds[0]);
            fds[0] = -1;
        }
        on_ready(nat);
    }
}

/* ---- starting ---- */

static bool nat_spawn(struct nat *nat, GError **error)
{
    nat->began_us = g_get_monotonic_time();
    if (nat->shared) {
        nat->port = network_port_create(nat->shared, &port_ops, nat);
        return true;
    }
    nat->worker = worker_create("nat", nat->nats->program, &worker_ops, nat, error);
    if (!nat->worker)
        return false;
    worker_ask(nat->worker, "start", json_incref(nat->params), &nat->fd, 1, on_answer, nat);
    return true;
}

static json_t *start_params(const struct definition *definition, const struct nic *nic,
                            json_t *forwards)
{
    const char *name = nic->hostname ? nic->hostname : definition_text(definition, OPTION_NAME);

    return json_pack("{s:s, s:i, s:O}", "hostname", name, "mtu", nic->mtu ? nic->mtu : DEFAULT_MTU,
                     "forward", forwards);
}

json_t *nats_forwards_of(const struct definition *definition, unsigned card)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < definition_member_count(definition, OPTION_NIC, card, "forward"); i++)
        json_array_append_new(
            list, json_string(definition_member_entry(definition, OPTION_NIC, card, "forward", i)));
    return list;
}

static bool find_program(struct nats *nats, GError **error)
{
    if (nats->program || (nats->program = process_program(PROGRAM)))
        return true;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                "nic: user: " PROGRAM " is not there; this build has no NAT (libslirp)");
    return false;
}

/* How a card is plugged into a network that machines share. */
static struct network_port_config *shared_config(const struct definition *definition,
                                                 const struct nic *nic, const struct nat *nat)
{
    struct network_port_config *config = g_new0(struct network_port_config, 1);
    const char *machine = definition_text(definition, OPTION_NAME);

    *config = (struct network_port_config){
        .network = g_strdup(nic->shared),
        .machine = g_strdup(machine),
        .nic = nat->nic,
        .hostname = g_strdup(nic->hostname ? nic->hostname : machine),
        .fd = nat->fd,
    };
    memcpy(config->mac, nic->mac, sizeof(config->mac));
    return config;
}

static void shared_free(struct network_port_config *config)
{
    if (!config)
        return;
    g_free((char *)config->network);
    g_free((char *)config->machine);
    g_free((char *)config->hostname);
    g_free(config);
}

static void forwarding_free(struct forwarding *forwarding)
{
    if (!forwarding)
        return;
    json_decref(forwarding->wanted);
    json_decref(forwarding->made);
    g_free(forwarding);
}

static void nat_destroy(struct nat *nat)
{
    forwarding_free(nat->forwarding);
    if (nat->timer)
        g_source_remove(nat->timer);
    nat_end(nat);
    json_decref(nat->asked);
    json_decref(nat->params);
    shared_free(nat->shared);
    g_free(nat->death);
    g_free(nat->nic);
    g_free(nat);
}

/* Whether a card's frames are carried by a process of ours. A network that is a bridge of the
 * host's has none. */
static bool has_helper(const struct definition *definition, unsigned index,
                       const struct files *files)
{
    return files_nat_end(files, definition_device_id(definition, OPTION_NIC, index)) >= 0;
}

/* A helper for card `index`, which has one, with `fd` as its end; not started. */
static struct nat *nat_create(struct nats *nats, const struct definition *definition,
                              unsigned index, int fd)
{
    struct nat *nat = g_new0(struct nat, 1);
    struct nic nic = definition_nic(definition, index);
    bool forwards = nic.network == NIC_USER;

    *nat = (struct nat){
        .nats = nats,
        .nic = g_strdup(definition_device_id(definition, OPTION_NIC, index)),
        .fd = fd,
        .asked = forwards ? nats_forwards_of(definition, index) : json_array(),
    };
    nat->params = start_params(definition, &nic, nat->asked);
    if (nic.network == NIC_SWITCH)
        nat->shared = shared_config(definition, &nic, nat);
    return nat;
}

struct nat *nat_begin(struct nats *nats, const struct definition *definition, unsigned index,
                      int fd, nats_added_fn added, void *opaque, GError **error)
{
    bool own = definition_nic(definition, index).network == NIC_USER;
    struct nat *nat;

    if (own && !find_program(nats, error))
        return NULL;
    nat = nat_create(nats, definition, index, fd);
    nat->added = added;
    nat->added_opaque = opaque;
    if (nat_spawn(nat, error))
        return nat;
    nat_destroy(nat);
    return NULL;
}

void nats_adopt(struct nats *nats, struct nat *nat)
{
    g_ptr_array_add(nats->list, nat);
}

void nat_discard(struct nat *nat)
{
    if (!nat)
        return;
    /* It may be on the stack. */
    g_clear_pointer(&nat->worker, worker_discard);
    nat_destroy(nat);
}

/* The helper of card `index`, which has one, is started; who waits for it alone is told by
 * `added`, or NULL. */
static bool start_one(struct nats *nats, const struct definition *definition, unsigned index,
                      const struct files *files, nats_added_fn added, void *opaque, GError **error)
{
    const char *id = definition_device_id(definition, OPTION_NIC, index);
    struct nat *nat =
        nat_begin(nats, definition, index, files_nat_end(files, id), added, opaque, error);

    if (nat)
        nats_adopt(nats, nat);
    return nat;
}

static bool start_all(struct nats *nats, const struct definition *definition,
                      const struct files *files, GError **error)
{
    for (unsigned i = 0; i < definition_count(definition, OPTION_NIC); i++)
        if (has_helper(definition, i, files) &&
            !start_one(nats, definition, i, files, NULL, NULL, error))
            return false;
    return true;
}

bool nats_add(struct nats *nats, const struct definition *definition, unsigned index,
              const struct files *files, nats_added_fn added, void *opaque, GError **error)
{
    return start_one(nats, definition, index, files, added, opaque, error);
}

/* The helper of the card with this id, or NULL. */
static struct nat *find_nat(const struct nats *nats, const char *nic)
{
    for (guint i = 0; i < nats->list->len; i++) {
        struct nat *nat = nats->list->pdata[i];

        if (g_str_equal(nat->nic, nic))
            return nat;
    }
    return NULL;
}

/* Of a helper that goes: what was asked of it comes to nothing. */
static void fail_forwarding(struct nat *nat)
{
    struct forwarding *forwarding = g_steal_pointer(&nat->forwarding);
    g_autofree char *failure = g_strdup_printf("%s: the card has gone", nat->nic);

    if (forwarding && forwarding->changed)
        forwarding->changed(forwarding->opaque, failure);
    forwarding_free(forwarding);
}

void nats_remove(struct nats *nats, const char *nic)
{
    struct nat *nat = find_nat(nats, nic);

    if (!nat)
        return;
    g_ptr_array_remove(nats->list, nat);
    fail_forwarding(nat);
    /* Its ports are free for another one at once, unless it is on the stack. */
    if (nat == nats->telling)
        nat_discard(nat);
    else
        nat_destroy(nat);
}

/* ---- forwards while it runs ---- */

/* Where in the list the text stands, from `taken` those that were found before; its length:
 * nowhere. */
static size_t find_text(const json_t *list, const json_t *text, const bool *taken)
{
    size_t i;

    for (i = 0; i < json_array_size(list); i++)
        if (!taken[i] && json_equal(json_array_get(list, i), text))
            break;
    return i;
}

/* What is to be made and removed. `made` gets what wanted forwards are now, null for those that are
 * still to be made. */
static json_t *compare(const struct nat *nat, const json_t *wanted, json_t *made)
{
    const json_t *have = json_object_get(nat->params, "forward");
    bool taken[CONFIG_LIST_MAX] = {false};
    json_t *add = json_array(), *remove = json_array(), *entry;
    size_t i;

    json_array_foreach(wanted, i, entry)
    {
        size_t place = find_text(nat->asked, entry, taken);
        bool there = place < json_array_size(nat->asked);

        if (there)
            taken[place] = true;
        else
            json_array_append(add, entry);
        json_array_append_new(made, there ? json_incref(json_array_get(have, place)) : json_null());
    }
    json_array_foreach(have, i, entry)
    {
        if (!taken[i])
            json_array_append(remove, entry);
    }
    return json_pack("{s:o, s:o}", "add", add, "remove", remove);
}

/* Put what was made into the places that wait for it. */
static void fill(json_t *made, const json_t *fresh)
{
    size_t next = 0;

    for (size_t i = 0; i < json_array_size(made); i++)
        if (json_is_null(json_array_get(made, i)))
            json_array_set(made, i, json_array_get(fresh, next++));
}

static void on_forwarded(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    struct nat *nat = opaque;
    struct forwarding *forwarding = g_steal_pointer(&nat->forwarding);
    g_autofree char *failure = NULL;

    if (answer->kind == RPC_FAILURE) {
        g_autofree char *reason = explain(answer);
        failure = g_strdup_printf("%s: %s", nat->nic, reason);
    } else {
        fill(forwarding->made, json_object_get(answer->result, "forwards"));
        json_object_set(nat->params, "forward", forwarding->made);
        json_decref(nat->asked);
        nat->asked = json_incref(forwarding->wanted);
    }
    if (forwarding->changed)
        forwarding->changed(forwarding->opaque, failure);
    forwarding_free(forwarding);
}

bool nats_set_forwards(struct nats *nats, const char *nic, json_t *wanted, nats_added_fn changed,
                       void *opaque)
{
    struct nat *nat = find_nat(nats, nic);
    struct forwarding *forwarding;

    if (!nat || !nat->worker || !nat->ready || nat->forwarding)
        return false;
    forwarding = g_new0(struct forwarding, 1);
    *forwarding = (struct forwarding){
        .wanted = json_incref(wanted), .made = json_array(), .changed = changed, .opaque = opaque};
    nat->forwarding = forwarding;
    worker_ask(nat->worker, "forward", compare(nat, wanted, forwarding->made), NULL, 0,
               on_forwarded, nat);
    return true;
}

void nats_forget(struct nats *nats, const void *opaque)
{
    for (guint i = 0; i < nats->list->len; i++) {
        struct nat *nat = nats->list->pdata[i];

        if (nat->forwarding && nat->forwarding->opaque == opaque)
            nat->forwarding->changed = NULL;
    }
}

static gboolean on_idle(gpointer opaque)
{
    struct nats *nats = opaque;

    nats->idle = 0;
    tell_ready_if_all_are(nats);
    return G_SOURCE_REMOVE;
}

struct nats *nats_create(const struct definition *definition, const struct files *files,
                         const struct nats_listener *listener, GError **error)
{
    struct nats *nats = g_new0(struct nats, 1);

    nats->list = g_ptr_array_new();
    nats->listener = *listener;
    if (!start_all(nats, definition, files, error)) {
        nats_destroy(nats);
        return NULL;
    }
    if (!nats->list->len)
        nats->idle = g_idle_add(on_idle, nats);
    return nats;
}

/* NULL for what is none: helpers carry what hostile guests send. */
static json_t *describe_forward(const struct nat *nat, const char *text)
{
    char host[INET_ADDRSTRLEN], guest[INET_ADDRSTRLEN];
    struct forward forward;

    if (!text || !forward_parse(text, &forward, NULL))
        return NULL;
    return json_pack("{s:s, s:s, s:s, s:i, s:s, s:i}", "nic", nat->nic, "proto",
                     forward.udp ? "udp" : "tcp", "host",
                     inet_ntop(AF_INET, &forward.host.sin_addr, host, sizeof(host)), "host_port",
                     ntohs(forward.host.sin_port), "guest",
                     inet_ntop(AF_INET, &forward.guest.sin_addr, guest, sizeof(guest)),
                     "guest_port", ntohs(forward.guest.sin_port));
}

json_t *nats_forwards(const struct nats *nats)
{
    json_t *list = json_array(), *entry;
    size_t i;

    for (guint n = 0; n < nats->list->len; n++) {
        const struct nat *nat = nats->list->pdata[n];

        json_array_foreach(json_object_get(nat->params, "forward"), i, entry)
            json_array_append_new(list, describe_forward(nat, json_string_value(entry)));
    }
    return list;
}

void nats_destroy(struct nats *nats)
{
    if (!nats)
        return;
    if (nats->idle)
        g_source_remove(nats->idle);
    while (nats->list->len)
        nat_destroy(g_ptr_array_steal_index(nats->list, nats->list->len - 1));
    g_ptr_array_unref(nats->list);
    g_free(nats->program);
    g_free(nats);
}
