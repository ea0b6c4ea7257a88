// SPDX-License-Identifier: Apache-2.0
/*
 * anima-network: the helper that carries the frames of a network which machines share. It is
 * started by the network's monitor (vmm/monitor/network.c), never by hand:
 *
 *     "start" comes, with the definition -> ports of the host bound -> sandbox closed -> answered
 *     -> cards come and go by "attach" and "detach", forwards by "forward", until the monitor goes
 *
 * Nothing of a guest is read before the sandbox is closed.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config/nics.h"
#include "vmm/control/method.h"
#include "vmm/monitor/process.h"
#include "vmm/monitor/sandbox.h"
#include "vmm/net/network/lan.h"
#include "vmm/net/network/services.h"
#include "vmm/util/log.h"

#define LAST_WORDS_MS 1000

static struct helper {
    GMainLoop *loop;
    struct peer *link;
    struct definition *definition;
    struct network network;
    bool started;
    int resolvers; /* the list that it reads, on its way to the monitor; -1 */
    guint telling; /* of leases */
} helper = {.resolvers = -1};

static bool fail(const char *what, GError **error)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s", what);
    return false;
}

/* ---- leases ---- */

static gboolean tell_leases(gpointer opaque)
{
    helper.telling = 0;
    peer_send(
        helper.link,
        rpc_notification("leases", json_pack("{s:o}", "leases", leases_to_json(services_leases()))),
        NULL, 0);
    return G_SOURCE_REMOVE;
}

/* Once for all that come together. */
static void on_leases(void)
{
    if (!helper.telling)
        helper.telling = g_timeout_add(100, tell_leases, NULL);
}

/* ---- methods ---- */

/* What the network is to be; false and an error. */
static bool read_network(const json_t *params, GError **error)
{
    helper.definition = definition_create_kind(&definition_network);
    if (!definition_from_json(helper.definition, json_object_get(params, "definition"), error) ||
        !definition_check(helper.definition, error))
        return false;
    helper.network = definition_network_of(helper.definition);
    return true;
}

static json_t *forwards_of(const json_t *params, json_t **taken, GError **error)
{
    if (helper.network.kind == NETWORK_NAT)
        return services_forward(json_object_get(params, "remove"), json_object_get(params, "add"),
                                taken, error);
    fail("only a network of kind nat forwards ports", error);
    return NULL;
}

static json_t *handle_start(const json_t *params, json_t **taken, GError **error)
{
    struct sandbox_report report;
    json_t *answer;

    if (!read_network(params, error))
        return NULL;
    lan_start(&helper.network, json_object_get(params, "leases"), on_leases);
    answer = helper.network.kind == NETWORK_NAT ? forwards_of(params, taken, error) : json_object();
    if (!answer ||
        !sandbox_enter(helper.network.kind == NETWORK_NAT ? SANDBOX_NETWORK : SANDBOX_SWITCH, false,
                       &report, error)) {
        json_decref(answer);
        return NULL;
    }
    helper.started = true;
    helper.resolvers = report.resolvers;
    lan_run();
    return answer;
}

static json_t *handle_attach(const json_t *params, int *fds, unsigned count, GError **error)
{
    const char *mac = json_string_value(json_object_get(params, "mac"));
    const char *name = json_string_value(json_object_get(params, "name"));
    uint8_t bytes[6];
    json_t *answer;
    int port;

    if (!count || !mac || !mac_read(mac, bytes)) {
        fail("there is no socket for frames, or no address of a card", error);
        return NULL;
    }
    port = lan_attach(fds[0], bytes, name ? name : "", error);
    if (port < 0)
        return NULL;
    fds[0] = -1;
    if (services_leases())
        on_leases();
    g_autofree char *address = lan_address((unsigned)port);
    answer = json_pack("{s:i}", "port", port);
    if (address)
        json_object_set_new(answer, "address", json_string(address));
    return answer;
}

static json_t *serve(const struct rpc_message *message, int *fds, unsigned count, json_t **taken,
                     GError **error)
{
    const char *method = message->method ? message->method : "";

    if (!helper.started)
        return handle_start(message->params, taken, error);
    if (strcmp(method, "attach") == 0)
        return handle_attach(message->params, fds, count, error);
    if (strcmp(method, "forward") == 0)
        return forwards_of(message->params, taken, error);
    if (strcmp(method, "detach") == 0) {
        lan_detach((unsigned)json_integer_value(json_object_get(message->params, "port")));
        return json_object();
    }
    if (strcmp(method, "query") == 0)
        return json_pack("{s:o}", "ports", lan_describe());
    fail("a network's helper does not answer that", error);
    return NULL;
}

static void on_line(void *opaque, struct peer *peer, const char *line, size_t length, int *fds,
                    unsigned count)
{
    json_t *taken = NULL, *result;
    struct rpc_message message;
    GError *error = NULL;

    if (!control_receive(peer, line, length, &message))
        return;
    result = serve(&message, fds, count, &taken, &error);
    peer_send(peer,
              result ? rpc_result(message.id, result)
                     : rpc_failure(message.id, rpc_code_of(error), error->message,
                                   taken ? json_pack("{s:O}", "taken", taken) : NULL),
              &helper.resolvers, helper.resolvers >= 0);
    if (helper.resolvers >= 0)
        close(helper.resolvers);
    helper.resolvers = -1;
    if (!helper.started)
        g_main_loop_quit(helper.loop);
    g_clear_error(&error);
    rpc_message_clear(&message);
}

static void on_closed(void *opaque, struct peer *peer)
{
    g_main_loop_quit(helper.loop);
}

int main(int argc, char **argv)
{
    static const struct peer_ops ops = {on_line, on_closed};

    if (argc != 2 || strcmp(argv[1], "network") != 0) {
        fprintf(stderr, "anima-network is started by a network's monitor; see anima(1).\n");
        return 2;
    }
    log_start();
    signal(SIGPIPE, SIG_IGN);
    json_object_seed(0);
    helper.loop = g_main_loop_new(NULL, FALSE);
    helper.link = peer_create(PROCESS_LINK_FD, &ops, NULL);
    g_main_loop_run(helper.loop);
    peer_flush(helper.link, LAST_WORDS_MS);
    return helper.started ? 0 : 1;
}
