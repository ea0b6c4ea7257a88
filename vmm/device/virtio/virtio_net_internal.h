// SPDX-License-Identifier: Apache-2.0
/*
 * What the files of the virtio network card share: virtio_net.c is the device and the way of a
 * frame, virtio_net_change.c what may change while it runs: its cable and its rate.
 */
#pragma once

#include "vmm/device/virtio/net_cable.h"
#include "vmm/device/virtio/net_filter.h"
#include "vmm/device/virtio/virtio.h"
#include "vmm/device/virtio/virtio_net.h"
#include "vmm/util/throttle.h"

#define NIC_QUEUE_SIZE 256

enum { NIC_RECEIVE, NIC_TRANSMIT, NIC_CONTROL, NIC_QUEUES };

struct virtio_net {
    struct virtio_device virtio;
    /* `link` and `pulled` change on the I/O thread, under the device's lock. */
    struct virtio_nic_config config;
    struct virtio_net_state {
        struct virtio_state virtio;
        struct virtqueue_state queues[NIC_QUEUES];
        struct pci_msix_entry vectors[NIC_QUEUES + 1];
        struct net_filter filter;
        struct net_cable cable;
    } state;
    struct {
        bool commands_left; /* after a batch; by the device's lock */
        int doorbells[NIC_QUEUES];
        struct loop_watch *watches[NIC_QUEUES];
        struct clock_timer *cable_timer;              /* the cable's next phase */
        struct clock_timer *rate_timers[NIC_CONTROL]; /* the queue's frames may move again */
        /* The rest is the I/O thread's. */
        struct throttle rates[NIC_CONTROL]; /* of frames, by queue */
        bool paused;
        struct virtqueue_request *sending; /* taken, waits for the link */
        struct iovec vectors[NET_VECTORS_MAX];
        /* Buffers taken for the frame that comes, `room` bytes in all. */
        struct virtqueue_request *buffers[NIC_QUEUE_SIZE];
        uint32_t written[NIC_QUEUE_SIZE];
        unsigned buffer_count;
        uint64_t room;
    } host;
};

/* ---- virtio_net.c; on the I/O thread, not locked ---- */

/* Frames and commands that wait may go on. */
void nic_receive(struct virtio_net *net);
void nic_transmit(struct virtio_net *net);
/* Let frames flow over a link. */
void nic_open_link(struct virtio_net *net, struct net_link *link);

/* ---- virtio_net_change.c ---- */

/* The timers, which fire on the clock's thread. For init and finish of the device. */
void nic_timers_create(struct virtio_net *net);
void nic_timers_destroy(struct virtio_net *net);

/* Whether the rate lets a frame of the queue pass now; if not, the queue is looked at in time. On
 * the I/O thread. */
bool nic_rate_permits(struct virtio_net *net, unsigned queue);
/* Such a frame has passed. */
void nic_rate_take(struct virtio_net *net, unsigned queue, uint32_t length);
/* The config's rate counts from now on. */
void nic_rate_apply(struct virtio_net *net);

/* Whether the cable leads anywhere. On the I/O thread, or locked. */
bool nic_cable_is_present(const struct virtio_net *net);
/* Tell the guest what it does not know yet of its cable; a pause puts that off. On the I/O thread,
 * not locked. */
void nic_cable_update(void *net);
