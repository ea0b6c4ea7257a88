// SPDX-License-Identifier: Apache-2.0
/*
 * Floating-point state in the canonical form and back. Components lie in KVM's XSAVE image where
 * the host's CPUID leaf D says; struct cpu_state knows no layout.
 */
#include "vmm/engine/kvm/kvm.h"

#include <cpuid.h>
#include <string.h>

#define XSAVE_BV   512 /* offset of XSTATE_BV in the image */
#define XMM_OFFSET 160
#define ST_OFFSET  32

enum component {
    COMPONENT_X87,
    COMPONENT_SSE,
    COMPONENT_AVX,
    COMPONENT_OPMASK = 5,
    COMPONENT_ZMM_HIGH,
    COMPONENT_ZMM_UPPER,
    COMPONENT_PKRU = 9,
};

/* Where the host's XSAVE puts a component; 0 for what it does not have. */
static unsigned component_offset(unsigned component, size_t limit, unsigned size)
{
    unsigned eax, ebx, ecx, edx;

    if (!__get_cpuid_count(0xd, component, &eax, &ebx, &ecx, &edx) || eax < size ||
        ebx + size > limit)
        return 0;
    return ebx;
}

struct piece {
    unsigned component;
    size_t state;    /* offset of the first element in struct cpu_state */
    unsigned stride; /* between elements there */
    unsigned size;   /* of an element, and its stride in the image */
    unsigned count;
};

#define VECTOR(index, byte) (offsetof(struct cpu_state, vector) + (index)*64 + (byte))

static const struct piece pieces[] = {
    {COMPONENT_AVX, VECTOR(0, 16), 64, 16, 16},
    {COMPONENT_OPMASK, offsetof(struct cpu_state, opmask), 8, 8, 8},
    {COMPONENT_ZMM_HIGH, VECTOR(0, 32), 64, 32, 16},
    {COMPONENT_ZMM_UPPER, VECTOR(16, 0), 64, 64, 16},
    {COMPONENT_PKRU, offsetof(struct cpu_state, pkru), 4, 4, 1},
};

static void get_legacy(struct cpu_state *state, const uint8_t *image)
{
    struct cpu_x87 *x87 = &state->x87;

    memcpy(&x87->control, image, 2);
    memcpy(&x87->status, image + 2, 2);
    x87->tag = image[4];
    memcpy(&x87->opcode, image + 6, 2);
    x87->opcode &= 0x7ff;
    memcpy(&x87->instruction_pointer, image + 8, 8);
    memcpy(&x87->data_pointer, image + 16, 8);
    memcpy(&state->mxcsr, image + 24, 4);
    for (unsigned i = 0; i < 8; i++) {
        unsigned physical = ((x87->status >> 11 & 7) + i) & 7;
        memcpy(x87->registers[physical], image + ST_OFFSET + 16 * i, 10);
    }
}

static void set_legacy(uint8_t *image, const struct cpu_state *state)
{
    const struct cpu_x87 *x87 = &state->x87;

    memcpy(image, &x87->control, 2);
    memcpy(image + 2, &x87->status, 2);
    image[4] = x87->tag;
    memcpy(image + 6, &x87->opcode, 2);
    memcpy(image + 8, &x87->instruction_pointer, 8);
    memcpy(image + 16, &x87->data_pointer, 8);
    memcpy(image + 24, &state->mxcsr, 4);
    for (unsigned i = 0; i < 8; i++) {
        unsigned physical = ((x87->status >> 11 & 7) + i) & 7;
        memcpy(image + ST_OFFSET + 16 * i, x87->registers[physical], 10);
    }
}

void kvm_xsave_get(struct vcpu *vcpu, struct cpu_state *state)
{
    size_t size = vcpu->engine->xsave_size;
    g_autofree uint8_t *image = g_malloc0(size); /* the host kernel's size; lint: ok */
    uint64_t present;

    if (kvm_ioctl(vcpu->fd, size > 4096 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, image) < 0)
        return;
    memcpy(&present, image + XSAVE_BV, sizeof(present));
    get_legacy(state, image);
    for (unsigned i = 0; present & 1 << COMPONENT_SSE && i < 16; i++)
        memcpy(state->vector[i], image + XMM_OFFSET + 16 * i, 16);
    for (unsigned i = 0; i < G_N_ELEMENTS(pieces); i++) {
        const struct piece *piece = &pieces[i];
        unsigned offset = component_offset(piece->component, size, piece->size * piece->count);

        if (!offset || !(present >> piece->component & 1))
            continue;
        for (unsigned n = 0; n < piece->count; n++)
            memcpy((uint8_t *)state + piece->state + n * piece->stride,
                   image + offset + n * piece->size, piece->size);
    }
}

bool kvm_xsave_set(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
{
    size_t size = vcpu->engine->xsave_size;
    g_autofree uint8_t *image = g_malloc0(size); /* the host kernel's size; lint: ok */
    uint64_t present = 1 << COMPONENT_X87 | 1 << COMPONENT_SSE;
    uint64_t shown = vcpu->engine->model.xcr0_mask;

    set_legacy(image, state);
    for (unsigned i = 0; i < 16; i++)
        memcpy(image + XMM_OFFSET + 16 * i, state->vector[i], 16);
    for (unsigned i = 0; i < G_N_ELEMENTS(pieces); i++) {
        const struct piece *piece = &pieces[i];
        unsigned offset = component_offset(piece->component, size, piece->size * piece->count);

        if (!offset || !(shown >> piece->component & 1))
            continue;
        present |= 1UL << piece->component;
        for (unsigned n = 0; n < piece->count; n++)
            memcpy(image + offset + n * piece->size,
                   (const uint8_t *)state + piece->state + n * piece->stride, piece->size);
    }
    memcpy(image + XSAVE_BV, &present, sizeof(present));
    return kvm_ioctl(vcpu->fd, KVM_SET_XSAVE, image) == 0 ||
           kvm_refuses(error, vcpu, "floating-point state");
}
