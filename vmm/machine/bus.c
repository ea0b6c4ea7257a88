// SPDX-License-Identifier: Apache-2.0
/*
 * Buses: claimed windows flattened into a table of disjoint spans.
 *
 * Each claim, move and unmap builds a new table and swaps the pointer. The old one cannot always be
 * freed at once: a BAR is moved from inside a handler, where one must not wait for readers. So
 * replaced tables queue up and are freed by the next claim or release, or, when a guest piles them
 * up by moving BARs, at the end of its own access, where its thread has left the read section.
 */
#include "vmm/machine/bus.h"

#include <string.h>

#include "vmm/util/rcu.h"

struct doorbell {
    uint64_t offset;
    int eventfd;
    bool attached;
    uint64_t address; /* where it is attached */
};

struct bus_window {
    struct bus *bus;
    char *name;
    uint64_t base, length;
    int priority;
    uint64_t order; /* of claiming: the later wins */
    bool mapped;
    const struct bus_ops *ops;
    void *device;
    GArray *doorbells; /* struct doorbell; NULL: none yet */
};

/* Addresses [first, last] belong to `window`, which then lay at `base`. */
struct span {
    uint64_t first, last;
    uint64_t base;
    const struct bus_window *window;
};

struct table {
    struct table *next_retired;
    size_t count;
    struct span spans[];
};

struct bus {
    const char *name;
    uint64_t limit;
    struct table *table;
    GMutex lock; /* everything below, and storing `table` */
    GPtrArray *windows;
    uint64_t orders;
    struct bus_shortcuts shortcuts;
    struct table *retired;
    unsigned retired_count; /* read without the lock as a hint */
    uint64_t reentries;
};

#define RETIRED_MAX 64

/* Windows whose handlers are running on this thread, innermost first. */
struct frame {
    const struct bus_window *window;
    const struct frame *outer;
};

static _Thread_local const struct frame *active_frames;

/* ---- building the table ---- */

static uint64_t window_last(const struct bus_window *window)
{
    return window->base + (window->length - 1);
}

static gint by_precedence(gconstpointer a, gconstpointer b)
{
    const struct bus_window *left = *(struct bus_window *const *)a;
    const struct bus_window *right = *(struct bus_window *const *)b;

    if (left->priority != right->priority)
        return left->priority > right->priority ? -1 : 1;
    return left->order > right->order ? -1 : 1;
}

static gint by_address(gconstpointer a, gconstpointer b)
{
    const struct span *left = a, *right = b;

    return left->first < right->first ? -1 : left->first > right->first;
}

/* Append those parts of [first, last] that no span before `taken` covers. The spans before `taken`
 * are sorted and disjoint. */
static void add_uncovered(GArray *spans, guint taken, const struct bus_window *window)
{
    uint64_t first = window->base, last = window_last(window);

    for (guint i = 0; i < taken; i++) {
        struct span other = g_array_index(spans, struct span, i);

        if (other.last < first)
            continue;
        if (other.first > last)
            break;
        if (other.first > first) {
            struct span part = {first, other.first - 1, window->base, window};
            g_array_append_val(spans, part);
        }
        if (other.last >= last)
            return;
        first = other.last + 1;
    }
    struct span rest = {first, last, window->base, window};
    g_array_append_val(spans, rest);
}

static struct table *build_table(struct bus *bus)
{
    g_autoptr(GPtrArray) order = g_ptr_array_new();
    g_autoptr(GArray) spans = g_array_new(false, false, sizeof(struct span));

    for (guint i = 0; i < bus->windows->len; i++) {
        struct bus_window *window = bus->windows->pdata[i];
        if (window->mapped)
            g_ptr_array_add(order, window);
    }
    g_ptr_array_sort(order, by_precedence);
    for (guint i = 0; i < order->len; i++) {
        add_uncovered(spans, spans->len, order->pdata[i]);
        g_array_sort(spans, by_address);
    }

