// SPDX-License-Identifier: Apache-2.0
/*
 * Disks and network cards that come and go while the machine runs. Each on its way is a `plug`.
 *
 *     in:   into the definition -> files opened -> helper ready -> vmm has it -> told
 *     out:  the guest is asked -> "released": the vmm has it no more -> files closed, helper ended,
 *           out of the definition -> told
 *
 * On its way in a device has its place in the definition, so that nobody else takes its id, its
 * address or its file; when a step fails, all before it are undone. On its way out it is whole
 * until the guest has let go: whoever gives up waiting has changed nothing. A vmm that comes in the
 * place of another is told what the guest was asked for.
 */
#include <string.h>

#include "config/devices.h"
#include "config/nics.h"
#include "vmm/monitor/internal.h"

struct plug {
    struct monitor *monitor;
    struct control_call *call;
    char *id;
    enum option_id kind;
    bool leaves;   /* it is on its way out */
    bool gives_up; /* the vmm was told so; what the call hears then: */
    int code;
    char *failure;
    guint timer; /* 0: the guest has all the time that it wants */
};

/* ---- life ---- */

static struct plug *plug_create(struct monitor *monitor, struct control_call *call, const char *id,
                                enum option_id kind, bool leaves)
{
    struct plug *plug = g_new0(struct plug, 1);

    *plug = (struct plug){
        .monitor = monitor, .call = call, .id = g_strdup(id), .kind = kind, .leaves = leaves};
    g_ptr_array_add(monitor->plugs, plug);
    return plug;
}

static void plug_destroy(struct plug *plug)
{
    struct monitor *monitor = plug->monitor;

    g_ptr_array_remove(monitor->plugs, plug);
    if (monitor->vmm)
        worker_forget(monitor->vmm, plug);
    if (plug->timer)
        g_source_remove(plug->timer);
    g_free(plug->id);
    g_free(plug->failure);
    g_free(plug);
}

static struct plug *find_plug(const struct monitor *monitor, const char *id)
{
    for (guint i = 0; id && i < monitor->plugs->len; i++) {
        struct plug *plug = monitor->plugs->pdata[i];

        if (g_str_equal(plug->id, id))
            return plug;
    }
    return NULL;
}

/* Whatever the monitor has of the device; the vmm has nothing of it. */
static void forget_device(struct monitor *monitor, const char *id)
{
    struct device_place place;

    nats_remove(monitor->nats, id);
    files_remove_device(monitor->files, id);
    if (definition_find_device(monitor->definition, id, &place))
        definition_drop(monitor->definition, place.kind, place.index);
}

static void tell(const struct plug *plug, const char *event)
{
    clients_event(plug->monitor->clients, event,
                  json_pack("{s:s, s:s}", "id", plug->id, "kind", options[plug->kind].key));
}

/* Answer the call, and free. */
static void plug_fail(struct plug *plug, int code, const char *failure)
{
    struct control_call *call = plug->call;
    g_autofree char *text = g_strdup(failure);

    if (plug->leaves)
        jobs_end(plug->monitor->jobs, call, code, text);
    else
        forget_device(plug->monitor, plug->id);
    plug_destroy(plug);
    control_fail(call, code, text);
}

/* Why no device can come or go now; NULL: it can. */
static const char *find_obstacle(const struct monitor *monitor)
{
    if (!monitor->vmm || !monitor->lives)
        return "no machine is running";
    return monitor->upgrade ? "an upgrade is under way; try again when it is done" : NULL;
}

/* ---- in ---- */

static void on_attached(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    struct plug *plug = opaque;
    struct monitor *monitor = plug->monitor;
    struct control_call *call = plug->call;
    struct device_place place;
    json_t *result;

    if (answer->kind == RPC_FAILURE) {
        plug_fail(plug, answer->code, answer->text);
        return;
    }
    definition_find_device(monitor->definition, plug->id, &place);
    result =
        json_pack("{s:s, s:s}", "id", plug->id, "address",
                  definition_member_text(monitor->definition, place.kind, place.index, "address"));
    tell(plug, "device-attached");
    plug_destroy(plug);
    control_reply(call, result);
}

/* The entry of the device in the definition, a new object. */
static json_t *describe(const struct monitor *monitor, const struct device_place *place)
{
    json_t *all = definition_to_json(monitor->definition);
    json_t *entry = json_array_get(json_object_get(all, options[place->kind].key), place->index);

    json_incref(entry);
    json_decref(all);
    return entry;
}

/* All that the device needs is there. */
static void ask_vmm(struct plug *plug)
{
    struct monitor *monitor = plug->monitor;
    int fd = files_device(monitor->files, plug->id);
    struct device_place place;
    json_t *params;

    definition_find_device(monitor->definition, plug->id, &place);
    params = json_pack("{s:s, s:o}", "kind", options[plug->kind].key, "options",
                       describe(monitor, &place));
    worker_ask(monitor->vmm, "vmm.attach", params, &fd, fd >= 0, on_attached, plug);
}

static void on_nat_added(void *opaque, const char *failure)
{
    if (failure)
        plug_fail(opaque, RPC_ERROR_FAILED, failure);
    else
        ask_vmm(opaque);
}

/* Everything but the vmm's part, which follows. */
static bool prepare(struct plug *plug, const struct device_place *place, GError **error)
{
    struct monitor *monitor = plug->monitor;
    bool good = place->kind == OPTION_DISK
                    ? files_add_disk(monitor->files, monitor->definition, place->index, error)
                    : files_add_nic(monitor->files, monitor->definition, place->index, error);

    if (!good)
        return false;
    if (files_nat_end(monitor->files, plug->id) >= 0)
        return nats_add(monitor->nats, monitor->definition, place->index, monitor->files,
                        on_nat_added, plug, error);
    ask_vmm(plug);
    return true;
}

