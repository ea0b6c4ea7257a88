// SPDX-License-Identifier: Apache-2.0
/*
 * KVM's vCPU state in the canonical form and back: general and system registers, events, activity.
 */
#include "vmm/engine/kvm/kvm.h"

#include <errno.h>
#include <string.h>

bool kvm_refuses(GError **error, const struct vcpu *vcpu, const char *what)
{
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                "KVM refuses the %s of vCPU %u: %s", what, vcpu->index, g_strerror(errno));
    return false;
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
        return kvm_refuses(error, vcpu, "system registers");
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
           kvm_refuses(error, vcpu, "general registers");
}

/* ---- XCR0 ---- */

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
           kvm_ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs) == 0 || kvm_refuses(error, vcpu, "XCR0");
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
           kvm_refuses(error, vcpu, "debug registers");
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
    /* AMD's processors have one bit for both, of which STI is by far the commoner cause. */
    state->interrupt_shadow = events.interrupt.shadow == KVM_X86_SHADOW_INT_MOV_SS ? 2
                              : events.interrupt.shadow                            ? 1
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
           kvm_refuses(error, vcpu, "pending events");
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
        [CPU_WAIT_FOR_SIPI] = KVM_MP_STATE_INIT_RECEIVED, /* in the other one it takes no SIPI */
        [CPU_SHUTDOWN] = KVM_MP_STATE_RUNNABLE,
    };
    struct kvm_mp_state mp = {.mp_state = states[state->mp_state & 3]};

    vcpu->is_shut_down = state->mp_state == CPU_SHUTDOWN;
    return kvm_ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp) == 0 || kvm_refuses(error, vcpu, "activity");
}

/* ---- the whole ---- */

void kvm_vcpu_get_state(struct vcpu *vcpu, struct cpu_state *state)
{
    cpu_state_reset(state, vcpu->index == 0, vcpu->index, 0);
    get_activity(vcpu, state); /* first: the kernel takes up pending INIT and SIPI here */
    get_regs(vcpu, state);
    get_sregs(vcpu, state);
    get_xcr0(vcpu, state);
    kvm_xsave_get(vcpu, state);
    get_debug(vcpu, state);
    kvm_msr_get(vcpu, state);
    state->tsc = kvm_time_get(vcpu);
    kvm_lapic_get(vcpu, &state->lapic);
    get_events(vcpu, state);
}

bool kvm_vcpu_set_state(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
{
    vcpu->unfinished = false;
    atomic_store(&vcpu->nmi, false);
    if (!cpu_state_check(state, &vcpu->engine->model, error) || !set_regs(vcpu, state, error) ||
        !set_xcr0(vcpu, state, error) || !kvm_xsave_set(vcpu, state, error) ||
        !set_sregs(vcpu, state, error) || !kvm_msr_set(vcpu, state, error))
        return false;
    kvm_time_set(vcpu, state->tsc);
    return kvm_lapic_set(vcpu, &state->lapic, error) && set_activity(vcpu, state, error) &&
           set_debug(vcpu, state, error) && set_events(vcpu, state, error);
}
