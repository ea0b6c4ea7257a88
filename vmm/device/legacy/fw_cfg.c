// SPDX-License-Identifier: Apache-2.0
/*
 * Firmware configuration device, as QEMU's docs/specs/fw_cfg.rst describes it: a selector port of
 * 16 bits, a data port that gives the selected item byte by byte, and a DMA register that takes the
 * guest-physical address of a command (control, length, address, all big-endian) and executes it
 * when its lower half is written. Items are read-only; what is read behind an item's end is 0.
 */
#include "vmm/device/legacy/fw_cfg.h"

#include <string.h>

#include "vmm/machine/pc/layout.h"
#include "vmm/util/fault.h"

#define SELECT_MASK   0x3FFF                /* bits 14 and 15: write, architecture-specific */
#define ID_FEATURES   3U                    /* ports, DMA */
#define DMA_SIGNATURE 0x51454D5520434647ULL /* "QEMU CFG" */

#define DMA_ERROR  0x01U
#define DMA_READ   0x02U
#define DMA_SKIP   0x04U
#define DMA_SELECT 0x08U
#define DMA_WRITE  0x10U

/* Zeros that a read may ask for behind an item's end. */
#define DMA_BEYOND_MAX 0x10000U

#define DIRECTORY_ENTRY 64

struct item {
    uint16_t key;
    char name[FW_CFG_NAME_MAX + 1]; /* of a file */
    GBytes *content;
};

struct fw_cfg {
    struct device device;
    struct fw_cfg_config config;
    struct fw_cfg_state {
        uint16_t selected;
        uint32_t offset; /* in the selected item */
        uint64_t dma_address;
    } state;
    struct {
        struct bus_window *ports, *dma;
        struct dma_space space;
        GArray *items; /* struct item */
        unsigned files;
    } host;
};

static const struct state_field fw_cfg_fields[] = {
    STATE_RANGE(struct fw_cfg_state, selected, 0, SELECT_MASK),
    STATE_U(struct fw_cfg_state, offset),
    STATE_U(struct fw_cfg_state, dma_address),
};
static const struct state_table fw_cfg_table =
    STATE_TABLE("fw-cfg", 1, struct fw_cfg_state, fw_cfg_fields);

/* ---- items ---- */

static struct item *item_find(struct fw_cfg *fw, uint16_t key)
{
    for (guint i = 0; i < fw->host.items->len; i++) {
        struct item *item = &g_array_index(fw->host.items, struct item, i);
        if (item->key == key)
            return item;
    }
    return NULL;
}

static void item_set(struct fw_cfg *fw, uint16_t key, const char *name, GBytes *content)
{
    struct item *old = item_find(fw, key);
    struct item item = {.key = key, .content = g_bytes_ref(content)};

    if (name)
        g_strlcpy(item.name, name, sizeof(item.name));
    if (old) {
        g_bytes_unref(old->content);
        *old = item;
    } else {
        g_array_append_val(fw->host.items, item);
    }
}

/* The selected item's bytes from the offset on; `*left` of them. */
static const uint8_t *selected_bytes(struct fw_cfg *fw, gsize *left)
{
    struct item *item = item_find(fw, fw->state.selected);
    gsize size = 0;
    const uint8_t *bytes = item ? g_bytes_get_data(item->content, &size) : NULL;

    *left = fw->state.offset < size ? size - fw->state.offset : 0;
    return *left ? bytes + fw->state.offset : NULL;
}

static void advance(struct fw_cfg *fw, uint32_t count)
{
    uint32_t room = UINT32_MAX - fw->state.offset;
    fw->state.offset += MIN(count, room);
}

static void put_be(uint8_t *to, uint64_t value, unsigned size)
{
    while (size--) {
        to[size] = (uint8_t)value;
        value >>= 8;
    }
}

static uint64_t get_be(const uint8_t *from, unsigned size)
{
    uint64_t value = 0;
    while (size--)
        value = value << 8 | *from++;
    return value;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp((*(struct item *const *)a)->name, (*(struct item *const *)b)->name);
}

