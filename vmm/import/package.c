// SPDX-License-Identifier: Apache-2.0
/*
 * The package process: one import or export, step by step as the worker says. Everything that it
 * reads may be hostile; it can do nothing but use the descriptors that it was sent.
 */
#include "vmm/import/package.h"

#include <libxml/parser.h>
#include <unistd.h>

#include "config/schema.h"
#include "vmm/control/peer.h"
#include "vmm/import/pack.h"
#include "vmm/import/unpack.h"
#include "vmm/monitor/process.h"
#include "vmm/monitor/sandbox.h"
#include "vmm/util/log.h"

#define TELL_US  100000 /* microseconds between two lines of progress */
#define FLUSH_MS 10000

struct session {
    struct peer *peer;
    GMainLoop *loop;
    struct unpack *unpack;
    struct pack *pack;
    uint64_t total;
    gint64 told;
};

static void say(struct session *session, const char *what, json_t *content)
{
    peer_send(session->peer, json_pack("{s:o}", what, content), NULL, 0);
    /* What comes next may take minutes. */
    peer_flush(session->peer, FLUSH_MS);
}

static void complain(struct session *session, GError *error)
{
    bool usage = g_error_matches(error, CONFIG_ERROR, CONFIG_ERROR_USAGE);

    peer_send(session->peer, json_pack("{s:s, s:b}", "error", error->message, "usage", usage), NULL,
              0);
    peer_flush(session->peer, FLUSH_MS);
    g_error_free(error);
}

static void tell(void *opaque, uint64_t done)
{
    struct session *session = opaque;
    gint64 now = g_get_monotonic_time();

    if (now - session->told < TELL_US)
        return;
    session->told = now;
    say(session, "progress",
        json_pack("[I, I]", (json_int_t)MIN(done, session->total), (json_int_t)session->total));
}

/* ---- what is asked for ---- */

/* The descriptor, which the caller now owns; -1: there is none. */
static int take_fd(int *fds, unsigned count, unsigned index)
{
    int fd = index < count ? fds[index] : -1;

    if (fd >= 0)
        fds[index] = -1;
    return fd;
}

static unsigned index_of(const json_t *message)
{
    return (unsigned)json_integer_value(json_object_get(message, "index"));
}

static void do_read(struct session *session, const json_t *message, int *fds, unsigned count)
{
    struct unpack_request request = {
        .package = take_fd(fds, count, 0),
        .manifest = take_fd(fds, count, 1),
        .descriptor = json_string_value(json_object_get(message, "descriptor")),
        .name = json_string_value(json_object_get(message, "name")),
        .keep_macs = json_is_true(json_object_get(message, "keep_macs")),
    };
    GError *error = NULL;
    json_t *content = unpack_read(session->unpack, &request, &error);

    if (content)
        say(session, "read", content);
    else
        complain(session, error);
}

static void do_file(struct session *session, const json_t *message, int *fds, unsigned count)
{
    unpack_give(session->unpack, index_of(message), take_fd(fds, count, 0), take_fd(fds, count, 1));
}

static void do_copy(struct session *session, const json_t *message, int *fds, unsigned count)
{
    uint64_t room = (uint64_t)json_integer_value(json_object_get(message, "room"));
    struct vmdk_progress progress = {tell, session};
    GError *error = NULL;

    if (unpack_copy(session->unpack, room, &session->total, &progress, &error))
        say(session, "copied", json_object());
    else
        complain(session, error);
}

static void do_pack(struct session *session, const json_t *message, int *fds, unsigned count)
{
    GError *error = NULL;

    pack_destroy(session->pack);
    session->pack = pack_create(message, &error);
    if (!session->pack)
        complain(session, error);
}

static void do_part(struct session *session, const json_t *message, int *fds, unsigned count)
{
    if (session->pack)
        pack_give_part(session->pack, index_of(message), take_fd(fds, count, 0));
}

static void do_out(struct session *session, const json_t *message, int *fds, unsigned count)
{
    if (session->pack)
        pack_give_out(session->pack, index_of(message), take_fd(fds, count, 0));
}

static void do_write(struct session *session, const json_t *message, int *fds, unsigned count)
{
    struct vmdk_progress progress = {tell, session};
    GError *error = NULL;
    json_t *lost = NULL;

    if (!session->pack)
        return;
    lost = pack_write(session->pack, &session->total, &progress, &error);
    if (lost)
        say(session, "written", json_pack("{s:o}", "lost", lost));
    else
        complain(session, error);
}

static const struct {
    const char *name;
    void (*handle)(struct session *session, const json_t *message, int *fds, unsigned count);
} steps[] = {
    {"read", do_read}, {"file", do_file}, {"copy", do_copy},   {"pack", do_pack},
    {"part", do_part}, {"out", do_out},   {"write", do_write},
};

/* ---- the connection ---- */

static void on_line(void *opaque, struct peer *peer, const char *line, size_t length, int *fds,
                    unsigned count)
{
    struct session *session = opaque;
    json_t *message = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL);
    const char *name = json_string_value(json_object_get(message, "do"));

    for (unsigned i = 0; name && i < G_N_ELEMENTS(steps); i++)
        if (g_str_equal(steps[i].name, name))
            steps[i].handle(session, message, fds, count);
    json_decref(message);
}

static void on_closed(void *opaque, struct peer *peer)
{
    g_main_loop_quit(((struct session *)opaque)->loop);
}

int package_run(void)
{
    static const struct peer_ops ops = {.line = on_line, .closed = on_closed};
    struct session session = {0};
    struct sandbox_report report;
    g_autoptr(GError) error = NULL;

    log_start();
    xmlInitParser();
    /* Random numbers, which it would open a file for later. */
    json_object_seed(0);
    if (!sandbox_enter(SANDBOX_PACKAGE, false, &report, &error)) {
        g_printerr("%s\n", error->message);
        return 1;
    }
    session.unpack = unpack_create();
    session.loop = g_main_loop_new(NULL, FALSE);
    session.peer = peer_create(PROCESS_LINK_FD, &ops, &session);
    g_main_loop_run(session.loop);
    peer_destroy(session.peer);
    unpack_destroy(session.unpack);
    pack_destroy(session.pack);
    g_main_loop_unref(session.loop);
    return 0;
}
