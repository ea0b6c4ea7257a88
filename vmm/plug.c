// SPDX-License-Identifier: Apache-2.0
/*
 * Disks and network cards of the vmm: what the definition says of them, and those that come and go
 * while the machine runs.
 *
 * What is here stands in three places, always in the same order: the definition, the attachments
 * (what the monitor's descriptor became), the machine. "vmm.attach" fills them in that order and
 * empties them again when one fails. "vmm.detach" asks the guest; when it has let go, they are
 * emptied from the end, and the monitor is told by the notification "released".
 */
#include <string.h>

#include "config/devices.h"
#include "config/nics.h"
#include "vmm/internal.h"

/* ---- from definition to machine ---- */

static struct machine_place place_of(const struct definition *definition, enum option_id kind,
                                     unsigned index)
{
    struct device_address address = definition_device_address(definition, kind, index);

    return (struct machine_place){.port = address.bus, .device = address.device};
}

struct machine_disk vmm_disk(const struct vmm *vmm, unsigned index)
{
    const struct definition *definition = vmm->definition;
    const char *cache = definition_member_text(definition, OPTION_DISK, index, "cache");

    return (struct machine_disk){
        .id = definition_device_id(definition, OPTION_DISK, index),
        .place = place_of(definition, OPTION_DISK, index),
        .block = vmm->attachments.disks[index],
        .serial = definition_member_text(definition, OPTION_DISK, index, "serial"),
        .writethrough = strcmp(cache, "writethrough") == 0,
        .discard = definition_member_number(definition, OPTION_DISK, index, "discard"),
    };
}

struct machine_nic vmm_nic(const struct vmm *vmm, unsigned index)
{
    struct nic nic = definition_nic(vmm->definition, index);
    struct machine_nic result = {
        .id = definition_device_id(vmm->definition, OPTION_NIC, index),
        .place = place_of(vmm->definition, OPTION_NIC, index),
        .link = vmm->attachments.links[index],
        .mtu = nic.mtu,
        .pulled = nic.pulled,
        .rate = nic.rate,
        .burst_ns = nic_burst_ns(&nic),
    };

    memcpy(result.mac, nic.mac, sizeof(nic.mac));
    return result;
}

/* ---- attaching ---- */

static void remove_device(struct vmm *vmm, const struct device_place *place)
{
    attachments_remove(&vmm->attachments, place->kind, place->index);
    definition_drop(vmm->definition, place->kind, place->index);
}

/* The entry at `place` has just come into the definition; takes call->fds. */
static bool attach(struct vmm *vmm, const struct device_place *place, struct control_call *call,
                   GError **error)
{
    if (!attachments_add(&vmm->attachments, vmm->definition, place, call->fds, call->count, vmm->io,
                         error))
        return false;
    if (place->kind == OPTION_DISK) {
        struct machine_disk disk = vmm_disk(vmm, place->index);
        return machine_attach_disk(vmm->machine, &disk, error);
    }
    struct machine_nic nic = vmm_nic(vmm, place->index);
    return machine_attach_nic(vmm->machine, &nic, error);
}

void vmm_handle_attach(void *opaque, struct control_call *call)
{
    const char *kind = json_string_value(json_object_get(call->params, "kind"));
    json_t *entry = json_object_get(call->params, "options");
    struct vmm *vmm = opaque;
    struct device_place place;
    GError *error = NULL;

    if (!definition_attach(vmm->definition, kind, entry, NULL, &place, &error)) {
        control_fail_error(call, error);
        return;
    }
    if (attach(vmm, &place, call, &error)) {
        control_reply(call, NULL);
        return;
    }
    remove_device(vmm, &place);
    control_fail_error(call, error);
}

/* ---- detaching ---- */

void vmm_on_released(void *opaque, const char *id)
{
    g_autofree char *name = g_strdup(id);
    struct vmm *vmm = opaque;
    struct device_place place;

    /* Another vmm is being made of what is here now: it will see that the slot is off. */
    if (vmm->described || !definition_find_device(vmm->definition, name, &place))
        return;
    machine_detach(vmm->machine, name);
    remove_device(vmm, &place);
    peer_send(vmm->link, rpc_notification("released", json_pack("{s:s}", "id", name)), NULL, 0);
}

void vmm_handle_detach(void *opaque, struct control_call *call)
{
    const char *id = json_string_value(json_object_get(call->params, "id"));
    bool ask = json_is_true(json_object_get(call->params, "ask"));
    struct vmm *vmm = opaque;
    GError *error = NULL;

    vmm->described = false;
    if (machine_release(vmm->machine, id, ask, &error))
        control_reply(call, NULL);
    else
        control_fail_error(call, error);
}

void vmm_handle_keep(void *opaque, struct control_call *call)
{
    struct vmm *vmm = opaque;

    machine_release_cancel(vmm->machine, json_string_value(json_object_get(call->params, "id")));
    control_reply(call, NULL);
}