/* The directory lists files by name: count, then size, key and name of each. */
static void directory_build(struct fw_cfg *fw)
{
    g_autoptr(GPtrArray) files = g_ptr_array_new();

    for (guint i = 0; i < fw->host.items->len; i++)
        if (g_array_index(fw->host.items, struct item, i).key >= FW_CFG_FIRST_FILE)
            g_ptr_array_add(files, &g_array_index(fw->host.items, struct item, i));
    g_ptr_array_sort(files, by_name);

    gsize size = 4 + (gsize)DIRECTORY_ENTRY * files->len;
    uint8_t *bytes = g_malloc0(size); /* lint: ok, at most FW_CFG_FILES_MAX entries */
    put_be(bytes, files->len, 4);
    for (guint i = 0; i < files->len; i++) {
        const struct item *item = files->pdata[i];
        uint8_t *entry = bytes + 4 + (gsize)DIRECTORY_ENTRY * i;
        put_be(entry, g_bytes_get_size(item->content), 4);
        put_be(entry + 4, item->key, 2);
        memcpy(entry + 8, item->name, sizeof(item->name));
    }
    g_autoptr(GBytes) directory = g_bytes_new_take(bytes, size);
    item_set(fw, FW_CFG_DIRECTORY, NULL, directory);
}

void fw_cfg_add(struct device *device, enum fw_cfg_key key, GBytes *content)
{
    struct fw_cfg *fw = (struct fw_cfg *)device;

    g_mutex_lock(&device->lock);
    item_set(fw, key & SELECT_MASK, NULL, content);
    g_mutex_unlock(&device->lock);
}

static bool name_taken(struct fw_cfg *fw, const char *name)
{
    for (guint i = 0; i < fw->host.items->len; i++)
        if (!strcmp(g_array_index(fw->host.items, struct item, i).name, name))
            return true;
    return false;
}

bool fw_cfg_add_file(struct device *device, const char *name, GBytes *content, GError **error)
{
    struct fw_cfg *fw = (struct fw_cfg *)device;

    g_mutex_lock(&device->lock);
    bool fits = *name && strlen(name) <= FW_CFG_NAME_MAX && fw->host.files < FW_CFG_FILES_MAX &&
                g_bytes_get_size(content) <= UINT32_MAX && !name_taken(fw, name);
    if (fits) {
        item_set(fw, (uint16_t)(FW_CFG_FIRST_FILE + fw->host.files++), name, content);
        directory_build(fw);
    }
    g_mutex_unlock(&device->lock);
    if (!fits)
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "%s: no room for a file '%s'; names are unique, up to %u bytes long",
                    device->id, name, FW_CFG_NAME_MAX);
    return fits;
}

/* ---- ports ---- */

static void select_locked(struct fw_cfg *fw, uint16_t key)
{
    fw->state.selected = key & SELECT_MASK;
    fw->state.offset = 0;
}

/* The selector cannot be read: both ports give data, by single bytes. */
static uint64_t ports_read(void *opaque, uint64_t offset, unsigned size)
{
    struct fw_cfg *fw = opaque;
    uint8_t value = 0;
    gsize left;

    if (size != 1)
        return UINT64_MAX;
    g_mutex_lock(&fw->device.lock);
    const uint8_t *bytes = selected_bytes(fw, &left);
    if (bytes)
        value = *bytes;
    advance(fw, 1);
    g_mutex_unlock(&fw->device.lock);
    return value;
}

static void ports_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct fw_cfg *fw = opaque;

    if (size != 2)
        return;
    g_mutex_lock(&fw->device.lock);
    select_locked(fw, (uint16_t)value);
    g_mutex_unlock(&fw->device.lock);
}

static const struct bus_ops ports_ops = {
    .read = ports_read,
    .write = ports_write,
    .widths = BUS_WIDTH_1 | BUS_WIDTH_2,
};

/* ---- DMA ---- */

static bool zero_fill(struct fw_cfg *fw, uint64_t address, uint32_t length)
{
    static const uint8_t zeros[4096];

    if (length > DMA_BEYOND_MAX)
        return false;
    while (length) {
        uint32_t part = MIN(length, sizeof(zeros));
        if (!dma_write(&fw->host.space, address, zeros, part))
            return false;
        address += part;
        length -= part;
    }
    return true;
}

static bool dma_transfer(struct fw_cfg *fw, uint32_t control, uint32_t length, uint64_t address)
{
    gsize left;
    const uint8_t *bytes = selected_bytes(fw, &left);
    uint32_t part = (uint32_t)MIN(left, length);

    if (control & DMA_READ) {
        if (part && !dma_write(&fw->host.space, address, bytes, part))
            return false;
        if (!zero_fill(fw, address + part, length - part))
            return false;
    } else if (control & DMA_WRITE) {
        return false;
    } else if (!(control & DMA_SKIP)) {
        return true;
    }
    advance(fw, length);
    return true;
}

