// SPDX-License-Identifier: Apache-2.0
/*
 * PCI capabilities: the linked list (PCI 3.0, 6.7), power management, MSI and MSI-X (6.8), and the
 * PCI Express capability (Express Base 3.0, 7.8).
 *
 * MSI keeps its address, masks and pending bits in configuration space itself. MSI-X keeps them in
 * a BAR: here one page-aligned half holds the table, the other the pending array.
 */
#include <linux/pci_regs.h>

#include "vmm/device/pci/pci.h"
#include "vmm/util/fault.h"

#define MSI_LENGTH      0x18 /* with 64-bit address and masks */
#define MSI_DATA        PCI_MSI_DATA_64
#define MSI_MASK        PCI_MSI_MASK_64
#define MSI_PENDING     PCI_MSI_PENDING_64
#define MSIX_LENGTH     PCI_CAP_MSIX_SIZEOF
#define MSIX_ENTRY_SIZE 16
#define EXPRESS_LENGTH  0x3C /* version 2 */

static const struct state_field pci_msix_entry_fields[] = {
    STATE_U(struct pci_msix_entry, address),
    STATE_U(struct pci_msix_entry, data),
    STATE_U(struct pci_msix_entry, control),
    STATE_B(struct pci_msix_entry, pending),
};
const struct state_table pci_msix_entry_table =
    STATE_TABLE("pci-msix-entry", 1, struct pci_msix_entry, pci_msix_entry_fields);

unsigned pci_capability_add(struct pci_function *function, uint8_t id, unsigned length)
{
    unsigned offset = function->capability_end;

    length = (length + 3) & ~3U;
    if (offset + length >= PCI_CONFIG_SIZE)
        return 0;
    pci_config_set(function, function->capability_link, 1, offset);
    pci_config_set(function, offset + PCI_CAP_LIST_ID, 1, id);
    pci_config_set(function, PCI_STATUS, 2,
                   pci_config_get(function, PCI_STATUS, 2) | PCI_STATUS_CAP_LIST);
    function->capability_link = (uint8_t)(offset + PCI_CAP_LIST_NEXT);
    function->capability_end = (uint8_t)(offset + length);
    return offset;
}

void pci_pm_add(struct pci_function *function)
{
    unsigned offset = pci_capability_add(function, PCI_CAP_ID_PM, PCI_PM_SIZEOF);

    if (!offset)
        return;
    function->pm = (uint8_t)offset;
    pci_config_set(function, offset + PCI_PM_PMC, 2, 3);
    pci_config_set(function, offset + PCI_PM_CTRL, 2, PCI_PM_CTRL_NO_SOFT_RESET);
    /* Both bits of the state can be written, as D1 and D2 count as powered down here. */
    pci_config_mask(function, offset + PCI_PM_CTRL, 2, PCI_PM_CTRL_STATE_MASK, 0);
}

unsigned pci_express_add(struct pci_function *function, unsigned type)
{
    unsigned offset = pci_capability_add(function, PCI_CAP_ID_EXP, EXPRESS_LENGTH);

    if (!offset)
        return 0;
    function->express = (uint8_t)offset;
    pci_config_set(function, offset + PCI_EXP_FLAGS, 2, type << 4 | 2);
    pci_config_set(function, offset + PCI_EXP_DEVCAP, 4, PCI_EXP_DEVCAP_RBER);
    pci_config_mask(function, offset + PCI_EXP_DEVCTL, 2,
                    PCI_EXP_DEVCTL_CERE | PCI_EXP_DEVCTL_NFERE | PCI_EXP_DEVCTL_FERE |
                        PCI_EXP_DEVCTL_URRE | PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_PAYLOAD |
                        PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_READRQ,
                    0);
    pci_config_set(function, offset + PCI_EXP_DEVCTL, 2,
                   PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_NOSNOOP_EN |
                       PCI_EXP_DEVCTL_READRQ_512B);
    pci_config_mask(function, offset + PCI_EXP_DEVSTA, 2, 0,
                    PCI_EXP_DEVSTA_CED | PCI_EXP_DEVSTA_NFED | PCI_EXP_DEVSTA_FED |
                        PCI_EXP_DEVSTA_URD);
    if (type == PCI_EXP_TYPE_RC_END)
        return offset;
    pci_config_set(function, offset + PCI_EXP_LNKCAP, 4, PCI_EXP_LNKCAP_SLS_2_5GB | 1 << 4);
    pci_config_mask(function, offset + PCI_EXP_LNKCTL, 2,
                    PCI_EXP_LNKCTL_ASPMC | PCI_EXP_LNKCTL_CCC | PCI_EXP_LNKCTL_ES, 0);
    pci_config_set(function, offset + PCI_EXP_LNKSTA, 2,
                   PCI_EXP_LNKSTA_CLS_2_5GB | 1 << PCI_EXP_LNKSTA_NLW_SHIFT);
    pci_config_set(function, offset + PCI_EXP_LNKCTL2, 2, PCI_EXP_LNKCTL2_TLS_2_5GT);
    return offset;
}