void monitor_handle_attach(void *opaque, struct control_call *call)
{
    const char *kind = json_string_value(json_object_get(call->params, "kind"));
    struct monitor *monitor = opaque;
    const char *obstacle = find_obstacle(monitor);
    struct device_place place;
    struct plug *plug;
    GError *error = NULL;

    if (obstacle) {
        control_fail(call, RPC_ERROR_STATE, obstacle);
        return;
    }
    if (!definition_attach(monitor->definition, kind, json_object_get(call->params, "options"),
                           NULL, &place, &error)) {
        control_fail_error(call, error);
        return;
    }
    plug = plug_create(monitor, call,
                       definition_device_id(monitor->definition, place.kind, place.index),
                       place.kind, false);
    if (definition_fill_macs(monitor->definition, &error) && prepare(plug, &place, &error))
        return;
    plug_fail(plug, rpc_code_of(error), error->message);
    g_error_free(error);
}

/* ---- out ---- */

static void on_kept(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    struct plug *plug = opaque;

    plug_fail(plug, plug->code, plug->failure);
}

/* Wait no longer. It may have gone already: then the vmm says so before it answers. */
static void give_up(struct plug *plug, int code, const char *failure)
{
    if (plug->gives_up)
        return;
    plug->gives_up = true;
    plug->code = code;
    plug->failure = g_strdup(failure);
    g_clear_handle_id(&plug->timer, g_source_remove);
    worker_ask(plug->monitor->vmm, "vmm.keep", json_pack("{s:s}", "id", plug->id), NULL, 0, on_kept,
               plug);
}

static gboolean on_timeout(gpointer opaque)
{
    struct plug *plug = opaque;
    g_autofree char *failure = g_strdup_printf(
        "%s: the guest has not let go of it in time, and keeps it; is it in use, or is the guest "
        "without PCIe hot-plug?",
        plug->id);

    plug->timer = 0;
    give_up(plug, RPC_ERROR_FAILED, failure);
    return G_SOURCE_REMOVE;
}

static void on_asked(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    if (answer->kind == RPC_FAILURE)
        plug_fail(opaque, answer->code, answer->text);
}

static void ask_guest(struct plug *plug, bool anew)
{
    worker_ask(plug->monitor->vmm, "vmm.detach",
               json_pack("{s:s, s:b}", "id", plug->id, "ask", anew), NULL, 0, on_asked, plug);
}

void monitor_handle_device_detach(void *opaque, struct control_call *call)
{
    const char *id = json_string_value(json_object_get(call->params, "id"));
    json_t *timeout = json_object_get(call->params, "timeout");
    struct monitor *monitor = opaque;
    const char *obstacle = find_obstacle(monitor);
    struct device_place place;
    struct plug *plug;
    GError *error = NULL;

    if (!obstacle && find_plug(monitor, id))
        obstacle = "the device is on its way in or out already";
    if (obstacle) {
        control_fail(call, RPC_ERROR_STATE, obstacle);
        return;
    }
    if (!definition_find_detachable(monitor->definition, id, &place, &error)) {
        control_fail_error(call, error);
        return;
    }
    plug = plug_create(monitor, call, id, place.kind, true);
    jobs_begin(monitor->jobs, call);
    if (timeout)
        plug->timer = g_timeout_add_seconds(json_integer_value(timeout), on_timeout, plug);
    ask_guest(plug, true);
}

void plugs_released(struct monitor *monitor, json_t *params)
{
    struct plug *plug = find_plug(monitor, json_string_value(json_object_get(params, "id")));
    struct control_call *call;

    if (!plug || !plug->leaves) {
        g_warning("the vmm lets go of a device that it was not asked for");
        return;
    }
    call = plug->call;
    forget_device(monitor, plug->id);
    tell(plug, "device-detached");
    jobs_end(monitor->jobs, call, 0, NULL);
    plug_destroy(plug);
    control_reply(call, NULL);
}

/* ---- what happens meanwhile ---- */

bool plugs_come(const struct monitor *monitor)
{
    for (guint i = 0; i < monitor->plugs->len; i++)
        if (!((struct plug *)monitor->plugs->pdata[i])->leaves)
            return true;
    return false;
}

void plugs_renew(struct monitor *monitor)
{
    for (guint i = monitor->plugs->len; i-- > 0;) {
        struct plug *plug = monitor->plugs->pdata[i];

        if (plug->gives_up)
            plug_fail(plug, plug->code, plug->failure);
        else if (plug->leaves)
            ask_guest(plug, false);
    }
}

bool plugs_cancel(struct monitor *monitor, const struct control_call *call)
{
    for (guint i = 0; i < monitor->plugs->len; i++) {
        struct plug *plug = monitor->plugs->pdata[i];

        if (plug->call != call)
            continue;
        give_up(plug, RPC_ERROR_CANCELLED, "it was cancelled");
        return true;
    }
    return false;
}

void plugs_forget_peer(struct monitor *monitor, const struct peer *peer)
{
    for (guint i = 0; i < monitor->plugs->len; i++) {
        struct plug *plug = monitor->plugs->pdata[i];

        if (plug->call->peer == peer)
            plug->call->peer = NULL;
    }
}

void plugs_fail(struct monitor *monitor, const char *message)
{
    while (monitor->plugs->len)
        plug_fail(monitor->plugs->pdata[monitor->plugs->len - 1], RPC_ERROR_FAILED, message);
}