/* Execute the command at the address; its control word becomes the result. */
static void dma_execute(struct fw_cfg *fw)
{
    uint64_t at = fw->state.dma_address;
    uint8_t command[16], result[4];

    fw->state.dma_address = 0;
    if (!dma_read(&fw->host.space, at, command, sizeof(command))) {
        device_guest_error(&fw->device, "DMA command at %#" G_GINT64_MODIFIER "x is no RAM", at);
        return;
    }
    uint32_t control = (uint32_t)get_be(command, 4);
    if (control & DMA_SELECT)
        select_locked(fw, (uint16_t)(control >> 16));
    bool done = dma_transfer(fw, control, (uint32_t)get_be(command + 4, 4), get_be(command + 8, 8));
    put_be(result, done ? 0 : DMA_ERROR, 4);
    dma_write(&fw->host.space, at, result, sizeof(result));
}

/* The register is big-endian, as the bus gives the low byte first. */
static uint64_t swap_half(uint64_t value)
{
    return GUINT32_SWAP_LE_BE((uint32_t)value);
}

static uint64_t dma_register_read(void *opaque, uint64_t offset, unsigned size)
{
    return swap_half(offset ? DMA_SIGNATURE & UINT32_MAX : DMA_SIGNATURE >> 32);
}

static void dma_register_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct fw_cfg *fw = opaque;

    g_mutex_lock(&fw->device.lock);
    if (!offset) {
        fw->state.dma_address = swap_half(value) << 32;
    } else {
        fw->state.dma_address |= swap_half(value);
        dma_execute(fw);
    }
    g_mutex_unlock(&fw->device.lock);
}

static const struct bus_ops dma_ops = {
    .read = dma_register_read,
    .write = dma_register_write,
    .widths = BUS_WIDTH_4,
};

/* ---- life ---- */

static void fw_cfg_defaults(const struct device_env *env, void *opaque)
{
    *(struct fw_cfg_config *)opaque = (struct fw_cfg_config){.port = PC_PORT_FW_CFG};
}

static void standard_items(struct fw_cfg *fw)
{
    static const uint8_t id[4] = {ID_FEATURES};
    g_autoptr(GBytes) signature = g_bytes_new_static("QEMU", 4);
    g_autoptr(GBytes) features = g_bytes_new_static(id, sizeof(id));

    item_set(fw, FW_CFG_SIGNATURE, NULL, signature);
    item_set(fw, FW_CFG_ID, NULL, features);
    directory_build(fw);
}

static bool fw_cfg_init(struct device *device, const void *config, GError **error)
{
    struct fw_cfg *fw = (struct fw_cfg *)device;

    fw->config = *(const struct fw_cfg_config *)config;
    fw->host.space = (struct dma_space){.memory = device->env->memory, .enabled = true};
    fw->host.items = g_array_new(FALSE, FALSE, sizeof(struct item));
    standard_items(fw);
    fw->host.ports = bus_claim(device->env->pio, "fw-cfg", fw->config.port, 2, 0, &ports_ops, fw);
    fw->host.dma =
        bus_claim(device->env->pio, "fw-cfg-dma", fw->config.port + 4U, 8, 0, &dma_ops, fw);
    if (fw->host.ports && fw->host.dma)
        return true;
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                "%s: ports from %#x on do not exist; choose lower ones", device->id,
                fw->config.port);
    return false;
}

static void fw_cfg_finish(struct device *device)
{
    struct fw_cfg *fw = (struct fw_cfg *)device;

    bus_release(fw->host.ports);
    bus_release(fw->host.dma);
    for (guint i = 0; fw->host.items && i < fw->host.items->len; i++)
        g_bytes_unref(g_array_index(fw->host.items, struct item, i).content);
    g_clear_pointer(&fw->host.items, g_array_unref);
}

static void fw_cfg_reset(struct device *device)
{
    struct fw_cfg *fw = (struct fw_cfg *)device;

    g_mutex_lock(&device->lock);
    fw->state = (struct fw_cfg_state){0};
    g_mutex_unlock(&device->lock);
}

const struct device_ops fw_cfg_device = {
    .kind = "fw-cfg",
    .description = "firmware configuration: named blobs for firmware and kernel",
    .size = sizeof(struct fw_cfg),
    .config_size = sizeof(struct fw_cfg_config),
    .state = &fw_cfg_table,
    .state_offset = offsetof(struct fw_cfg, state),
    .defaults = fw_cfg_defaults,
    .init = fw_cfg_init,
    .finish = fw_cfg_finish,
    .reset = fw_cfg_reset,
};