/* ---- sending ---- */

/* Whether the function may put a write on the bus. */
static bool may_send(struct pci_function *function)
{
    return function->plugged && function->dma.enabled;
}

static void message_send(struct pci_function *function, uint64_t address, uint32_t data)
{
    const struct device_env *env = function->device.env;
    if (env->msi)
        env->msi(env->msi_opaque, address, data);
}

/* ---- MSI ---- */

static uint32_t get_locked(const struct pci_function *function, unsigned offset, unsigned size)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint32_t)function->state->config[offset + i] << (8 * i);
    return value;
}

static void set_locked(struct pci_function *function, unsigned offset, unsigned size,
                       uint32_t value)
{
    for (unsigned i = 0; i < size; i++)
        function->state->config[offset + i] = (uint8_t)(value >> (8 * i));
}

void pci_msi_add(struct pci_function *function, unsigned vectors)
{
    unsigned order = 0;
    while (order < 5 && 1U << order < vectors)
        order++;
    unsigned offset = pci_capability_add(function, PCI_CAP_ID_MSI, MSI_LENGTH);
    if (!offset)
        return;
    function->msi = (uint8_t)offset;
    function->msi_order = (uint8_t)order;
    pci_config_set(function, offset + PCI_MSI_FLAGS, 2,
                   PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | order << 1);
    pci_config_mask(function, offset + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE,
                    0);
    pci_config_mask(function, offset + PCI_MSI_ADDRESS_LO, 4, ~3U, 0);
    pci_config_mask(function, offset + PCI_MSI_ADDRESS_HI, 4, ~0U, 0);
    pci_config_mask(function, offset + MSI_DATA, 2, 0xFFFF, 0);
    pci_config_mask(function, offset + MSI_MASK, 4, (uint32_t)((1ULL << (1U << order)) - 1), 0);
}

/* How many vectors the guest has granted, as a power of two; never more than were asked for. */
static unsigned msi_order_locked(const struct pci_function *function)
{
    uint32_t flags = get_locked(function, function->msi + PCI_MSI_FLAGS, 2);
    return MIN((flags & PCI_MSI_FLAGS_QSIZE) >> 4, function->msi_order);
}

