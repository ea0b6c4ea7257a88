// SPDX-License-Identifier: Apache-2.0
/*
 * Small page tables in the RAM of soft_fixture.h, for tests of paging and of the TLB.
 */
#pragma once

#include "tests/unit/soft_fixture.h"
#include "vmm/engine/soft/walk.h"

#define PML4   0x1000UL
#define PDPT   0x2000UL
#define PD     0x3000UL
#define PT     0x4000UL
#define DATA   0x200000UL
#define TARGET 0x0000123456789000UL

#define P  1UL
#define W  2UL
#define U  4UL
#define A  0x20UL
#define D  0x40UL
#define PS 0x80UL
#define G  0x100UL
#define NX (1UL << 63)

static inline unsigned index_of(uint64_t linear, unsigned shift)
{
    return linear >> shift & 511;
}

/* Entries of all levels for TARGET; the leaf has `rights`, the others all rights. */
static inline void map_4kb(struct fixture *f, uint64_t linear, uint64_t physical, uint64_t rights)
{
    poke64(f, PML4 + index_of(linear, 39) * 8, PDPT | P | W | U);
    poke64(f, PDPT + index_of(linear, 30) * 8, PD | P | W | U);
    poke64(f, PD + index_of(linear, 21) * 8, PT | P | W | U);
    poke64(f, PT + index_of(linear, 12) * 8, physical | rights);
    soft_tlb_flush(f->cpu, true);
}

static inline uint64_t leaf(struct fixture *f)
{
    return peek64(f, PT + index_of(TARGET, 12) * 8);
}

static inline void enter_long_mode(struct fixture *f)
{
    f->cpu->cr0 = CR0_PE | CR0_PG | CR0_WP;
    f->cpu->cr4 = CR4_PAE | CR4_PGE;
    f->cpu->cr3 = PML4;
    f->cpu->msrs.efer = EFER_LME | EFER_LMA | EFER_NXE;
    f->cpu->seg[SEG_CS].attributes = 0x29b;
    soft_update_mode(f->cpu);
}

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    fixture_init(f);
    enter_long_mode(f);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    fixture_finish(*state);
    free(*state);
    return 0;
}

static inline int access_once(struct fixture *f, enum soft_access access, unsigned mode,
                              uint64_t linear)
{
    uint64_t gpa;

    switch (access) {
    case SOFT_READ:
        return RAISED(f, (void)soft_read32_as(f->cpu, linear, mode));
    case SOFT_WRITE:
        return RAISED(f, soft_write32_as(f->cpu, linear, 1, mode));
    default:
        f->cpu->cpl = mode == SOFT_MMU_USER ? 3 : 0;
        return RAISED(f, (void)soft_fetch_page(f->cpu, linear, &gpa));
    }
}

/* Breakpoint 0 watches `address` for 4 bytes in the manner of R/W bits `kind`. */
static inline void watch(struct fixture *f, uint64_t address, unsigned kind)
{
    f->cpu->dr[0] = address;
    f->cpu->dr7 = 0x400 | 2 | kind << 16 | 3 << 18;
    soft_update_debug(f->cpu);
    f->cpu->pending_db = 0;
}
