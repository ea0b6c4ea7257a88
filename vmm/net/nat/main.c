// SPDX-License-Identifier: Apache-2.0
/*
 * anima-nat: the helper that gives one network card of a guest a network by NAT. It is started by
 * the machine's monitor, never by hand:
 *
 *     "start" comes, with our end of the pair of sockets -> ports bound -> sandbox closed
 *     -> answered -> frames are carried, until the monitor or the other end
 *     goes
 *
 * Meanwhile "forward" changes which ports lead to the guest. Nothing of the guest is read before
 * the sandbox is closed.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config/schema.h"
#include "vmm/control/method.h"
#include "vmm/monitor/process.h"
#include "vmm/monitor/sandbox.h"
#include "vmm/net/nat/card.h"
#include "vmm/net/nat/forwards.h"
#include "vmm/util/log.h"

#define LAST_WORDS_MS 1000

struct helper {
    GMainLoop *loop;
    struct nat *nat; /* NULL until it could be started */
    int resolvers;   /* the list that it reads, on its way to the monitor; -1 */
};

/* ---- methods ---- */

static void on_gone(void *opaque)
{
    g_main_loop_quit(((struct helper *)opaque)->loop);
}

static json_t *start(struct helper *helper, const json_t *params, int *fds, unsigned count,
                     json_t **taken, GError **error)
{
    struct sandbox_report report;
    json_t *made;
    struct nat *nat;

    if (!count) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "there is no socket for frames");
        return NULL;
    }
    nat = card_create(fds[0], json_string_value(json_object_get(params, "hostname")),
                      (unsigned)json_integer_value(json_object_get(params, "mtu")));
    fds[0] = -1;
    made = forwards_add(nat, json_object_get(params, "forward"), taken, error);
    if (made && sandbox_enter(SANDBOX_NAT, false, &report, error)) {
        helper->nat = nat;
        helper->resolvers = report.resolvers;
        card_run(on_gone, helper);
        return json_pack("{s:o}", "forwards", made);
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
        return forwards_change(helper->nat, json_object_get(message->params, "remove"),
                               json_object_get(message->params, "add"), taken, error);
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
    /* The monitor finds out who has the port: it sees other processes. It keeps up our list of
     * resolvers too. */
    peer_send(peer,
              result ? rpc_result(message.id, result)
                     : rpc_failure(message.id, rpc_code_of(error), error->message,
                                   taken ? json_pack("{s:O}", "taken", taken) : NULL),
              &helper->resolvers, helper->resolvers >= 0);
    if (helper->resolvers >= 0)
        close(helper->resolvers);
    helper->resolvers = -1;
    if (!helper->nat)
        g_main_loop_quit(helper->loop);
    g_clear_error(&error);
    rpc_message_clear(&message);
}

static void on_closed(void *opaque, struct peer *peer)
{
    g_main_loop_quit(((struct helper *)opaque)->loop);
}

int main(int argc, char **argv)
{
    static const struct peer_ops ops = {on_line, on_closed};
    struct helper helper = {.resolvers = -1};
    struct peer *link;

    if (argc != 2 || strcmp(argv[1], "nat") != 0) {
        fprintf(stderr, "anima-nat is started by a machine's monitor; see anima(1).\n");
        return 2;
    }
    log_start();
    signal(SIGPIPE, SIG_IGN);
    helper.loop = g_main_loop_new(NULL, FALSE);
    link = peer_create(PROCESS_LINK_FD, &ops, &helper);
    g_main_loop_run(helper.loop);
    peer_flush(link, LAST_WORDS_MS);
    return helper.nat ? 0 : 1;
}
