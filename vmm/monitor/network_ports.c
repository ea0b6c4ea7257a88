// SPDX-License-Identifier: Apache-2.0
/*
 * A card is offered to a helper once; one whose connection goes meanwhile is taken back when the
 * helper has answered.
 */
#include "vmm/monitor/network_ports.h"

#include <arpa/inet.h>
#include <unistd.h>

#include "config/nics.h"

#define NOWHERE (-1)

struct port {
    struct ports *ports;
    struct control_call *call; /* that waits; NULL: it was answered */
    const struct peer *peer;   /* NULL: it has gone */
    int fd;
    bool offered;         /* a helper was asked to take it */
    int number;           /* of the helper's; NOWHERE */
    struct worker *asked; /* the helper that has not answered yet; NULL: none */
    char *machine, *nic, *mac, *name;
    char *address; /* NULL: none */
};

struct ports {
    GPtrArray *list; /* of struct port * */
};

static void port_free(void *opaque)
{
    struct port *port = opaque;

    if (port->call)
        control_fail(port->call, RPC_ERROR_FAILED, "the network has ended");
    close(port->fd);
    g_free(port->machine);
    g_free(port->nic);
    g_free(port->mac);
    g_free(port->name);
    g_free(port->address);
    g_free(port);
}

struct ports *ports_create(void)
{
    struct ports *ports = g_new0(struct ports, 1);

    ports->list = g_ptr_array_new_with_free_func(port_free);
    return ports;
}

void ports_destroy(struct ports *ports)
{
    if (!ports)
        return;
    g_ptr_array_unref(ports->list);
    g_free(ports);
}

unsigned ports_count(const struct ports *ports)
{
    return ports->list->len;
}

static char *text_of(const json_t *object, const char *key)
{
    return g_strdup(json_string_value(json_object_get(object, key)));
}

bool ports_add(struct ports *ports, struct control_call *call)
{
    const char *mac = json_string_value(json_object_get(call->params, "mac"));
    struct port *port;
    uint8_t bytes[6];

    if (!mac_read(mac, bytes)) {
        control_fail(call, RPC_ERROR_INVALID_PARAMS,
                     "mac: expected an address such as 52:54:00:12:34:56");
        return false;
    }
    port = g_new0(struct port, 1);
    port->ports = ports;
    port->call = call;
    port->peer = call->peer;
    port->fd = call->fds[0];
    call->fds[0] = -1;
    port->number = NOWHERE;
    port->machine = text_of(call->params, "machine");
    port->nic = text_of(call->params, "nic");
    port->mac = text_of(call->params, "mac");
    port->name = text_of(call->params, "name");
    g_ptr_array_add(ports->list, port);
    return true;
}

/* ---- the helper ---- */

static void on_detached(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
}

static void detach(const struct port *port, struct worker *worker)
{
    worker_ask(worker, "detach", json_pack("{s:i}", "port", port->number), NULL, 0, on_detached,
               NULL);
}

/* The address, if it is one. */
static char *sound_address(const json_t *result)
{
    const char *text = json_string_value(json_object_get(result, "address"));
    struct in_addr address;

    return text && inet_pton(AF_INET, text, &address) == 1 ? g_strdup(text) : NULL;
}

static void accept_answer(struct port *port, const json_t *result)
{
    json_t *answer = json_object();

    port->number = (int)json_integer_value(json_object_get(result, "port"));
    g_free(port->address);
    port->address = sound_address(result);
    if (port->address)
        json_object_set_new(answer, "address", json_string(port->address));
    if (port->call)
        control_reply(g_steal_pointer(&port->call), answer);
    else
        json_decref(answer);
}

static void on_attached(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    struct port *port = opaque;
    struct worker *worker = g_steal_pointer(&port->asked);

    if (answer->kind != RPC_FAILURE) {
        accept_answer(port, answer->result);
        if (port->peer)
            return;
        detach(port, worker);
    } else if (port->call) {
        control_fail(g_steal_pointer(&port->call), RPC_ERROR_FAILED, answer->text);
    } else {
        g_message("%s of %s: %s", port->nic, port->machine, answer->text);
        return;
    }
    g_ptr_array_remove_fast(port->ports->list, port);
}

void ports_offer(struct ports *ports, struct worker *worker)
{
    for (unsigned i = 0; i < ports->list->len; i++) {
        struct port *port = ports->list->pdata[i];

        if (port->offered)
            continue;
        port->offered = true;
        port->asked = worker;
        worker_ask(worker, "attach",
                   json_pack("{s:s, s:s}", "mac", port->mac, "name", port->name ? port->name : ""),
                   &port->fd, 1, on_attached, port);
    }
}

void ports_lose(struct ports *ports)
{
    for (unsigned i = ports->list->len; i-- > 0;) {
        struct port *port = ports->list->pdata[i];

        port->offered = false;
        port->asked = NULL;
        port->number = NOWHERE;
        if (!port->peer)
            g_ptr_array_remove_index_fast(ports->list, i);
    }
}

void ports_remove_peer(struct ports *ports, const struct peer *peer, struct worker *worker)
{
    for (unsigned i = ports->list->len; i-- > 0;) {
        struct port *port = ports->list->pdata[i];

        if (port->peer != peer)
            continue;
        port->peer = NULL;
        if (port->call)
            port->call->peer = NULL;
        if (port->asked)
            continue;
        if (worker && port->number >= 0)
            detach(port, worker);
        g_ptr_array_remove_index_fast(ports->list, i);
    }
}

/* ---- telling ---- */

/* What the helper counted of a port; NULL: nothing. */
static const json_t *find_counts(const json_t *counts, int number)
{
    const json_t *entry;
    size_t i;

    json_array_foreach(counts, i, entry)
    {
        const json_t *port = json_object_get(entry, "port");

        if (json_is_integer(port) && json_integer_value(port) == number)
            return entry;
    }
    return NULL;
}

static json_t *describe(const struct port *port, const json_t *counts)
{
    static const char *const names[] = {"frames_in", "frames_out", "refused", "lost"};
    const json_t *counted = find_counts(counts, port->number);
    json_t *object =
        json_pack("{s:s, s:s, s:s}", "machine", port->machine, "nic", port->nic, "mac", port->mac);

    if (port->address)
        json_object_set_new(object, "address", json_string(port->address));
    for (unsigned i = 0; counted && i < G_N_ELEMENTS(names); i++) {
        json_t *number = json_object_get(counted, names[i]);

        if (json_is_integer(number))
            json_object_set(object, names[i], number);
    }
    return object;
}

json_t *ports_describe(const struct ports *ports, const json_t *counts)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < ports->list->len; i++)
        json_array_append_new(list, describe(ports->list->pdata[i], counts));
    return list;
}
