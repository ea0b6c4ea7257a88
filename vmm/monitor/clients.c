// SPDX-License-Identifier: Apache-2.0
/*
 * Connections of a monitor and its numbered events.
 */
#include "vmm/monitor/clients.h"

#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FLUSH_MS        500
#define LOG_BACKLOG_MAX (256U << 10) /* bytes */

struct client {
    struct clients *clients;
    struct peer *peer;
    unsigned granted;
    bool subscribed;
};

struct clients {
    struct clients_config config;
    GPtrArray *list; /* of struct client * */
    guint listen_source;
    GQueue events;       /* of json_t *: the last EVENTS_KEPT */
    json_int_t sequence; /* of the last event */
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
    clients->list = g_ptr_array_new_with_free_func(client_free);
    g_queue_init(&clients->events);
    return clients;
}

void clients_destroy(struct clients *clients)
{
    json_t *event;

    if (!clients)
        return;
    if (clients->listen_source)
        g_source_remove(clients->listen_source);
    g_ptr_array_unref(clients->list);
    while ((event = g_queue_pop_head(&clients->events)))
        json_decref(event);
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

static const struct peer_ops client_ops = {on_line, on_closed};

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
    if (clients->list->len >= CLIENTS_MAX)
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
    json_t *params = details ? details : json_object();
    size_t patience = strcmp(type, "log") == 0 ? LOG_BACKLOG_MAX : SIZE_MAX;
    json_t *event;

    json_object_set_new(params, "seq", json_integer(++clients->sequence));
    json_object_set_new(params, "type", json_string(type));
    event = rpc_notification("event", params);
    g_queue_push_tail(&clients->events, event);
    if (g_queue_get_length(&clients->events) > EVENTS_KEPT)
        json_decref(g_queue_pop_head(&clients->events));
    for (unsigned i = 0; i < clients->list->len; i++) {
        struct client *client = clients->list->pdata[i];

        if (client->subscribed && peer_backlog(client->peer) <= patience)
            peer_send(client->peer, json_incref(event), NULL, 0);
    }
}

json_int_t clients_subscribe(struct clients *clients, struct peer *peer, json_int_t since)
{
    json_int_t number = clients->sequence - g_queue_get_length(&clients->events);

    for (GList *link = clients->events.head; link; link = link->next)
        if (++number > since && since >= 0)
            peer_send(peer, json_incref(link->data), NULL, 0);
    for (unsigned i = 0; i < clients->list->len; i++) {
        struct client *client = clients->list->pdata[i];

        client->subscribed |= client->peer == peer;
    }
    return clients->sequence;
}

void clients_flush(struct clients *clients)
{
    for (unsigned i = 0; i < clients->list->len; i++)
        peer_flush(((struct client *)clients->list->pdata[i])->peer, FLUSH_MS);
}
