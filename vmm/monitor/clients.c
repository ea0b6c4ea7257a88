// SPDX-License-Identifier: Apache-2.0
/*
 * Connections of a monitor and its numbered events.
 */
#include "vmm/monitor/clients.h"

#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/monitor/history.h"

#define FLUSH_MS 500
#define BACKLOG_MAX \
    (64U << 10) /* bytes that wait for a client; further events wait in the history */

struct client {
    struct clients *clients;
    struct peer *peer;
    unsigned granted;
    bool subscribed;
    json_int_t told; /* number of the last event that it was sent */
};

struct clients {
    struct clients_config config;
    GPtrArray *list; /* of struct client * */
    guint listen_source;
    struct history *history;
};

static void client_free(void *opaque)
{
    struct client *client = opaque;

    peer_destroy(client->peer);
    g_free(client);
}

struct clients *clients_create(const struct clients_config *config)
{
    struct clients *clients = g_new0(struct clients, 1);

    clients->config = *config;
    if (!config->most)
        clients->config.most = CLIENTS_MAX;
    clients->list = g_ptr_array_new_with_free_func(client_free);
    clients->history = history_create();
    return clients;
}

void clients_destroy(struct clients *clients)
{
    if (!clients)
        return;
    if (clients->listen_source)
        g_source_remove(clients->listen_source);
    g_ptr_array_unref(clients->list);
    history_destroy(clients->history);
    g_free(clients);
}

static void on_line(void *opaque, struct peer *peer, const char *line, size_t length, int *fds,
                    unsigned count)
{
    struct client *client = opaque;
    struct rpc_message message;

    if (!control_receive(peer, line, length, &message))
        return;
    control_serve(&client->clients->config.service, peer, client->granted, &message, fds, count);
    rpc_message_clear(&message);
}

static void on_closed(void *opaque, struct peer *peer)
{
    struct client *client = opaque;
    struct clients *clients = client->clients;
    bool owner = client->granted & CONTROL_OWN;

    clients->config.gone(clients->config.service.opaque, peer, owner);
    g_ptr_array_remove_fast(clients->list, client);
}

/* Send the client what it has not heard, as long as it takes it. */
static void tell(struct client *client)
{
    json_t *event;

    while (client->subscribed && peer_backlog(client->peer) <= BACKLOG_MAX &&
           (event = history_next(client->clients->history, client->told, &client->told)))
        peer_send(client->peer, event, NULL, 0);
}

static void on_drained(void *opaque, struct peer *peer)
{
    tell(opaque);
}

static const struct peer_ops client_ops = {on_line, on_closed, on_drained};

void clients_add(struct clients *clients, int fd, unsigned granted)
{
    struct client *client = g_new0(struct client, 1);

    client->clients = clients;
    client->granted = granted;
    client->peer = peer_create(fd, &client_ops, client);
    g_ptr_array_add(clients->list, client);
}

/* Modes of folder and socket say who can connect, which is only this user and root unless the user
 * changes them. Whom they let in besides may look. */
static unsigned access_of(int fd)
{
    struct ucred who;
    socklen_t length = sizeof(who);
    bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0;

    if (known && (who.uid == geteuid() || who.uid == 0))
        return CONTROL_OBSERVE | CONTROL_OPERATE;
    return CONTROL_OBSERVE;
}

static gboolean on_connection(gint listen_fd, GIOCondition condition, gpointer opaque)
{
    struct clients *clients = opaque;
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return G_SOURCE_CONTINUE;
    if (clients->list->len >= clients->config.most)
        close(fd);
    else
        clients_add(clients, fd, access_of(fd));
    return G_SOURCE_CONTINUE;
}

void clients_listen(struct clients *clients, int fd)
{
    clients->listen_source = g_unix_fd_add(fd, G_IO_IN, on_connection, clients);
}

void clients_event(struct clients *clients, const char *type, json_t *details)
{
    const struct control_event *event = control_event_find(type);
    json_t *params = details ? details : json_object();
    g_autoptr(GError) error = NULL;

    if (!event || !control_fields_check(event->fields, params, NULL, &error)) {
        g_warning("%s: an event is not as described: %s", type, error ? error->message : "unknown");
        json_decref(params);
        return;
    }
    history_add(clients->history, type, event->frequent, params);
    for (unsigned i = 0; i < clients->list->len; i++)
        tell(clients->list->pdata[i]);
}

json_int_t clients_last_event(const struct clients *clients)
{
    return history_last(clients->history);
}

json_int_t clients_missed(const struct clients *clients, json_int_t since)
{
    return history_missed(clients->history, since);
}

void clients_subscribe(struct clients *clients, const struct peer *peer, json_int_t since)
{
    for (unsigned i = 0; i < clients->list->len; i++) {
        struct client *client = clients->list->pdata[i];

        if (client->peer != peer)
            continue;
        client->subscribed = true;
        client->told = since;
        tell(client);
    }
}

/* All of the history that a client still lacks goes by pieces of the backlog. */
void clients_flush(struct clients *clients)
{
    for (unsigned i = 0; i < clients->list->len; i++) {
        struct client *client = clients->list->pdata[i];
        json_int_t told;

        do {
            told = client->told;
            peer_flush(client->peer, FLUSH_MS);
            tell(client);
        } while (client->told != told);
        peer_flush(client->peer, FLUSH_MS);
    }
}
