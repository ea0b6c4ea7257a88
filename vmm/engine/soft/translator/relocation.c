// SPDX-License-Identifier: Apache-2.0
/*
 * See relocation.h.
 */
#include "vmm/engine/soft/translator/relocation.h"

#include <string.h>

#include "vmm/engine/soft/cpu.h"

#define PAGE_SHIFT 12

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return value;
}

static void add32(uint8_t *at, uint32_t amount)
{
    uint32_t value = get32(at) + amount;

    memcpy(at, &value, sizeof(value));
}

static void add64(uint8_t *at, uint64_t amount)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    value += amount;
    memcpy(at, &value, sizeof(value));
}

/* The same field of the line of another page; lines of `size` bytes, the first one at `first`. */
static void move_line(uint8_t *at, uint64_t linear, uint32_t first, uint32_t size)
{
    uint32_t distance = (uint32_t)(linear >> PAGE_SHIFT) * size;
    uint32_t value = ((get32(at) - first + distance) & (SOFT_TLB_ENTRIES * size - 1)) + first;

    memcpy(at, &value, sizeof(value));
}

bool relocation_fits(const struct relocation_move *move, struct relocation relocation,
                     const uint8_t *at, uint64_t *window)
{
    uint64_t moved;

    switch ((enum relocation_kind)relocation.kind) {
    case RELOCATION_ADDRESS_UNSIGNED:
        return get32(at) + move->linear <= UINT32_MAX;
    case RELOCATION_ADDRESS_SIGNED:
    case RELOCATION_ADDRESS_WINDOW:
        moved = (uint64_t)(int32_t)get32(at) + move->linear;
        if (relocation.kind == RELOCATION_ADDRESS_WINDOW)
            *window = moved;
        return moved == (uint64_t)(int32_t)moved;
    default:
        return true;
    }
}

void relocation_apply(const struct relocation_move *move, struct relocation relocation, uint8_t *at)
{
    switch ((enum relocation_kind)relocation.kind) {
    case RELOCATION_NONE:
    case RELOCATION_DISTANCE:
        break;
    case RELOCATION_OUT:
        add32(at, -move->pieces[relocation.cold]);
        break;
    case RELOCATION_ACROSS:
        add32(at, move->pieces[!relocation.cold] - move->pieces[relocation.cold]);
        break;
    case RELOCATION_SITE:
        add32(at, move->site);
        break;
    case RELOCATION_EXIT:
        add32(at, move->exit);
        break;
    case RELOCATION_PAGE:
        add32(at, move->page);
        break;
    case RELOCATION_PAGE_NEGATED:
        add32(at, -move->page);
        break;
    case RELOCATION_TLB:
        move_line(at, move->linear, move->tlb, sizeof(struct soft_tlb_entry));
        break;
    case RELOCATION_FETCH:
        move_line(at, move->linear, move->fetch, sizeof(uint32_t));
        break;
    case RELOCATION_ADDRESS_CUT:
    case RELOCATION_ADDRESS_UNSIGNED:
    case RELOCATION_ADDRESS_SIGNED:
    case RELOCATION_ADDRESS_WINDOW:
        add32(at, (uint32_t)move->linear);
        break;
    case RELOCATION_ADDRESS:
        add64(at, move->linear);
        break;
    }
}
