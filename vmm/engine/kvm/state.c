// SPDX-License-Identifier: Apache-2.0
/*
 * KVM's vCPU state in the canonical form and back. Floating-point components lie in KVM's XSAVE
 * image where the host's CPUID leaf D says; struct cpu_state knows no layout.
 */
#include "vmm/engine/kvm/kvm.h"

#include <cpuid.h>
#include <errno.h>
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

static bool refuse(GError **error, struct vcpu *vcpu, const char *what)
{
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                "KVM refuses the %s of vCPU %u: %s", what, vcpu->index, g_strerror(errno));
    return false;
}

/* ---- MSRs ---- */

bool kvm_read_msr(struct vcpu *vcpu, uint32_t index, uint64_t *value)
{
    union kvm_one_msr one = {.msrs.nmsrs = 1};

    one.msrs.entries[0].index = index;
    if (kvm_ioctl(vcpu->fd, KVM_GET_MSRS, &one) != 1)
        return false;
    *value = one.msrs.entries[0].data;
    return true;
}

bool kvm_write_msr(struct vcpu *vcpu, uint32_t index, uint64_t value)
{
    union kvm_one_msr one = {.msrs.nmsrs = 1};

    one.msrs.entries[0].index = index;
    one.msrs.entries[0].data = value;
    return kvm_ioctl(vcpu->fd, KVM_SET_MSRS, &one) == 1;
}

void kvm_find_msrs(struct vcpu *vcpu)
{
    struct kvm_engine *engine = vcpu->engine;
    uint64_t value;

    if (engine->msr_known)
        return;
    engine->msr_known = g_new0(bool, cpu_msr_slots_count);
    for (unsigned i = 0; i < cpu_msr_slots_count; i++)
        engine->msr_known[i] = kvm_read_msr(vcpu, cpu_msr_slots[i].index, &value);
}

static uint64_t *msr_place(const struct cpu_msrs *msrs, unsigned slot)
{
    return (uint64_t *)((uint8_t *)msrs + cpu_msr_slots[slot].offset);
}

/* Registers that this kernel does not have keep the value of power-on. */
static void get_msrs(struct vcpu *vcpu, struct cpu_state *state)
{
    for (unsigned i = 0; i < cpu_msr_slots_count; i++) {
        if (vcpu->engine->msr_known[i])
            kvm_read_msr(vcpu, cpu_msr_slots[i].index, msr_place(&state->msrs, i));
    }
    /* The kernel's counter goes on while the machine's clock stands still; the guest's does not. */
    state->tsc = clock_tsc(vcpu->engine->config.clock) + vcpu->tsc_offset;
}

static bool set_msrs(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
{
    struct cpu_state fresh;

    cpu_state_reset(&fresh, true, 0, 0);
    for (unsigned i = 0; i < cpu_msr_slots_count; i++) {
        uint32_t index = cpu_msr_slots[i].index;
        uint64_t value = *msr_place(&state->msrs, i), now;

        if (vcpu->engine->msr_known[i] && kvm_read_msr(vcpu, index, &now) && now == value)
            continue;
        if (vcpu->engine->msr_known[i] && kvm_write_msr(vcpu, index, value))
            continue;
        /* A register without its feature holds nothing but its first value. */
        if (value == *msr_place(&fresh.msrs, i))
            continue;
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "KVM refuses MSR 0x%x = 0x%" G_GINT64_MODIFIER "x of vCPU %u", index, value,
                    vcpu->index);
        return false;
    }
    return kvm_write_msr(vcpu, KVM_MSR_TSC, state->tsc) || refuse(error, vcpu, "TSC");
}

/* ---- general and system registers ---- */

static void get_segment(struct cpu_segment *out, const struct kvm_segment *in)
{
    out->selector = in->selector;
    out->base = in->base;
    out->limit = in->limit;
    out->attributes = (in->type & 15) | (in->s & 1) << 4 | (in->dpl & 3) << 5 |
                      (in->present & 1) << 7 | (in->avl & 1) << 8 | (in->l & 1) << 9 |
                      (in->db & 1) << 10 | (in->g & 1) << 11 |
                      (in->unusable ? SEGMENT_UNUSABLE : 0);
}

