// SPDX-License-Identifier: Apache-2.0
/*
 * Virtio devices (Virtual I/O Device 1.2) over PCI, the modern interface only.
 *
 * The model:
 *
 * - A *driver* in the guest and a *device* here agree on *features* (2.2): the device offers bits,
 *   the driver accepts some, then sets FEATURES_OK, and we say whether that set can be. From then
 * on the features are fixed. DRIVER_OK starts the device, status 0 resets it (2.1, 3.1).
 * - A *virtqueue* (2.6, 2.7, split rings) carries *requests* from the driver to the device. The
 *   driver writes *descriptors* (address, length, direction) into a table, chains them, and puts
 * the number of the chain's first one, its *head*, into the *available* ring. The device takes it,
 *   does what is asked, and puts the head and the count of bytes that it wrote into the *used*
 * ring. A chain's readable part comes first, the writable part after it. An *indirect* descriptor
 * names a table of further ones elsewhere in memory.
 * - A *notification* tells the device that there are new heads (a write to the queue's doorbell),
 * an *interrupt* tells the driver that there are used ones. With the *event index* (2.7.7.1, 2.7.8)
 *   each side writes how far the other may go without a word.
 * - All that a driver writes is hostile. A descriptor is copied once, then checked, then used. A
 *   ring or chain that cannot be *breaks* the device: DEVICE_NEEDS_RESET is set (2.1.2), the error
 *   is counted, and nothing is taken or completed until the driver resets the device.
 * - A request may complete later, on another thread, and in any order. The queue's state keeps the
 *   heads that were taken and not completed, in order; after a load they are taken again, before
 *   any new one. So a request must be harmless when it is done twice.
 *
 * A device embeds struct virtio_device as its first member (which begins with struct pci_function).
 * In its `state` lie a struct virtio_state, one struct virtqueue_state a queue, and one struct
 * pci_msix_entry more than queues. It calls virtio_init, and hands its reset, post_load, resume and
 * finish on to virtio_reset, virtio_post_load, virtio_resume and virtio_finish.
 *
 * Threads: `notify` runs on a vCPU's thread with the device's lock held; it does its work at once
 * or wakes another thread. A queue that is served on an I/O thread has a *doorbell* instead, an
 * eventfd that its thread watches: notifications are written to it, by the transport or, without
 * an exit out of the guest, by the engine. It may ring for nothing. virtqueue_take, _complete and
 * _signal want the device's lock, on whatever thread. Between take and complete the request belongs
 * to the device: its buffers may be read, written and mapped without a lock. `stop` is called
 * without the lock and returns when no thread touches a request any more.
 */
#pragma once

#include "vmm/device/pci/pci.h"

#define VIRTQUEUE_SIZE_MAX 256    /* entries of a ring; also the longest chain */
#define VIRTIO_NO_VECTOR   0xFFFF /* of MSI-X: do not interrupt (4.1.5.1.2) */

struct virtio_device;
struct virtqueue;

/* ---- what a stream holds ---- */

/* All that outlives an instant of a virtqueue. */
struct virtqueue_state {
    uint16_t size; /* entries; a power of two */
    uint16_t vector;
    bool enabled;
    uint64_t descriptors, available, used; /* addresses of the three areas */
    uint16_t next_available;               /* ring index of the next head to take */
    uint16_t next_used;                    /* ring index of the next head to give back */
    uint16_t signalled;                    /* next_used when the driver was last considered */
    uint16_t in_flight_count;
    uint16_t in_flight[VIRTQUEUE_SIZE_MAX]; /* heads taken and not completed, oldest first */
};
extern const struct state_table virtqueue_state_table;

/* The transport's part. */
struct virtio_state {
    struct pci_state pci;
    uint64_t driver_features;
    uint32_t device_feature_select, driver_feature_select; /* which half the registers show */
    uint16_t queue_select;
    uint16_t config_vector;
    uint8_t status;
    uint8_t interrupts; /* ISR: what INTx stands for */
    uint8_t config_generation;
};
extern const struct state_table virtio_state_table;

/* ---- requests ---- */

struct virtqueue_buffer {
    uint64_t address;
    uint32_t length;
};

/* One chain of descriptors, copied and checked. */
struct virtqueue_request {
    struct virtqueue *queue;
    uint16_t head;
    uint16_t readable, writable;               /* counts of buffers */
    uint32_t readable_length, writable_length; /* bytes; together they fit into 32 bits */
    /* The readable ones, then the writable ones. */
    struct virtqueue_buffer buffers[VIRTQUEUE_SIZE_MAX];
};

/* Copy bytes [offset, offset + length) of the readable part into `to`. false when the part is
 * shorter (nothing is copied then) or memory cannot be reached. Any thread, while the request is
 * the device's. */
bool virtqueue_request_read(const struct virtqueue_request *request, uint64_t offset, void *to,
                            uint32_t length);
/* Copy into bytes [offset, offset + length) of the writable part. As above. */
bool virtqueue_request_write(const struct virtqueue_request *request, uint64_t offset,
                             const void *from, uint32_t length);

/* ---- queues ---- */

struct virtqueue {
    struct virtio_device *device;
    struct virtqueue_state *state;
    struct virtqueue_request *requests; /* by head; memory for them comes with their first use */
    bool taken[VIRTQUEUE_SIZE_MAX];     /* which of them are the device's */
    uint16_t size_max;
    uint16_t to_retake; /* of state->in_flight: those from a load, to be taken again */
    uint16_t retaken;   /* ...and how many of them were looked at */
};

