// SPDX-License-Identifier: Apache-2.0
/*
 * "vmm.change": options of a machine that runs. The monitor has checked that they can change; here
 * what can still fail (a link, a timer) is made before anything is touched.
 */
#include <string.h>
#include <unistd.h>

#include "config/devices.h"
#include "config/live.h"
#include "config/nics.h"
#include "vmm/device/virtio/virtio_net.h"
#include "vmm/internal.h"

enum machine_on_reboot vmm_reboot_policy(const struct definition *definition)
{
    return strcmp(definition_text(definition, OPTION_ON_REBOOT), "exit") == 0
               ? MACHINE_REBOOT_EXIT
               : MACHINE_REBOOT_RESTART;
}

enum machine_on_crash vmm_crash_policy(const struct definition *definition)
{
    const char *word = definition_text(definition, OPTION_ON_CRASH);

    if (strcmp(word, "pause") == 0)
        return MACHINE_CRASH_PAUSE;
    return strcmp(word, "restart") == 0 ? MACHINE_CRASH_RESTART : MACHINE_CRASH_EXIT;
}

/* ---- network cards ---- */

/* What the card is plugged into now: the descriptor that came along, or nothing. */
static bool open_link(const struct definition *after, unsigned card, struct control_call *call,
                      struct net_link **link, GError **error)
{
    struct nic nic = definition_nic(after, card);

    *link = NULL;
    if (call->count != (nic.network != NIC_NONE)) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                    "the descriptors do not fit the network");
        return false;
    }
    if (call->count)
        *link = attachments_link(after, card, call->fds[0], error);
    if (call->count)
        call->fds[0] = -1;
    return *link || !call->count;
}

static void apply_nic(struct vmm *vmm, const struct definition *after, const char *id,
                      unsigned card)
{
    struct device *device = machine_device(vmm->machine, id);
    struct nic nic = definition_nic(after, card);

    virtio_net_pull(device, nic.pulled);
    if (definition_differs(vmm->definition, after, id, "rate") ||
        definition_differs(vmm->definition, after, id, "burst"))
        virtio_net_limit(device, nic.rate, nic_burst_ns(&nic));
}

static bool change_nic(struct vmm *vmm, const struct definition *after, const char *id,
                       unsigned card, struct control_call *call, GError **error)
{
    bool cable = json_is_true(json_object_get(call->params, "cable"));
    struct net_link *link;

    if (cable && !open_link(after, card, call, &link, error))
        return false;
    if (cable) {
        vmm->attachments.links[card] = link;
        net_link_destroy(virtio_net_plug(machine_device(vmm->machine, id), link));
    }
    apply_nic(vmm, after, id, card);
    return true;
}

/* ---- all ---- */

static bool change(struct vmm *vmm, const struct definition *after, const char *id,
                   struct control_call *call, GError **error)
{
    struct device_place place;
    struct block_limits limits;

    if (!id) {
        machine_set_policies(vmm->machine, vmm_reboot_policy(after), vmm_crash_policy(after));
        return true;
    }
    /* It is there, or there would be no definition to follow. */
    definition_find_device(after, id, &place);
    if (place.kind == OPTION_NIC)
        return change_nic(vmm, after, id, place.index, call, error);
    limits = attachments_disk_limits(after, place.index);
    return block_set_limits(vmm->attachments.disks[place.index], &limits, error);
}

void vmm_handle_change(void *opaque, struct control_call *call)
{
    const char *id = json_string_value(json_object_get(call->params, "id"));
    const struct live_change wanted = live_change_of(call->params);
    struct vmm *vmm = opaque;
    struct definition *after;
    GError *error = NULL;

    after = definition_follow_live(vmm->definition, id, &wanted, &error);
    if (!after || !change(vmm, after, id, call, &error)) {
        definition_destroy(after);
        control_fail_error(call, error);
        return;
    }
    definition_destroy(vmm->definition);
    vmm->definition = after;
    control_reply(call, NULL);
}