    struct table *table = g_malloc(sizeof(*table) + spans->len * sizeof(struct span));
    table->next_retired = NULL;
    table->count = spans->len;
    if (spans->len)
        memcpy(table->spans, spans->data, spans->len * sizeof(struct span));
    return table;
}

static const struct span *find(const struct table *table, uint64_t address)
{
    size_t low = 0, high = table->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct span *span = &table->spans[middle];

        if (address < span->first)
            high = middle;
        else if (address > span->last)
            low = middle + 1;
        else
            return span;
    }
    return NULL;
}

/* ---- doorbells ---- */

static bool reachable_locked(const struct bus_window *window, const struct doorbell *bell)
{
    const struct span *span =
        window->mapped ? find(window->bus->table, window->base + bell->offset) : NULL;
    return span && span->window == window;
}

static void detach_locked(struct bus *bus, struct doorbell *bell)
{
    if (bell->attached)
        bus->shortcuts.detach(bus->shortcuts.opaque, bell->address, bell->eventfd);
    bell->attached = false;
}

static void attach_locked(struct bus_window *window, struct doorbell *bell)
{
    const struct bus_shortcuts *shortcuts = &window->bus->shortcuts;

    if (!shortcuts->attach || bell->attached || !reachable_locked(window, bell))
        return;
    bell->address = window->base + bell->offset;
    bell->attached = shortcuts->attach(shortcuts->opaque, bell->address, bell->eventfd);
}

/* What has left its place goes first, since something else may have come there. */
static void doorbells_follow_locked(struct bus *bus)
{
    for (unsigned coming = 0; coming < 2; coming++) {
        for (guint i = 0; i < bus->windows->len; i++) {
            struct bus_window *window = bus->windows->pdata[i];
            for (guint n = 0; window->doorbells && n < window->doorbells->len; n++) {
                struct doorbell *bell = &g_array_index(window->doorbells, struct doorbell, n);
                if (coming)
                    attach_locked(window, bell);
                else if (bell->address != window->base + bell->offset ||
                         !reachable_locked(window, bell))
                    detach_locked(bus, bell);
            }
        }
    }
}

static void doorbell_remove_locked(struct bus_window *window, uint64_t offset)
{
    for (guint i = 0; window->doorbells && i < window->doorbells->len; i++) {
        struct doorbell *bell = &g_array_index(window->doorbells, struct doorbell, i);
        if (bell->offset != offset)
            continue;
        detach_locked(window->bus, bell);
        g_array_remove_index_fast(window->doorbells, i);
        return;
    }
}

void bus_doorbell(struct bus_window *window, uint64_t offset, int eventfd)
{
    struct bus *bus = window->bus;
    struct doorbell bell = {.offset = offset, .eventfd = eventfd};

    g_mutex_lock(&bus->lock);
    doorbell_remove_locked(window, offset);
    if (eventfd >= 0) {
        if (!window->doorbells)
            window->doorbells = g_array_new(false, false, sizeof(bell));
        attach_locked(window, &bell);
        g_array_append_val(window->doorbells, bell);
    }
    g_mutex_unlock(&bus->lock);
}

void bus_set_shortcuts(struct bus *bus, const struct bus_shortcuts *shortcuts)
{
    g_mutex_lock(&bus->lock);
    bus->shortcuts = *shortcuts;
    g_mutex_unlock(&bus->lock);
}

/* ---- the table's life ---- */

static void publish_locked(struct bus *bus)
{
    struct table *old = bus->table;

    rcu_store(&bus->table, build_table(bus));
    old->next_retired = bus->retired;
    bus->retired = old;
    __atomic_store_n(&bus->retired_count, bus->retired_count + 1, __ATOMIC_RELAXED);
    doorbells_follow_locked(bus);
}

/* Wait for readers, then free what had been replaced before. Never inside a read section. */
static void reclaim(struct bus *bus)
{
    g_mutex_lock(&bus->lock);
    struct table *old = bus->retired;
    bus->retired = NULL;
    __atomic_store_n(&bus->retired_count, 0, __ATOMIC_RELAXED);
    g_mutex_unlock(&bus->lock);

    rcu_wait_for_readers();
    while (old) {
        struct table *next = old->next_retired;
        g_free(old);
        old = next;
    }
}

