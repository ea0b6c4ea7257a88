// SPDX-License-Identifier: Apache-2.0
/*
 * anima-nat: the helper that gives one network card of a guest a network by NAT. It is started by
 * the machine's monitor, never by hand:
 *
 *     "start" comes, with our end of the pair of sockets -> ports bound -> sandbox closed
 *     -> answered -> frames are carried, until the monitor goes
 *
 * Meanwhile "forward" changes which ports lead to the guest. Nothing of the guest is read before
 * the sandbox is closed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config/schema.h"
#include "vmm/control/method.h"
#include "vmm/monitor/process.h"
#include "vmm/monitor/sandbox.h"
#include "vmm/net/nat/nat.h"
#include "vmm/util/log.h"

#define LAST_WORDS_MS 1000

struct helper {
    struct nat *nat; /* NULL until it could be started */
    bool over;
};

/* ---- forwards ---- */

static bool forward_read(const json_t *entry, struct forward *forward, GError **error)
{
    const char *text = json_string_value(entry);

    return forward_parse(text ? text : "", forward, error);
}

/* `*taken` gets the entry whose port another program has. */
static bool forward_add(struct nat *nat, struct forward *forward, json_t *entry, json_t **taken,
                        GError **error)
{
    char address[INET_ADDRSTRLEN];
    int reason = nat_forward(nat, forward);

    if (reason == 0)
        return true;
    if (reason == EADDRINUSE)
        *taken = entry;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "forward %s %s:%u: %s",
                forward->udp ? "udp" : "tcp",
                inet_ntop(AF_INET, &forward->host.sin_addr, address, sizeof(address)),
                ntohs(forward->host.sin_port), g_strerror(reason));
    return false;
}

/* All of `list`; what they became is appended to `made`. */
static bool add_all(struct nat *nat, const json_t *list, json_t *made, json_t **taken,
                    GError **error)
{
    size_t i;
    json_t *entry;

    json_array_foreach(list, i, entry)
    {
        g_autofree char *text = NULL;
        struct forward forward;

        if (!forward_read(entry, &forward, error) ||
            !forward_add(nat, &forward, entry, taken, error))
            return false;
        text = forward_format(&forward);
        json_array_append_new(made, json_string(text));
    }
    return true;
}

static bool remove_all(struct nat *nat, const json_t *list, GError **error)
{
    size_t i;
    const json_t *entry;

    json_array_foreach(list, i, entry)
    {
        struct forward forward;

        if (!forward_read(entry, &forward, error))
            return false;
        nat_unforward(nat, &forward);
    }
    return true;
}

/* Those of the list "remove" go, those of "add" come; on failure all is as it was. */
static json_t *change(struct nat *nat, const json_t *params, json_t **taken, GError **error)
{
    json_t *gone = json_object_get(params, "remove"), *made = json_array(), *again;
    json_t *ignored = NULL;

    if (remove_all(nat, gone, error) &&
        add_all(nat, json_object_get(params, "add"), made, taken, error))
        return json_pack("{s:o}", "forwards", made);
    again = json_array();
    remove_all(nat, made, NULL);
    add_all(nat, gone, again, &ignored, NULL);
    json_decref(again);
    json_decref(made);
    return NULL;
}

/* ---- methods ---- */

static json_t *start(struct helper *helper, const json_t *params, int *fds, unsigned count,
                     json_t **taken, GError **error)
{
    struct nat_config config = {
        .frames = count ? fds[0] : -1,
        .hostname = json_string_value(json_object_get(params, "hostname")),
        .mtu = (unsigned)json_integer_value(json_object_get(params, "mtu")),
    };
    struct sandbox_report report = {0};
    json_t *made = json_array();
    struct nat *nat;

    if (config.frames >= 0) {
        fds[0] = -1;
        nat = nat_create(&config);
        if (add_all(nat, json_object_get(params, "forward"), made, taken, error) &&
            sandbox_enter(SANDBOX_NAT, false, &report, error)) {
            helper->nat = nat;
            return json_pack("{s:o}", "forwards", made);
        }
    } else {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "there is no socket for frames");
    }
    json_decref(made);
    return NULL;
}

static json_t *serve(struct helper *helper, const struct rpc_message *message, int *fds,
                     unsigned count, json_t **taken, GError **error)
{
    if (!helper->nat)
        return start(helper, message->params, fds, count, taken, error);
    if (message->method && strcmp(message->method, "forward") == 0)
        return change(helper->nat, message->params, taken, error);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "a NAT helper does not answer that");
    return NULL;
}

static void on_line(void *opaque, struct peer *peer, const char *line, size_t length, int *fds,
                    unsigned count)
{
    struct helper *helper = opaque;
    json_t *taken = NULL, *result;
    struct rpc_message message;
    GError *error = NULL;

    if (!control_receive(peer, line, length, &message))
        return;
    result = serve(helper, &message, fds, count, &taken, &error);
    /* The monitor finds out who has the port: it sees other processes. */
    peer_send(peer,
              result ? rpc_result(message.id, result)
                     : rpc_failure(message.id, rpc_code_of(error), error->message,
                                   taken ? json_pack("{s:O}", "taken", taken) : NULL),
              NULL, 0);
    helper->over = !helper->nat;
    g_clear_error(&error);
    rpc_message_clear(&message);
}

static void on_closed(void *opaque, struct peer *peer)
{
    ((struct helper *)opaque)->over = true;
}

/* Something came from the monitor. */
static bool on_control(void *opaque)
{
    const struct helper *helper = opaque;

    while (!helper->over && g_main_context_iteration(NULL, FALSE))
        continue;
    return !helper->over;
}

int main(int argc, char **argv)
{
    static const struct peer_ops ops = {on_line, on_closed};
    struct helper helper = {0};
    struct peer *link;

    if (argc != 2 || strcmp(argv[1], "nat") != 0) {
        fprintf(stderr, "anima-nat is started by a machine's monitor; see anima(1).\n");
        return 2;
    }
    log_start();
    signal(SIGPIPE, SIG_IGN);
    link = peer_create(PROCESS_LINK_FD, &ops, &helper);
    while (!helper.nat && !helper.over)
        g_main_context_iteration(NULL, TRUE);
    peer_flush(link, LAST_WORDS_MS);
    if (!helper.nat)
        return 1;
    nat_run(helper.nat, PROCESS_LINK_FD, on_control, &helper);
    return 0;
}
