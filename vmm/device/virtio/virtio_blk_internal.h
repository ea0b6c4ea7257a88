// SPDX-License-Identifier: Apache-2.0
/*
 * What the files of the virtio block device share: virtio_blk.c is the device, virtio_blk_request.c
 * the way of a request.
 */
#pragma once

#include <linux/virtio_blk.h>
#include <sys/queue.h>

#include "vmm/device/virtio/virtio.h"
#include "vmm/device/virtio/virtio_blk.h"

#define BLK_QUEUE_SIZE 256
#define BLK_VECTORS_MAX \
    (VIRTQUEUE_SIZE_MAX + 8)       /* buffers may cross from one block of RAM to the next */
#define BLK_ZEROES_MAX  (1U << 17) /* sectors of one request: what a pause may have to wait for */
#define BLK_DISCARD_MAX (1U << 22)

/* The host's part of a request; its place is by queue and head. The loop's thread only. */
struct blk_request {
    struct virtio_blk *blk;
    LIST_ENTRY(blk_request) link; /* in `taken` or `parked` */
    struct virtqueue_request *chain;
    struct block_request block;
    struct iovec vectors[BLK_VECTORS_MAX];
};

LIST_HEAD(blk_list, blk_request);

/* The host's part of a queue. */
struct blk_queue {
    struct virtio_blk *blk;
    struct loop_watch *watch;     /* of its doorbell */
    struct blk_request *requests; /* BLK_QUEUE_SIZE, by head; memory comes with their first use */
};

struct virtio_blk {
    struct virtio_device virtio;
    struct virtio_disk_config config;
    struct virtio_blk_state {
        struct virtio_state virtio;
        struct virtqueue_state queues[VIRTIO_BLK_QUEUES_MAX];
        struct pci_msix_entry vectors[VIRTIO_BLK_QUEUES_MAX + 1];
        bool writeback; /* the driver lets writes lie in the host's cache (5.2.5, writeback) */
    } state;
    struct {
        int doorbells[VIRTIO_BLK_QUEUES_MAX];
        unsigned busy; /* requests in `taken`; device locked */
        GCond idle;    /* ...there is none any more */
        /* The loop's thread only. */
        struct blk_queue queues[VIRTIO_BLK_QUEUES_MAX];
        struct blk_list taken;  /* at the block node, or on the way */
        struct blk_list parked; /* taken back from a node that is held, while it is paused */
        bool running;           /* the machine is not paused */
        bool signalling;        /* a call is on its way to interrupt... */
        uint32_t to_signal;     /* ...for these queues */
    } host;
};

/* What was agreed with the driver that a request depends on. */
struct blk_terms {
    bool stable;           /* writes are done when they are on stable storage */
    bool discards, zeroes; /* requests that may come */
};

/* Do what the request says; ends with blk_request_end. */
void blk_request_begin(struct blk_request *request, const struct blk_terms *terms);
/* Give it back to the driver; `written` bytes from the start of its writable part were written. */
void blk_request_end(struct blk_request *request, uint8_t status, uint32_t written);
/* It cannot be given back, as it has no place for a status. */
void blk_request_break(struct blk_request *request);