static void set_segment(struct kvm_segment *out, const struct cpu_segment *in)
{
    uint16_t attributes = in->attributes;

    *out = (struct kvm_segment){
        .base = in->base,
        .limit = in->limit,
        .selector = in->selector,
        .type = SEGMENT_TYPE(attributes),
        .s = attributes >> 4 & 1,
        .dpl = SEGMENT_DPL(attributes),
        .present = attributes >> 7 & 1,
        .avl = attributes >> 8 & 1,
        .l = attributes >> 9 & 1,
        .db = attributes >> 10 & 1,
        .g = attributes >> 11 & 1,
        .unusable = attributes & SEGMENT_UNUSABLE ? 1 : 0,
    };
}

/* In the order of enum cpu_segment_index. */
static const size_t segment_offsets[SEG_COUNT] = {
    offsetof(struct kvm_sregs, es),  offsetof(struct kvm_sregs, cs), offsetof(struct kvm_sregs, ss),
    offsetof(struct kvm_sregs, ds),  offsetof(struct kvm_sregs, fs), offsetof(struct kvm_sregs, gs),
    offsetof(struct kvm_sregs, ldt), offsetof(struct kvm_sregs, tr),
};

static struct kvm_segment *segment_at(struct kvm_sregs *sregs, unsigned index)
{
    return (struct kvm_segment *)((uint8_t *)sregs + segment_offsets[index]);
}

static void get_sregs(struct vcpu *vcpu, struct cpu_state *state)
{
    struct kvm_sregs sregs = {0};
    struct kvm_sregs2 sregs2 = {0};

    kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs);
    for (unsigned i = 0; i < SEG_COUNT; i++)
        get_segment(&state->segments[i], segment_at(&sregs, i));
    state->gdtr = (struct cpu_table_register){sregs.gdt.base, sregs.gdt.limit};
    state->idtr = (struct cpu_table_register){sregs.idt.base, sregs.idt.limit};
    state->cr0 = sregs.cr0;
    state->cr2 = sregs.cr2;
    state->cr3 = sregs.cr3;
    state->cr4 = sregs.cr4;
    state->cr8 = sregs.cr8;
    state->lapic.base_msr = sregs.apic_base;
    if (kvm_ioctl(vcpu->fd, KVM_GET_SREGS2, &sregs2) == 0 &&
        sregs2.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID)
        memcpy(state->pdptr, sregs2.pdptrs, sizeof(state->pdptr));
}

/* A KVM that interprets ring 0 may drop a mode that it cannot run without saying so. */
static bool took_mode(struct vcpu *vcpu, const struct kvm_sregs *wanted, GError **error)
{
    struct kvm_sregs taken = {0};

    kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &taken);
    if (taken.cr0 == wanted->cr0 && taken.cr4 == wanted->cr4 && taken.efer == wanted->efer)
        return true;
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSYS,
                "the host's KVM cannot run vCPU %u in this mode (CR0 0x%llx became 0x%llx, CR4 "
                "0x%llx became 0x%llx); use --engine soft",
                vcpu->index, wanted->cr0, taken.cr0, wanted->cr4, taken.cr4);
    return false;
}

static bool set_sregs(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
{
    struct kvm_sregs sregs = {0};

    for (unsigned i = 0; i < SEG_COUNT; i++)
        set_segment(segment_at(&sregs, i), &state->segments[i]);
    sregs.gdt = (struct kvm_dtable){.base = state->gdtr.base, .limit = state->gdtr.limit};
    sregs.idt = (struct kvm_dtable){.base = state->idtr.base, .limit = state->idtr.limit};
    sregs.cr0 = state->cr0;
    sregs.cr2 = state->cr2;
    sregs.cr3 = state->cr3;
    sregs.cr4 = state->cr4;
    sregs.cr8 = state->cr8;
    sregs.efer = state->msrs.efer;
    sregs.apic_base = state->lapic.base_msr;
    if (kvm_ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0)
        return refuse(error, vcpu, "system registers");
    return took_mode(vcpu, &sregs, error);
}

static void get_regs(struct vcpu *vcpu, struct cpu_state *state)
{
    struct kvm_regs regs = {0};

    kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs);
    const uint64_t gpr[GPR_COUNT] = {regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp,
                                     regs.rsi, regs.rdi, regs.r8,  regs.r9,  regs.r10, regs.r11,
                                     regs.r12, regs.r13, regs.r14, regs.r15};
    memcpy(state->gpr, gpr, sizeof(gpr));
    state->rip = regs.rip;
    state->rflags = regs.rflags;
}

