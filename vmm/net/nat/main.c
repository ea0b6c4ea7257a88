// SPDX-License-Identifier: Apache-2.0
/*
 * anima-nat: the helper that gives one network card of a guest a network by NAT. It is started by
 * the machine's monitor, never by hand:
 *
 *     "start" comes, with our end of the pair of sockets -> ports bound -> sandbox closed
 *     -> answered -> frames are carried, until the monitor goes
 *
 * Nothing of the guest is read before the sandbox is closed.
 */
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
    GMainLoop *loop;
    struct nat *nat; /* NULL until it could be started */
};

static bool add_forwards(struct nat *nat, const json_t *list, GError **error)
{
    size_t i;
    const json_t *entry;

    json_array_foreach(list, i, entry)
    {
        const char *text = json_string_value(entry);
        struct forward forward;

        if (!forward_parse(text ? text : "", &forward, error) || !nat_forward(nat, &forward, error))
            return false;
    }
    return true;
}

static struct nat *start(const json_t *params, int *fds, unsigned count, GError **error)
{
    struct nat_config config = {
        .frames = count ? fds[0] : -1,
        .hostname = json_string_value(json_object_get(params, "hostname")),
        .mtu = (unsigned)json_integer_value(json_object_get(params, "mtu")),
    };
    struct sandbox_report report = {0};
    struct nat *nat;

    if (config.frames < 0) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "there is no socket for frames");
        return NULL;
    }
    fds[0] = -1;
    nat = nat_create(&config);
    if (!add_forwards(nat, json_object_get(params, "forward"), error) ||
        !sandbox_enter(SANDBOX_NAT, false, &report, error))
        return NULL;
    return nat;
}

static void on_line(void *opaque, struct peer *peer, const char *line, size_t length, int *fds,
                    unsigned count)
{
    struct helper *helper = opaque;
    struct rpc_message message;
    GError *error = NULL;

    if (!control_receive(peer, line, length, &message))
        return;
    helper->nat = start(message.params, fds, count, &error);
    peer_send(peer,
              helper->nat ? rpc_result(message.id, NULL)
                          : rpc_failure(message.id, rpc_code_of(error), error->message, NULL),
              NULL, 0);
    g_clear_error(&error);
    rpc_message_clear(&message);
    g_main_loop_quit(helper->loop);
}

static void on_closed(void *opaque, struct peer *peer)
{
    g_main_loop_quit(((struct helper *)opaque)->loop);
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
    helper.loop = g_main_loop_new(NULL, FALSE);
    link = peer_create(PROCESS_LINK_FD, &ops, &helper);
    g_main_loop_run(helper.loop);
    peer_flush(link, LAST_WORDS_MS);
    if (!helper.nat)
        return 1;
    nat_run(helper.nat, PROCESS_LINK_FD);
    return 0;
}