static bool msi_enabled_locked(const struct pci_function *function)
{
    return function->msi &&
           (get_locked(function, function->msi + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_ENABLE);
}

static void msi_send_locked(struct pci_function *function, unsigned vector)
{
    unsigned base = function->msi;
    uint32_t mask = get_locked(function, base + MSI_MASK, 4);
    uint32_t pending = get_locked(function, base + MSI_PENDING, 4);
    uint32_t low_bits = (1U << msi_order_locked(function)) - 1;
    uint64_t address = get_locked(function, base + PCI_MSI_ADDRESS_LO, 4) |
                       (uint64_t)get_locked(function, base + PCI_MSI_ADDRESS_HI, 4) << 32;

    if (mask >> vector & 1) {
        set_locked(function, base + MSI_PENDING, 4, pending | 1U << vector);
        return;
    }
    set_locked(function, base + MSI_PENDING, 4, pending & ~(1U << vector));
    if (may_send(function))
        message_send(function, address,
                     (get_locked(function, base + MSI_DATA, 2) & ~low_bits) | (vector & low_bits));
}

bool pci_msi_enabled(struct pci_function *function)
{
    g_mutex_lock(&function->lock);
    bool enabled = msi_enabled_locked(function);
    g_mutex_unlock(&function->lock);
    return enabled;
}

void pci_msi_notify(struct pci_function *function, unsigned vector)
{
    g_mutex_lock(&function->lock);
    if (msi_enabled_locked(function) && vector < 1U << msi_order_locked(function))
        msi_send_locked(function, vector);
    g_mutex_unlock(&function->lock);
}

/* ---- MSI-X ---- */

static bool msix_enabled_locked(const struct pci_function *function)
{
    return function->msix &&
           (get_locked(function, function->msix + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_ENABLE);
}

static bool msix_masked_locked(const struct pci_function *function, unsigned vector)
{
    return (get_locked(function, function->msix + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_MASKALL) ||
           (function->msix_entries[vector].control & PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

static void msix_send_locked(struct pci_function *function, unsigned vector)
{
    struct pci_msix_entry *entry = &function->msix_entries[vector];

    entry->pending = msix_masked_locked(function, vector);
    if (!entry->pending && may_send(function))
        message_send(function, entry->address, entry->data);
}

bool pci_msix_enabled(struct pci_function *function)
{
    g_mutex_lock(&function->lock);
    bool enabled = msix_enabled_locked(function);
    g_mutex_unlock(&function->lock);
    return enabled;
}

void pci_msix_notify(struct pci_function *function, unsigned vector)
{
    g_mutex_lock(&function->lock);
    if (vector < function->msix_count && msix_enabled_locked(function))
        msix_send_locked(function, vector);
    g_mutex_unlock(&function->lock);
}

void pci_msix_reset(struct pci_function *function)
{
    g_mutex_lock(&function->lock);
    for (unsigned i = 0; i < function->msix_count; i++)
        function->msix_entries[i] = (struct pci_msix_entry){.control = PCI_MSIX_ENTRY_CTRL_MASKBIT};
    g_mutex_unlock(&function->lock);
}

void pci_interrupts_update(struct pci_function *function)
{
    g_mutex_lock(&function->lock);
    if (msi_enabled_locked(function)) {
        uint32_t ready = get_locked(function, function->msi + MSI_PENDING, 4) &
                         ~get_locked(function, function->msi + MSI_MASK, 4);
        for (unsigned i = 0; i < 1U << msi_order_locked(function); i++)
            if (ready >> i & 1)
                msi_send_locked(function, i);
    }
    if (msix_enabled_locked(function))
        for (unsigned i = 0; i < function->msix_count; i++)
            if (function->msix_entries[i].pending)
                msix_send_locked(function, i);
    g_mutex_unlock(&function->lock);
}

/* The table's half of the BAR; the pending array's is as large. */
static uint64_t msix_half(const struct pci_function *function)
{
    uint64_t half = GUEST_PAGE_SIZE;
    while (half < function->msix_count * MSIX_ENTRY_SIZE)
        half *= 2;
    return half;
}

static uint32_t *msix_word(struct pci_msix_entry *entry, unsigned index, uint32_t scratch[2])
{
    scratch[0] = (uint32_t)entry->address;
    scratch[1] = (uint32_t)(entry->address >> 32);
    switch (index) {
    case 2:
        return &entry->data;
    case 3:
        return &entry->control;
    default:
        return &scratch[index & 1];
    }
}

static uint32_t msix_pending_word(struct pci_function *function, uint64_t index)
{
    uint32_t word = 0;
    for (unsigned i = 0; i < 32; i++)
        if (index * 32 + i < function->msix_count)
            word |= (uint32_t)function->msix_entries[index * 32 + i].pending << i;
    return word;
}

static uint64_t msix_window_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_function *function = opaque;
    uint64_t half = msix_half(function);
    uint32_t value = 0, scratch[2];

    g_mutex_lock(&function->lock);
    if (offset >= half)
        value = msix_pending_word(function, (offset - half) / 4);
    else if (offset / MSIX_ENTRY_SIZE < function->msix_count)
        value = *msix_word(&function->msix_entries[offset / MSIX_ENTRY_SIZE],
                           offset % MSIX_ENTRY_SIZE / 4, scratch);
    g_mutex_unlock(&function->lock);
    return value;
}

static void msix_window_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_function *function = opaque;
    uint64_t vector = offset / MSIX_ENTRY_SIZE;
    uint32_t scratch[2];

    /* The pending array is read-only, and lies behind the last vector. */
    if (vector >= function->msix_count)
        return;
    g_mutex_lock(&function->lock);
    struct pci_msix_entry *entry = &function->msix_entries[vector];
    unsigned index = offset % MSIX_ENTRY_SIZE / 4;
    uint32_t *word = msix_word(entry, index, scratch);
    *word = (uint32_t)value;
    if (index < 2)
        entry->address = (scratch[0] & ~3U) | (uint64_t)scratch[1] << 32;
    entry->control &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
    if (entry->pending && msix_enabled_locked(function))
        msix_send_locked(function, (unsigned)vector);
    g_mutex_unlock(&function->lock);
}

static const struct bus_ops msix_window_ops = {
    .read = msix_window_read,
    .write = msix_window_write,
    .widths = BUS_WIDTH_4,
};

bool pci_msix_add(struct pci_function *function, unsigned bar, struct pci_msix_entry *entries,
                  unsigned count, GError **error)
{
    if (count < 1 || count > PCI_MSIX_VECTORS_MAX) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "%s: MSI-X has 1 to %u vectors, not %u",
                    function->device.id, PCI_MSIX_VECTORS_MAX, count);
        return false;
    }
    unsigned offset = pci_capability_add(function, PCI_CAP_ID_MSIX, MSIX_LENGTH);
    if (!offset) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_NO_SPACE, "%s: no room for another PCI capability",
                    function->device.id);
        return false;
    }
    function->msix_entries = entries;
    function->msix_count = count;
    uint64_t half = msix_half(function);
    if (!pci_bar_add(function, bar, PCI_BAR_MEMORY32, false, 2 * half, "msix", &msix_window_ops,
                     function, error))
        return false;
    function->msix = (uint8_t)offset;
    pci_config_set(function, offset + PCI_MSIX_FLAGS, 2, count - 1);
    pci_config_mask(function, offset + PCI_MSIX_FLAGS, 2,
                    PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL, 0);
    pci_config_set(function, offset + PCI_MSIX_TABLE, 4, bar);
    pci_config_set(function, offset + PCI_MSIX_PBA, 4, (uint32_t)half | bar);
    pci_msix_reset(function);
    return true;
}
