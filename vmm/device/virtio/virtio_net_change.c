// SPDX-License-Identifier: Apache-2.0
/*
 * What changes at a network card while its guest runs: what the cable leads to, whether it is
 * plugged in, and how much may pass. The control thread asks, the I/O thread does it between two
 * frames; so a frame goes whole to the one link or the other, and none is given back twice.
 */
#include "vmm/device/virtio/virtio_net_internal.h"

static struct loop *loop_of(const struct virtio_net *net)
{
    return net->virtio.pci.device.env->loop;
}

static void lock(struct virtio_net *net)
{
    g_mutex_lock(&net->virtio.pci.device.lock);
}

static void unlock(struct virtio_net *net)
{
    g_mutex_unlock(&net->virtio.pci.device.lock);
}

static int64_t now_ns(const struct virtio_net *net)
{
    return clock_now(net->virtio.pci.device.env->clock);
}

/* ---- the rate ---- */

bool nic_rate_permits(struct virtio_net *net, unsigned queue)
{
    const struct throttle *rate = &net->host.rates[queue];

    if (throttle_is_due(rate, now_ns(net)))
        return true;
    clock_timer_arm(net->host.rate_timers[queue], throttle_due_ns(rate));
    return false;
}

void nic_rate_take(struct virtio_net *net, unsigned queue, uint32_t length)
{
    throttle_take(&net->host.rates[queue], length, now_ns(net));
}

void nic_rate_apply(struct virtio_net *net)
{
    for (unsigned i = NIC_RECEIVE; i <= NIC_TRANSMIT; i++)
        throttle_set(&net->host.rates[i], net->config.rate, net->config.burst_ns, now_ns(net));
}

/* ---- the cable ---- */

bool nic_cable_is_present(const struct virtio_net *net)
{
    return net->config.link && net_link_is_up(net->config.link) && !net->config.pulled;
}

void nic_cable_update(void *opaque)
{
    struct virtio_net *net = opaque;
    struct net_cable *cable = &net->state.cable;

    if (net->host.paused)
        return;
    lock(net);
    if (net_cable_update(cable, nic_cable_is_present(net),
                         virtio_has_feature(&net->virtio, VIRTIO_NET_F_GUEST_ANNOUNCE),
                         now_ns(net)))
        virtio_config_changed(&net->virtio);
    if (cable->phase != NET_CABLE_STEADY)
        clock_timer_arm(net->host.cable_timer, cable->until_ns);
    unlock(net);
}

/* ---- timers ---- */

static void on_cable_timer(void *opaque)
{
    loop_call(loop_of(opaque), nic_cable_update, opaque);
}

static void on_receive_timer(void *opaque)
{
    virtio_doorbell_ring(((struct virtio_net *)opaque)->host.doorbells[NIC_RECEIVE]);
}

static void on_transmit_timer(void *opaque)
{
    virtio_doorbell_ring(((struct virtio_net *)opaque)->host.doorbells[NIC_TRANSMIT]);
}

void nic_timers_create(struct virtio_net *net)
{
    struct clock *clock = net->virtio.pci.device.env->clock;

    net->host.cable_timer = clock_timer_create(clock, "virtio-net cable", on_cable_timer, net);
    net->host.rate_timers[NIC_RECEIVE] =
        clock_timer_create(clock, "virtio-net receive", on_receive_timer, net);
    net->host.rate_timers[NIC_TRANSMIT] =
        clock_timer_create(clock, "virtio-net transmit", on_transmit_timer, net);
}

void nic_timers_destroy(struct virtio_net *net)
{
    clock_timer_destroy(g_steal_pointer(&net->host.cable_timer));
    clock_timer_destroy(g_steal_pointer(&net->host.rate_timers[NIC_RECEIVE]));
    clock_timer_destroy(g_steal_pointer(&net->host.rate_timers[NIC_TRANSMIT]));
}

/* ---- changes ---- */

/* What the control thread wants changed. */
struct change {
    struct virtio_net *net;
    struct net_link *link; /* and the former one back */
    bool pulled;
    uint64_t rate;
    int64_t burst_ns;
};

static void cable_moved(struct virtio_net *net)
{
    lock(net);
    net_cable_move(&net->state.cable, now_ns(net));
    unlock(net);
    nic_cable_update(net);
    nic_receive(net);
    nic_transmit(net);
}

static void plug_on_loop(void *opaque)
{
    struct change *change = opaque;
    struct virtio_net *net = change->net;
    struct net_link *former = net->config.link;
    bool held = former && net_link_is_held(former);

    if (former)
        net_link_close(former);
    if (change->link)
        nic_open_link(net, change->link);
    if (change->link && held)
        net_link_hold(change->link);
    lock(net);
    net->config.link = change->link;
    unlock(net);
    change->link = former;
    cable_moved(net);
}

struct net_link *virtio_net_plug(struct device *device, struct net_link *link)
{
    struct change change = {.net = (struct virtio_net *)device, .link = link};

    loop_call_wait(device->env->loop, plug_on_loop, &change);
    return change.link;
}

static void pull_on_loop(void *opaque)
{
    const struct change *change = opaque;
    struct virtio_net *net = change->net;

    if (net->config.pulled == change->pulled)
        return;
    lock(net);
    net->config.pulled = change->pulled;
    unlock(net);
    cable_moved(net);
}

void virtio_net_pull(struct device *device, bool pulled)
{
    struct change change = {.net = (struct virtio_net *)device, .pulled = pulled};

    loop_call_wait(device->env->loop, pull_on_loop, &change);
}

static void limit_on_loop(void *opaque)
{
    const struct change *change = opaque;
    struct virtio_net *net = change->net;

    net->config.rate = change->rate;
    net->config.burst_ns = change->burst_ns;
    nic_rate_apply(net);
    nic_receive(net);
    nic_transmit(net);
}

void virtio_net_limit(struct device *device, uint64_t rate, int64_t burst_ns)
{
    struct change change = {.net = (struct virtio_net *)device, .rate = rate, .burst_ns = burst_ns};

    loop_call_wait(device->env->loop, limit_on_loop, &change);
}