static bool set_regs(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
{
    const uint64_t *gpr = state->gpr;
    struct kvm_regs regs = {
        .rax = gpr[GPR_RAX],
        .rbx = gpr[GPR_RBX],
        .rcx = gpr[GPR_RCX],
        .rdx = gpr[GPR_RDX],
        .rsi = gpr[GPR_RSI],
        .rdi = gpr[GPR_RDI],
        .rsp = gpr[GPR_RSP],
        .rbp = gpr[GPR_RBP],
        .r8 = gpr[GPR_R8],
        .r9 = gpr[GPR_R9],
        .r10 = gpr[GPR_R10],
        .r11 = gpr[GPR_R11],
        .r12 = gpr[GPR_R12],
        .r13 = gpr[GPR_R13],
        .r14 = gpr[GPR_R14],
        .r15 = gpr[GPR_R15],
        .rip = state->rip,
        .rflags = state->rflags,
    };

    return kvm_ioctl(vcpu->fd, KVM_SET_REGS, &regs) == 0 ||
           refuse(error, vcpu, "general registers");
}

/* ---- floating point ---- */

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

static void get_xsave(struct vcpu *vcpu, struct cpu_state *state)
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

static bool set_xsave(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
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
           refuse(error, vcpu, "floating-point state");
}

static void get_xcr0(struct vcpu *vcpu, struct cpu_state *state)
{
    struct kvm_xcrs xcrs = {0};

    state->xcr0 = 1;
    if (cpu_has_feature(&vcpu->engine->model, CPU_XSAVE) &&
        kvm_ioctl(vcpu->fd, KVM_GET_XCRS, &xcrs) == 0 && xcrs.nr_xcrs)
        state->xcr0 = xcrs.xcrs[0].value;
}

static bool set_xcr0(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
{
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = state->xcr0}}};

    return !cpu_has_feature(&vcpu->engine->model, CPU_XSAVE) ||
           kvm_ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs) == 0 || refuse(error, vcpu, "XCR0");
}

/* ---- debug registers, events, activity ---- */

static void get_debug(struct vcpu *vcpu, struct cpu_state *state)
{
    struct kvm_debugregs debug = {0};

    kvm_ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &debug);
    memcpy(state->dr, debug.db, sizeof(state->dr));
    state->dr6 = debug.dr6;
    state->dr7 = debug.dr7;
}

static bool set_debug(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
{
    struct kvm_debugregs debug = {.dr6 = state->dr6, .dr7 = state->dr7};

    memcpy(debug.db, state->dr, sizeof(debug.db));
    return kvm_ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &debug) == 0 ||
           refuse(error, vcpu, "debug registers");
}

/* INT3 and INTO, whose delivery is begun again by executing them again. */
static bool is_of_instruction(uint8_t vector)
{
    return vector == 3 || vector == 4;
}

/* An exception that waits (its payload not yet applied) or whose delivery the processor broke off.
 * CR2 is written here: the canonical form has no page fault without it. */
static void get_exception(const struct kvm_vcpu_events *events, struct cpu_state *state)
{
    uint64_t payload = events->exception_has_payload ? events->exception_payload : 0;

    if (events->exception.injected && is_of_instruction(events->exception.nr))
        return;
    state->event_pending = true;
    state->event_type = CPU_EVENT_EXCEPTION;
    state->event_vector = events->exception.nr;
    state->event_has_error = events->exception.has_error_code;
    state->event_error = events->exception.has_error_code ? events->exception.error_code : 0;
    if (events->exception_has_payload && events->exception.nr == 14)
        state->cr2 = payload;
    else if (events->exception.nr == 1)
        state->event_payload = payload;
}

static void get_events(struct vcpu *vcpu, struct cpu_state *state)
{
    struct kvm_vcpu_events events = {0};

    kvm_ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events);
    state->interrupt_shadow = events.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ? 2
                              : events.interrupt.shadow                           ? 1
                                                                                  : 0;
    state->nmi_masked = events.nmi.masked;
    state->nmi_pending = events.nmi.pending || atomic_load(&vcpu->nmi);
    state->sipi_vector = (uint8_t)events.sipi_vector;
    if (events.exception.injected || events.exception.pending) {
        get_exception(&events, state);
    } else if (events.interrupt.injected && !events.interrupt.soft) {
        state->event_pending = true;
        state->event_type = CPU_EVENT_EXTERNAL;
        state->event_vector = events.interrupt.nr;
    } else if (events.nmi.injected) {
        state->event_pending = true;
        state->event_type = CPU_EVENT_NMI;
        state->event_vector = 2;
    }
}

