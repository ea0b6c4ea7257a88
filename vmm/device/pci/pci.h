// SPDX-License-Identifier: Apache-2.0
/*
 * PCI: functions, buses and how their registers reach the guest.
 *
 * The model (PCI Local Bus 3.0; PCI-to-PCI Bridge 1.2; PCI Express Base 3.0):
 *
 * - A *function* is what the guest can configure: 256 bytes of configuration space, 4096 for a PCI
 *   Express function. Each byte has a mask of bits that the guest may write and a mask of bits that
 *   the guest clears by writing one; all other bits are the device's. That is all of the guest's
 *   power over the space: what hangs on a register is done after the bytes have changed.
 * - A *BAR* is a window of registers. The guest writes its address into configuration space and
 *   switches decoding on in the command register; we then move the window on the port or MMIO bus.
 *   A BAR behind a bridge also needs the bridge to forward the range.
 * - A *bus* has 32 devices of 8 functions. Bus 0 hangs on the host bridge; another bus hangs on a
 *   bridge function, which holds its number. An access names bus, device and function and is routed
 *   from bus 0 down, as type 1 cycles are.
 * - *INTA..INTD* are level-triggered wires. A bridge swizzles them by the device's number, at bus 0
 *   they end at eight PIRQ lines. Several functions share one: it is high while anyone drives it.
 * - *MSI and MSI-X* are writes of 4 bytes by the function. They have an enable bit, masks, and
 *   pending bits that remember what was held back by a mask. Being bus-master writes they need the
 *   bus-master bit.
 * - The *bus-master bit* of the function and of every bridge above opens its dma_space.
 *
 * A PCI device embeds struct pci_function as its first member (which begins with struct device),
 * has a struct pci_state in its `state`, and calls, in its init: pci_function_init, then what it
 * has (BARs, capabilities, masks), then pci_function_plug.
 *
 * Locks, outer to inner: the hierarchy's (all configuration accesses and topology), the device's,
 * the function's (bytes, masks of interrupts), PIRQ lines. Callbacks into a device run with the
 * hierarchy's lock held and must not make configuration accesses.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/device/device.h"

#define PCI_FUNCTIONS        256 /* of a bus: device << 3 | function */
#define PCI_CONFIG_SIZE      256
#define PCIE_CONFIG_SIZE     4096
#define PCI_BARS             6
#define PCI_PIRQS            8
#define PCI_MSIX_VECTORS_MAX 2048
/* BARs lose against the chipset's own windows, as the host bridge decodes those first. */
#define PCI_BAR_PRIORITY (-1)

#define PCI_DEVFN(device, function) ((uint8_t)(((device)&31) << 3 | ((function)&7)))

struct pci_bus;
struct pci_function;

/* All that the guest can see of a function's PCI part, but for MSI-X entries. */
struct pci_state {
    uint8_t config[PCIE_CONFIG_SIZE];
};
extern const struct state_table pci_state_table;

/* One MSI-X vector: table entry and pending bit (PCI 3.0, 6.8.2). Lives in the device's state. */
struct pci_msix_entry {
    uint64_t address;
    uint32_t data;
    uint32_t control; /* bit 0: masked */
    bool pending;
};
extern const struct state_table pci_msix_entry_table;

/* Where a function sits. The first member of each PCI device's config struct. */
struct pci_address {
    struct pci_bus *bus; /* NULL: the root bus of the environment */
    uint8_t device;      /* 0..31 */
    uint8_t function;    /* 0..7 */
};

struct pci_identity {
    uint16_t vendor, device;
    uint16_t subsystem_vendor, subsystem; /* not for bridges */
    uint32_t class_code;                  /* base class << 16 | subclass << 8 | interface */
    uint8_t revision;
    uint8_t interrupt_pin; /* 0 none, 1..4 for INTA..INTD */
    bool bridge;           /* a type 1 header */
    bool multifunction;    /* function 0 of several */
    bool express;          /* 4096 bytes of configuration space */
};

struct pci_function_ops {
    /* The guest is about to read [offset, offset + size) of configuration space: bytes that follow
     * something else may be brought up to date. May be NULL. */
    void (*config_reading)(struct pci_function *function, unsigned offset, unsigned size);
    /* The guest wrote [offset, offset + size) of configuration space; the bytes have changed, BARs
     * and interrupts are up to date. May be NULL. */
    void (*config_written)(struct pci_function *function, unsigned offset, unsigned size);
};

enum pci_bar_kind {
    PCI_BAR_NONE,
    PCI_BAR_IO,
    PCI_BAR_MEMORY32,
    PCI_BAR_MEMORY64, /* takes this BAR and the next */
};

struct pci_bar {
    enum pci_bar_kind kind;
    bool prefetchable; /* reads have no side effects */
    uint64_t size;     /* bytes, a power of two; at least 4 (I/O) or 16 */
    struct bus_window *window;
    uint64_t mapped; /* where the window is; meaningful while `decoded` */
    bool decoded;
};

/* The PCI part of a device; all but `device` and `dma` belongs to this module. */
struct pci_function {
    struct device device;
    struct dma_space dma; /* for the device's own use; enabled by the bus-master bits */

    const struct pci_function_ops *ops;
    struct pci_state *state;
    struct pci_masks *masks; /* what the guest may write, and the bytes after reset */
    struct pci_bus *bus;
    struct pci_bus *secondary; /* of a bridge */
    uint16_t config_size;
    uint8_t devfn;
    uint8_t interrupt_pin;
    bool plugged;
    bool intx_driven; /* holds its PIRQ line up */