/* The next request, those from before a load first; NULL when there is none, or the device is
 * stopped or broken. The driver is asked to notify before NULL is returned. */
struct virtqueue_request *virtqueue_take(struct virtqueue *queue);

/* Give a request back: `written` bytes from the start of its writable part were written. It is not
 * the device's any more. Interrupts nobody: virtqueue_signal follows, after one or several. */
void virtqueue_complete(struct virtqueue_request *request, uint32_t written);

/* The same for `count` requests of one queue, which the driver sees all at once, in this order. */
void virtqueue_complete_all(struct virtqueue *queue, struct virtqueue_request *const *requests,
                            const uint32_t *written, unsigned count);

/* Interrupt the driver if requests were completed since the last call, and it wants to know. */
void virtqueue_signal(struct virtqueue *queue);

/* ---- devices ---- */

/* A kind of virtio device. */
struct virtio_class {
    uint16_t id;          /* device ID (chapter 5) */
    uint32_t class_code;  /* PCI's: base class << 16 | subclass << 8 | interface */
    unsigned config_size; /* bytes of device configuration, at most 256 */
    /* The driver has (or may have) put requests into the queue. Device locked. NULL when every
     * queue has a doorbell. */
    void (*notify)(struct virtio_device *device, unsigned queue);
    /* Let go of every request, as if none had been taken; afterwards none is touched. Comes before
     * a reset. Not locked. */
    void (*stop)(struct virtio_device *device);
    /* Fill the zeroed `config` of config_size bytes. NULL if there is no configuration. Locked. */
    void (*config_read)(struct virtio_device *device, uint8_t *config);
    /* The driver wrote. NULL: nothing can be written. Locked. */
    void (*config_write)(struct virtio_device *device, unsigned offset, unsigned size,
                         uint32_t value);
};

struct virtio_device {
    struct pci_function pci;
    const struct virtio_class *class;
    struct virtio_state *state;
    struct virtqueue *queues;
    unsigned queue_count;
    uint64_t offered;     /* features */
    const int *doorbells; /* as in the parts */
    bool doorbells_hung;  /* up on the bus, so that writes need not come here */
    GMutex reset_lock;    /* one reset at a time; outside of the device's lock */
    bool stopping;        /* takes nothing */
    uint8_t window;       /* offset of the capability for access by configuration space */
};

/* Where things lie and how many there are. */
struct virtio_parts {
    struct pci_address address;
    struct virtio_state *state;
    struct virtqueue_state *queues; /* `queue_count` of them */
    struct pci_msix_entry *vectors; /* queue_count + 1 */
    unsigned queue_count;           /* at least 1 */
    uint16_t queue_size;            /* largest; a power of two up to VIRTQUEUE_SIZE_MAX */
    uint64_t features;              /* of this class of device; those of the rings are added */
    /* By queue, an eventfd that is written to where `notify` would be called, or -1; NULL: none has
     * one. While the driver runs, the engine may write to it in place of the transport. The array
     * and the eventfds live as long as the device. */
    const int *doorbells;
};

/* Make `device` a function with virtio's registers, and plug it. The device must be ready to be
 * notified. false and `error` when the address is taken. */
bool virtio_init(struct virtio_device *device, const struct virtio_class *class,
                 const struct virtio_parts *parts, GError **error);
/* Undo it; also after a failed init. `stop` is not called. */
void virtio_finish(struct virtio_device *device);
/* For the ops of the device: to the power-on state, with `stop` called. */
void virtio_reset(struct virtio_device *device);
/* For the ops of the device, after its own part was made good: requests in flight will be taken
 * again. Nothing is notified: the device sees to its queues when it goes on (virtio_resume). */
void virtio_post_load(struct virtio_device *device);
/* For the ops of the device, last in its `resume`: notify of every queue that may have requests.
 * Not locked. */
void virtio_resume(struct virtio_device *device);

/* A doorbell for one of the device's queues: an eventfd, the caller's to close. -1 and `error` when
 * the host has no descriptor left. */
int virtio_doorbell_create(const struct virtio_device *device, GError **error);
/* Ring a doorbell, as the driver does. Any thread. */
void virtio_doorbell_ring(int fd);

/* Whether the driver has accepted feature bit `bit`. Device locked. */
bool virtio_has_feature(const struct virtio_device *device, unsigned bit);
/* Whether requests may be taken: the driver is ready and the device neither broken nor stopping.
 * Device locked. */
bool virtio_is_running(const struct virtio_device *device);
/* The device's configuration has changed: tell the driver. Device locked. */
void virtio_config_changed(struct virtio_device *device);
/* The driver broke the rules: DEVICE_NEEDS_RESET, counted and logged. Device locked. */
void virtio_break(struct virtio_device *device, const char *what);

/* ---- between virtqueue.c and virtio_pci.c ---- */

void virtqueue_init(struct virtqueue *queue, struct virtio_device *device,
                    struct virtqueue_state *state, uint16_t size_max);
void virtqueue_finish(struct virtqueue *queue);
/* As before the driver set it up. */
void virtqueue_reset(struct virtqueue *queue);
/* The driver starts it: false when its areas are misplaced (2.7). */
bool virtqueue_enable(struct virtqueue *queue);
/* The state was replaced. */
void virtqueue_post_load(struct virtqueue *queue);
/* Interrupt for `queue`. Device locked. */
void virtio_interrupt_queue(struct virtio_device *device, struct virtqueue *queue);