static void set_event(struct kvm_vcpu_events *events, const struct cpu_state *state)
{
    switch (state->event_type) {
    case CPU_EVENT_EXCEPTION:
        events->exception.nr = state->event_vector;
        events->exception.has_error_code = state->event_has_error;
        events->exception.error_code = state->event_error;
        events->exception.pending = state->event_payload != 0;
        events->exception.injected = !state->event_payload;
        events->exception_has_payload = state->event_payload != 0;
        events->exception_payload = state->event_payload;
        break;
    case CPU_EVENT_EXTERNAL:
        events->interrupt.injected = 1;
        events->interrupt.nr = state->event_vector;
        break;
    case CPU_EVENT_NMI:
        events->nmi.injected = 1;
        break;
    }
}

static bool set_events(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
{
    struct kvm_vcpu_events events = {
        .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
                 KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_PAYLOAD,
        .interrupt.shadow = state->interrupt_shadow == 2   ? KVM_X86_SHADOW_INT_MOV_SS
                            : state->interrupt_shadow == 1 ? KVM_X86_SHADOW_INT_STI
                                                           : 0,
        .nmi.masked = state->nmi_masked,
        .nmi.pending = state->nmi_pending,
        .sipi_vector = state->sipi_vector,
    };

    if (state->event_pending)
        set_event(&events, state);
    return kvm_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events) == 0 ||
           refuse(error, vcpu, "pending events");
}

static void get_activity(struct vcpu *vcpu, struct cpu_state *state)
{
    struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_RUNNABLE};

    kvm_ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp);
    if (vcpu->is_shut_down)
        state->mp_state = CPU_SHUTDOWN;
    else if (mp.mp_state == KVM_MP_STATE_HALTED)
        state->mp_state = CPU_HALTED;
    else if (mp.mp_state == KVM_MP_STATE_UNINITIALIZED || mp.mp_state == KVM_MP_STATE_INIT_RECEIVED)
        state->mp_state = CPU_WAIT_FOR_SIPI;
    else
        state->mp_state = CPU_RUNNABLE;
}

static bool set_activity(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
{
    static const uint32_t states[] = {
        [CPU_RUNNABLE] = KVM_MP_STATE_RUNNABLE,
        [CPU_HALTED] = KVM_MP_STATE_HALTED,
        [CPU_WAIT_FOR_SIPI] = KVM_MP_STATE_UNINITIALIZED,
        [CPU_SHUTDOWN] = KVM_MP_STATE_RUNNABLE,
    };
    struct kvm_mp_state mp = {.mp_state = states[state->mp_state & 3]};

    vcpu->is_shut_down = state->mp_state == CPU_SHUTDOWN;
    return kvm_ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp) == 0 || refuse(error, vcpu, "activity");
}

/* ---- the whole ---- */

void kvm_vcpu_get_state(struct vcpu *vcpu, struct cpu_state *state)
{
    cpu_state_reset(state, vcpu->index == 0, vcpu->index, 0);
    get_activity(vcpu, state); /* first: the kernel takes up pending INIT and SIPI here */
    get_regs(vcpu, state);
    get_sregs(vcpu, state);
    get_xcr0(vcpu, state);
    get_xsave(vcpu, state);
    get_debug(vcpu, state);
    get_msrs(vcpu, state);
    kvm_lapic_get(vcpu, &state->lapic);
    get_events(vcpu, state);
}

bool kvm_vcpu_set_state(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
{
    vcpu->unfinished = false;
    vcpu->tsc_offset = state->tsc - clock_tsc(vcpu->engine->config.clock);
    return cpu_state_check(state, &vcpu->engine->model, error) && set_regs(vcpu, state, error) &&
           set_xcr0(vcpu, state, error) && set_xsave(vcpu, state, error) &&
           set_sregs(vcpu, state, error) && set_msrs(vcpu, state, error) &&
           kvm_lapic_set(vcpu, &state->lapic, error) && set_activity(vcpu, state, error) &&
           set_debug(vcpu, state, error) && set_events(vcpu, state, error);
}
