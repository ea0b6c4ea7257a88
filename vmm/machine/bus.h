// SPDX-License-Identifier: Apache-2.0
/*
 * A bus: one address space of device registers (ports or MMIO).
 *
 * A device claims a window and gets offsets into it; it never learns its address. The windows lie
 * in an immutable sorted table that is swapped by pointer and reclaimed by RCU, so that a vCPU
 * dispatches without a lock. An access runs on the vCPU's thread; the handler takes its device's
 * own lock. The bus refuses re-entry: an access to a window from inside a handler of the same
 * window on the same thread (DMA into one's own registers) is dropped and counted.
 *
 * Unclaimed reads give all ones, unclaimed writes vanish. Overlaps are resolved by priority, then
 * by the later claim. An access belongs to the window that wins its first byte, as long as it fits
 * into that window, even where another one wins a later byte: a 4-byte access to port 0xCF8 is one
 * access although the reset register lies at 0xCF9. Handlers see naturally aligned offsets only.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Access widths that a window takes, as a mask. */
enum bus_width {
    BUS_WIDTH_1 = 1,
    BUS_WIDTH_2 = 2,
    BUS_WIDTH_4 = 4,
    BUS_WIDTH_8 = 8,
    BUS_WIDTH_ANY = 15,
};

struct bus_ops {
    /* `offset` is within the window and offset + size does not leave it; `size` is one of
     * `widths`. A read returns its value in the low bytes. */
    uint64_t (*read)(void *device, uint64_t offset, unsigned size);
    void (*write)(void *device, uint64_t offset, unsigned size, uint64_t value);
    /* Mask of enum bus_width. A wider access is split into the widest permitted naturally aligned
     * pieces, low address first; a narrower one than any permitted reads the containing unit and
     * takes its part, and is dropped as a write. */
    unsigned widths;
};

struct bus;
struct bus_window;

/* `name` (static) for messages: "pio", "mmio". `limit` is the highest valid address. */
struct bus *bus_create(const char *name, uint64_t limit);
void bus_destroy(struct bus *bus);

/* Claim [base, base + length). `name` is copied. The window is live at return. Never fails for a
 * range within the limit; a range outside gives NULL. Any thread except RCU readers. */
struct bus_window *bus_claim(struct bus *bus, const char *name, uint64_t base, uint64_t length,
                             int priority, const struct bus_ops *ops, void *device);

/* Move a window (a BAR that the guest programmed); false when it would leave the address space, in
 * which case the window is unmapped. */
bool bus_move(struct bus_window *window, uint64_t base);

/* Take the window out of the map but keep it (BAR decoding switched off). Idempotent. May be called
 * from inside a handler. */
void bus_unmap(struct bus_window *window);

/* Unmap and free, after every reader has left. Not from inside a handler. NULL is fine. */
void bus_release(struct bus_window *window);

/* Writes that begin at `offset` of the window may, whatever their width and value, count `eventfd`
 * up instead of reaching `write` (-1: no more; at return none does). The window follows its place,
 * as far as it wins that byte, and tells the bus's shortcuts. Any thread, also inside a handler. */
void bus_doorbell(struct bus_window *window, uint64_t offset, int eventfd);

/* Who can catch such writes before they reach the bus (an engine); called with the bus locked.
 * `attach` may refuse: then writes come as ever. While no window has a doorbell. */
struct bus_shortcuts {
    bool (*attach)(void *opaque, uint64_t address, int eventfd);
    void (*detach)(void *opaque, uint64_t address, int eventfd);
    void *opaque;
};
void bus_set_shortcuts(struct bus *bus, const struct bus_shortcuts *shortcuts);

/* One access of 1 to 8 bytes by a vCPU; the value lies in the low bytes. Lock-free. */
uint64_t bus_read(struct bus *bus, uint64_t address, unsigned size);
void bus_write(struct bus *bus, uint64_t address, unsigned size, uint64_t value);

/* Accesses dropped since creation because they re-entered a window. */
uint64_t bus_reentries(struct bus *bus);

/* Call `fn` for each stretch of addresses that one window answers, ascending; for dumps and tests.
 * `name` is valid during the call. `fn` must not claim, move or release. */
void bus_for_each(struct bus *bus,
                  void (*fn)(void *opaque, const char *name, uint64_t first, uint64_t last),
                  void *opaque);

/* Whether any window covers the address; for tests and dumps. */
bool bus_is_claimed(struct bus *bus, uint64_t address);