/* ---- life ---- */

struct bus *bus_create(const char *name, uint64_t limit)
{
    struct bus *bus = g_new0(struct bus, 1);

    bus->name = name;
    bus->limit = limit;
    g_mutex_init(&bus->lock);
    bus->windows = g_ptr_array_new();
    bus->table = g_malloc0(sizeof(struct table));
    return bus;
}

void bus_destroy(struct bus *bus)
{
    if (!bus)
        return;
    while (bus->windows->len)
        bus_release(bus->windows->pdata[0]);
    reclaim(bus);
    g_free(bus->table);
    g_ptr_array_unref(bus->windows);
    g_mutex_clear(&bus->lock);
    g_free(bus);
}

static bool fits(const struct bus *bus, uint64_t base, uint64_t length)
{
    return length && base <= bus->limit && length - 1 <= bus->limit - base;
}

struct bus_window *bus_claim(struct bus *bus, const char *name, uint64_t base, uint64_t length,
                             int priority, const struct bus_ops *ops, void *device)
{
    if (!fits(bus, base, length))
        return NULL;

    struct bus_window *window = g_new0(struct bus_window, 1);
    *window = (struct bus_window){
        .bus = bus,
        .name = g_strdup(name),
        .base = base,
        .length = length,
        .priority = priority,
        .mapped = true,
        .ops = ops,
        .device = device,
    };
    g_mutex_lock(&bus->lock);
    window->order = bus->orders++;
    g_ptr_array_add(bus->windows, window);
    publish_locked(bus);
    g_mutex_unlock(&bus->lock);
    return window;
}

bool bus_move(struct bus_window *window, uint64_t base)
{
    struct bus *bus = window->bus;

    if (!fits(bus, base, window->length)) {
        bus_unmap(window);
        return false;
    }
    g_mutex_lock(&bus->lock);
    if (!window->mapped || window->base != base) {
        window->mapped = true;
        window->base = base;
        publish_locked(bus);
    }
    g_mutex_unlock(&bus->lock);
    return true;
}

void bus_unmap(struct bus_window *window)
{
    struct bus *bus = window->bus;

    g_mutex_lock(&bus->lock);
    if (window->mapped) {
        window->mapped = false;
        publish_locked(bus);
    }
    g_mutex_unlock(&bus->lock);
}

void bus_release(struct bus_window *window)
{
    if (!window)
        return;
    struct bus *bus = window->bus;

    bus_unmap(window);
    g_mutex_lock(&bus->lock);
    g_ptr_array_remove(bus->windows, window);
    g_mutex_unlock(&bus->lock);
    reclaim(bus);
    if (window->doorbells)
        g_array_unref(window->doorbells);
    g_free(window->name);
    g_free(window);
}

/* ---- dispatch ---- */

static uint64_t ones(unsigned size)
{
    return UINT64_MAX >> (64 - 8 * size);
}

/* How one piece of an access reaches its handler. */
struct piece {
    const struct span *span;
    uint64_t offset;    /* where the piece begins in the window */
    unsigned size;      /* bytes of the access that it covers */
    uint64_t unit;      /* what the handler is asked for: offset and size ... */
    unsigned unit_size; /* ... 0 when the window does not take such an access */
};

/* The widest naturally aligned piece at the beginning of an access of `size` bytes that lies within
 * the window, in a width that the window takes; else one narrower than the window takes. */
static struct piece cut(const struct span *span, uint64_t address, unsigned size)
{
    struct piece piece = {.span = span, .offset = address - span->base};
    uint64_t left = span->window->length - piece.offset;
    unsigned widths = span->window->ops->widths;

    for (unsigned width = 8; width; width /= 2) {
        if (width > size || width > left || piece.offset % width)
            continue;
        if (!piece.size)
            piece.size = width;
        if (widths & width) {
            piece.size = width;
            piece.unit = piece.offset;
            piece.unit_size = width;
            return piece;
        }
    }
    for (unsigned width = piece.size * 2; width <= 8; width *= 2) {
        if (!(widths & width))
            continue;
        piece.unit = piece.offset & ~(uint64_t)(width - 1);
        if (width <= span->window->length - piece.unit)
            piece.unit_size = width;
        break;
    }
    return piece;
}