    GMutex lock;
    struct pci_bar bars[PCI_BARS];
    uint8_t capability_end, capability_link; /* free space; where to link the next one in */
    uint8_t pm, msi, msix, express;          /* offsets of capabilities, 0 if not there */
    uint8_t msi_order;                       /* 1 << msi_order vectors were asked for */
    struct pci_msix_entry *msix_entries;     /* in the device's state */
    unsigned msix_count;
};

/* ---- buses ---- */

/* Bus 0, with nothing on it. */
struct pci_bus *pci_root_create(void);

/* Where the PIRQ lines end: at the interrupt router (the LPC bridge), which calls this in its init
 * and again with NULL when it goes. The lines are copied and driven to their level. */
void pci_root_connect(struct pci_bus *root, const struct irq_line pirq[PCI_PIRQS]);

/* A bus behind `bridge`, which must have a type 1 header. */
struct pci_bus *pci_bus_create(struct pci_function *bridge);

/* The bus must have no function left. NULL is fine. */
void pci_bus_destroy(struct pci_bus *bus);

/* The function at `devfn` of this very bus, or NULL. Control thread. */
struct pci_function *pci_bus_function(struct pci_bus *bus, uint8_t devfn);

/* A configuration access from the host bridge, of 1, 2 or 4 bytes. Where nothing answers, reads
 * give all ones and writes vanish. `root` is bus 0. Any thread. */
uint32_t pci_config_read(struct pci_bus *root, uint8_t bus, uint8_t devfn, unsigned offset,
                         unsigned size);
void pci_config_write(struct pci_bus *root, uint8_t bus, uint8_t devfn, unsigned offset,
                      unsigned size, uint32_t value);

/* ---- a function's life ---- */

/* Fills the header. `function` is zeroed but for its device part. `state` lies in the device's
 * state. false and `error` when the place is taken or does not exist. */
bool pci_function_init(struct pci_function *function, const struct pci_identity *identity,
                       const struct pci_address *address, struct pci_state *state,
                       const struct pci_function_ops *ops, GError **error);
/* All registers are there: remember them as the state after reset and become visible. */
void pci_function_plug(struct pci_function *function);
/* Leave the bus, release windows. Also after a failed init. */
void pci_function_finish(struct pci_function *function);
/* To the bytes of pci_function_plug; windows are unmapped, lines lowered. */
void pci_function_reset(struct pci_function *function);
/* The state was replaced: restore what the guest cannot change, move windows, drive lines. */
void pci_function_post_load(struct pci_function *function);

/* ---- registers, from the device's side ---- */

/* Little-endian access without masks. `offset` + `size` within the space; `size` 1, 2 or 4. */
uint32_t pci_config_get(struct pci_function *function, unsigned offset, unsigned size);
void pci_config_set(struct pci_function *function, unsigned offset, unsigned size, uint32_t value);
/* Which bits the guest may write (`writable`) and clear by writing one (`clear`). */
void pci_config_mask(struct pci_function *function, unsigned offset, unsigned size,
                     uint32_t writable, uint32_t clear);

/* A BAR; in init only. `ops` and `opaque` serve its window, `name` is for messages. */
bool pci_bar_add(struct pci_function *function, unsigned index, enum pci_bar_kind kind,
                 bool prefetchable, uint64_t size, const char *name, const struct bus_ops *ops,
                 void *opaque, GError **error);

/* bus_doorbell for the window of a BAR that pci_bar_add made, with or without the device's lock. */
void pci_bar_doorbell(struct pci_function *function, unsigned index, uint64_t offset, int eventfd);

/* ---- capabilities (pci_capability.c); in init only ---- */

/* Room for a capability of `length` bytes, linked in; its offset, or 0 when there is none left. */
unsigned pci_capability_add(struct pci_function *function, uint8_t id, unsigned length);
/* Power management (PM 1.2, 3.2): D0 and D3hot, no reset in between. */
void pci_pm_add(struct pci_function *function);
/* MSI with 64-bit address and masks; `vectors` is 1, 2, 4, 8, 16 or 32. */
void pci_msi_add(struct pci_function *function, unsigned vectors);
/* MSI-X with table and pending array in a BAR of its own; `entries` lies in the device's state. */
bool pci_msix_add(struct pci_function *function, unsigned bar, struct pci_msix_entry *entries,
                  unsigned count, GError **error);
/* PCI Express (Base 3.0, 7.8); `type` is PCI_EXP_TYPE_*. Its offset. */
unsigned pci_express_add(struct pci_function *function, unsigned type);

/* ---- interrupts; any thread, with or without the device's lock ---- */

/* Drive INTx: the interrupt status bit and, unless disabled, the line. */
void pci_intx_set(struct pci_function *function, bool level);
bool pci_msi_enabled(struct pci_function *function);
bool pci_msix_enabled(struct pci_function *function);
/* Send vector `vector`, or remember it while masked. Vectors that are not there are ignored. */
void pci_msi_notify(struct pci_function *function, unsigned vector);
void pci_msix_notify(struct pci_function *function, unsigned vector);

/* ---- between pci.c and pci_capability.c ---- */

/* After configuration bytes of a capability changed: send what is pending and not masked. */
void pci_interrupts_update(struct pci_function *function);
/* Mask every MSI-X vector, as reset does. */
void pci_msix_reset(struct pci_function *function);
/* D0: only then does a function decode and send. */
bool pci_powered(struct pci_function *function);