static bool is_active(const struct bus_window *window)
{
    for (const struct frame *frame = active_frames; frame; frame = frame->outer) {
        if (frame->window == window)
            return true;
    }
    return false;
}

/* False (and counted) when the window's handler already runs on this thread. */
static bool enter(struct bus *bus, struct frame *frame, const struct bus_window *window)
{
    if (is_active(window)) {
        __atomic_fetch_add(&bus->reentries, 1, __ATOMIC_RELAXED);
        return false;
    }
    *frame = (struct frame){window, active_frames};
    active_frames = frame;
    return true;
}

static void leave(const struct frame *frame)
{
    active_frames = frame->outer;
}

static uint64_t read_piece(struct bus *bus, const struct piece *piece)
{
    const struct bus_window *window = piece->span->window;
    struct frame frame;

    if (!piece->unit_size || !enter(bus, &frame, window))
        return ones(piece->size);
    uint64_t value = window->ops->read(window->device, piece->unit, piece->unit_size);
    leave(&frame);
    return value >> (8 * (piece->offset - piece->unit)) & ones(piece->size);
}

static void write_piece(struct bus *bus, const struct piece *piece, uint64_t value)
{
    const struct bus_window *window = piece->span->window;
    struct frame frame;

    if (piece->unit_size != piece->size || !enter(bus, &frame, window))
        return;
    window->ops->write(window->device, piece->unit, piece->unit_size, value & ones(piece->size));
    leave(&frame);
}

/* The table grows by one each time a guest moves a BAR, so the mover's thread cleans up. */
static void leave_section(struct bus *bus)
{
    rcu_reader_unlock();
    if (__atomic_load_n(&bus->retired_count, __ATOMIC_RELAXED) > RETIRED_MAX &&
        !rcu_reader_ongoing())
        reclaim(bus);
}

uint64_t bus_read(struct bus *bus, uint64_t address, unsigned size)
{
    uint64_t value = 0;

    rcu_reader_lock();
    const struct table *table = rcu_load(&bus->table);
    for (unsigned done = 0; done < size;) {
        uint64_t at = address + done;
        const struct span *span = at < address ? NULL : find(table, at);

        if (!span) {
            value |= 0xFFULL << (8 * done++);
            continue;
        }
        struct piece piece = cut(span, at, size - done);
        value |= read_piece(bus, &piece) << (8 * done);
        done += piece.size;
    }
    leave_section(bus);
    return value;
}

void bus_write(struct bus *bus, uint64_t address, unsigned size, uint64_t value)
{
    rcu_reader_lock();
    const struct table *table = rcu_load(&bus->table);
    for (unsigned done = 0; done < size;) {
        uint64_t at = address + done;
        const struct span *span = at < address ? NULL : find(table, at);

        if (!span) {
            done++;
            continue;
        }
        struct piece piece = cut(span, at, size - done);
        write_piece(bus, &piece, value >> (8 * done));
        done += piece.size;
    }
    leave_section(bus);
}

uint64_t bus_reentries(struct bus *bus)
{
    return __atomic_load_n(&bus->reentries, __ATOMIC_RELAXED);
}

void bus_for_each(struct bus *bus,
                  void (*fn)(void *opaque, const char *name, uint64_t first, uint64_t last),
                  void *opaque)
{
    rcu_reader_lock();
    const struct table *table = rcu_load(&bus->table);
    for (size_t i = 0; i < table->count; i++) {
        const struct span *span = &table->spans[i];
        fn(opaque, span->window->name, span->first, span->last);
    }
    leave_section(bus);
}

bool bus_is_claimed(struct bus *bus, uint64_t address)
{
    rcu_reader_lock();
    bool claimed = find(rcu_load(&bus->table), address) != NULL;
    leave_section(bus);
    return claimed;
}
