// SPDX-License-Identifier: Apache-2.0
/*
 * Running a vCPU on KVM: entering the kernel, serving its exits, and leaving when asked to.
 *
 * A kick sets `kicked` and immediate_exit and sends a signal: whichever side of the entry it meets,
 * KVM_RUN returns. An exit that reads (IN, a load from MMIO) is completed by the next KVM_RUN, so
 * before vcpu_run returns the kernel is entered once more with immediate_exit set; then the state
 * is that of an instruction's boundary.
 */
#include "vmm/engine/kvm/kvm.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define KICK_SIGNAL SIGRTMIN

static struct kvm_engine *kvm(struct engine *engine)
{
    return (struct kvm_engine *)engine;
}

/* ---- kicks ---- */

static void on_kick(int number)
{
}

static void install_handler(void)
{
    static gsize ready;

    if (g_once_init_enter(&ready)) {
        struct sigaction action = {.sa_handler = on_kick}; /* no SA_RESTART: KVM_RUN returns */

        sigaction(KICK_SIGNAL, &action, NULL);
        g_once_init_leave(&ready, 1);
    }
}

void kvm_vcpu_poke(struct vcpu *vcpu)
{
    pthread_mutex_lock(&vcpu->lock);
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (vcpu->running && !pthread_equal(vcpu->thread, pthread_self()))
        pthread_kill(vcpu->thread, KICK_SIGNAL);
    pthread_mutex_unlock(&vcpu->lock);
}

void kvm_vcpu_kick(struct vcpu *vcpu)
{
    atomic_store(&vcpu->kicked, true);
    kvm_vcpu_poke(vcpu);
}

void kvm_vcpu_nmi(struct vcpu *vcpu)
{
    atomic_store(&vcpu->nmi, true);
    kvm_vcpu_poke(vcpu);
}

static void set_running(struct vcpu *vcpu, bool running)
{
    sigset_t kick;

    sigemptyset(&kick);
    sigaddset(&kick, KICK_SIGNAL);
    if (running)
        pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
    pthread_mutex_lock(&vcpu->lock);
    vcpu->running = running;
    vcpu->thread = pthread_self();
    pthread_mutex_unlock(&vcpu->lock);
}

/* ---- errors ---- */

/* RIP and the bytes there, for a person who wants to know what could not be run. */
static void describe_place(struct vcpu *vcpu, GString *text)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    uint64_t physical;
    uint8_t bytes[12];

    if (kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0 ||
        kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
        return;
    g_string_append_printf(text, " at RIP 0x%llx", regs.rip);
    if (!kvm_vcpu_translate(vcpu, sregs.cs.base + regs.rip, &physical) ||
        !memory_read(vcpu->engine->config.memory, physical, bytes, sizeof(bytes)))
        return;
    g_string_append(text, ", bytes");
    for (unsigned i = 0; i < sizeof(bytes); i++)
        g_string_append_printf(text, " %02x", bytes[i]);
}

static enum vcpu_exit give_up(struct vcpu *vcpu, const char *what, uint64_t detail)
{
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, "KVM: vCPU %u: %s (0x%" G_GINT64_MODIFIER "x)", vcpu->index, what,
                           detail);
    describe_place(vcpu, text);
    g_strlcpy(vcpu->error, text->str, sizeof(vcpu->error));
    g_string_free(text, TRUE);
    return VCPU_EXIT_ERROR;
}

static enum vcpu_exit internal_error(struct vcpu *vcpu)
{
    switch (vcpu->run->internal.suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
        return give_up(vcpu, "the kernel cannot emulate an instruction",
                       vcpu->run->internal.suberror);
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
        return give_up(vcpu, "the kernel cannot deliver an event", vcpu->run->internal.data[0]);
    default:
        return give_up(vcpu, "internal error of the kernel", vcpu->run->internal.suberror);
    }
}

/* ---- exits ---- */

static void serve_pio(struct vcpu *vcpu)
{
    const struct engine_config *config = &vcpu->engine->config;
    const struct kvm_run *run = vcpu->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;

    for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
        uint32_t value = 0;

        if (run->io.direction == KVM_EXIT_IO_OUT) {
            memcpy(&value, data, run->io.size);
            config->exits->pio_write(config->opaque, run->io.port, run->io.size, value);
        } else {
            value = config->exits->pio_read(config->opaque, run->io.port, run->io.size);
            memcpy(data, &value, run->io.size);
        }
    }
}

static void serve_mmio(struct vcpu *vcpu)
{
    const struct engine_config *config = &vcpu->engine->config;
    struct kvm_run *run = vcpu->run;
    uint64_t value = 0;
    unsigned size = MIN(run->mmio.len, 8);

    if (run->mmio.is_write) {
        memcpy(&value, run->mmio.data, size);
        config->exits->mmio_write(config->opaque, run->mmio.phys_addr, size, value);
    } else {
        value = config->exits->mmio_read(config->opaque, run->mmio.phys_addr, size);
        memcpy(run->mmio.data, &value, size);
    }
}

static enum engine_exit exit_kind(const struct kvm_run *run)
{
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        return ENGINE_EXIT_PIO;
    case KVM_EXIT_MMIO:
        return ENGINE_EXIT_MMIO;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
        return ENGINE_EXIT_MSR;
    case KVM_EXIT_IOAPIC_EOI:
        return ENGINE_EXIT_EOI;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        return ENGINE_EXIT_WINDOW;
    case KVM_EXIT_INTR:
        return ENGINE_EXIT_SIGNAL;
    case KVM_EXIT_DIRTY_RING_FULL:
        return ENGINE_EXIT_DIRTY;
    default:
        return ENGINE_EXIT_OTHER;
    }
}

/* Only the vCPU's own thread counts: no locked instruction is needed. */
static void count_exit(struct vcpu *vcpu, enum engine_exit kind)
{
    uint64_t count = atomic_load_explicit(&vcpu->exits[kind], memory_order_relaxed);

    atomic_store_explicit(&vcpu->exits[kind], count + 1, memory_order_relaxed);
}

void kvm_vcpu_exits(const struct vcpu *vcpu, uint64_t counts[ENGINE_EXITS])
{
    for (unsigned i = 0; i < ENGINE_EXITS; i++)
        counts[i] += atomic_load_explicit(&vcpu->exits[i], memory_order_relaxed);
}

/* Serve what KVM_RUN came back with; true: vcpu_run returns `*exit`. */
static bool serve_exit(struct vcpu *vcpu, enum vcpu_exit *exit)
{
    const struct engine_config *config = &vcpu->engine->config;
    struct kvm_run *run = vcpu->run;

    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        serve_pio(vcpu);
        vcpu->unfinished = true;
        return false;
    case KVM_EXIT_MMIO:
        serve_mmio(vcpu);
        vcpu->unfinished = true;
        return false;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
        kvm_msr_serve(vcpu);
        vcpu->unfinished = true;
        return false;
    case KVM_EXIT_DIRTY_RING_FULL:
        kvm_dirty_ring_full(vcpu);
        return false;
    case KVM_EXIT_IOAPIC_EOI:
        config->exits->eoi_broadcast(config->opaque, run->eoi.vector);
        return false;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_SET_TPR:
    case KVM_EXIT_HLT:
        return false;
    case KVM_EXIT_SHUTDOWN:
        vcpu->is_shut_down = true;
        *exit = VCPU_EXIT_SHUTDOWN;
        return true;
    case KVM_EXIT_DEBUG:
        *exit = VCPU_EXIT_DEBUG;
        return true;
    case KVM_EXIT_FAIL_ENTRY:
        *exit = give_up(vcpu, "the processor refuses to enter the guest",
                        run->fail_entry.hardware_entry_failure_reason);
        return true;
    case KVM_EXIT_INTERNAL_ERROR:
        *exit = internal_error(vcpu);
        return true;
    default:
        *exit = give_up(vcpu, "an exit that was not asked for", run->exit_reason);
        return true;
    }
}

/* ---- entering ---- */

/* Begin an interrupt, as if the processor had acknowledged it: as an event it is part of the state,
 * which one that is queued by KVM_INTERRUPT is not. */
static void begin_interrupt(struct vcpu *vcpu, uint8_t vector)
{
    struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_RUNNABLE};
    struct kvm_vcpu_events events = {0};

    if (kvm_ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events) < 0)
        return;
    events.flags = 0; /* what others may change meanwhile stays */
    events.interrupt.injected = 1;
    events.interrupt.nr = vector;
    events.interrupt.soft = 0;
    kvm_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events);
    kvm_ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp); /* it ends a HLT */
}

/* The 8259 pair's interrupt, where the guest can take it now; else ask to come back when it can. */
static void inject_extint(struct vcpu *vcpu)
{
    struct kvm_engine *engine = vcpu->engine;

    vcpu->run->request_interrupt_window = 0;
    if (vcpu->index != 0 || !atomic_load(&engine->extint))
        return;
    if (!vcpu->run->ready_for_interrupt_injection) {
        vcpu->run->request_interrupt_window = 1;
        return;
    }
    begin_interrupt(vcpu, engine->config.exits->extint_acknowledge(engine->config.opaque));
    if (atomic_load(&engine->extint))
        vcpu->run->request_interrupt_window = 1;
}

/* Look around before an entry; true: vcpu_run ends, kicked. */
static bool prepare_entry(struct vcpu *vcpu)
{
    __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    if (atomic_load(&vcpu->kicked)) {
        if (!vcpu->unfinished) {
            atomic_store(&vcpu->kicked, false);
            return true;
        }
        __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELAXED);
        return false;
    }
    if (atomic_exchange(&vcpu->nmi, false))
        kvm_ioctl(vcpu->fd, KVM_NMI, NULL);
    inject_extint(vcpu);
    return false;
}

/* KVM_RUN; true: it came back with something to serve. */
static bool enter(struct vcpu *vcpu)
{
    atomic_store(&vcpu->inside, true);
    int result = ioctl(vcpu->fd, KVM_RUN, NULL);
    int failure = errno;
    atomic_fetch_add(&vcpu->passes, 1);
    atomic_store(&vcpu->inside, false);
    errno = failure;
    return result == 0;
}

static enum vcpu_exit run(struct vcpu *vcpu)
{
    enum vcpu_exit exit;

    for (;;) {
        if (prepare_entry(vcpu))
            return VCPU_EXIT_KICKED;
        if (enter(vcpu)) {
            vcpu->unfinished = false;
            count_exit(vcpu, exit_kind(vcpu->run));
            if (serve_exit(vcpu, &exit))
                return exit;
        } else if (errno == EINTR) {
            count_exit(vcpu, ENGINE_EXIT_SIGNAL);
            vcpu->unfinished = false;
        } else if (errno != EAGAIN) {
            return give_up(vcpu, "KVM_RUN failed", (uint64_t)errno);
        }
    }
}

enum vcpu_exit kvm_vcpu_run(struct vcpu *vcpu)
{
    if (vcpu->is_shut_down)
        return VCPU_EXIT_SHUTDOWN;
    kvm_time_enter(vcpu);
    set_running(vcpu, true);
    enum vcpu_exit exit = run(vcpu);
    set_running(vcpu, false);
    kvm_time_park(vcpu);
    return exit;
}

/* ---- debugger ---- */

bool kvm_vcpu_set_debug(struct vcpu *vcpu, const struct vcpu_debug *debug, GError **error)
{
    struct kvm_guest_debug guest = {0};

    if (debug->breakpoints > 4) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "engine kvm has 4 breakpoints; remove some, or use --engine soft");
        return false;
    }
    if (debug->single_step)
        guest.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
    if (debug->breakpoints) {
        guest.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
        guest.arch.debugreg[7] = 1 << 10 | 1 << 9; /* exact */
    }
    for (unsigned i = 0; i < debug->breakpoints; i++) {
        guest.arch.debugreg[i] = debug->address[i];
        guest.arch.debugreg[7] |= 2UL << (2 * i);
    }
    if (kvm_ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &guest) == 0)
        return true;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                "KVM: vCPU %u: cannot set breakpoints: %s", vcpu->index, g_strerror(errno));
    return false;
}

bool kvm_vcpu_translate(struct vcpu *vcpu, uint64_t linear, uint64_t *physical)
{
    struct kvm_translation translation = {.linear_address = linear};

    if (kvm_ioctl(vcpu->fd, KVM_TRANSLATE, &translation) < 0 || !translation.valid)
        return false;
    *physical = translation.physical_address;
    return true;
}

/* ---- life ---- */

void kvm_vcpu_destroy(struct vcpu *vcpu)
{
    if (!vcpu)
        return;
    pthread_mutex_lock(&vcpu->engine->slots_lock);
    vcpu->engine->vcpus[vcpu->index] = NULL;
    pthread_mutex_unlock(&vcpu->engine->slots_lock);
    kvm_dirty_unmap_ring(vcpu);
    if (vcpu->run)
        munmap(vcpu->run, vcpu->engine->run_size);
    if (vcpu->fd >= 0)
        close(vcpu->fd);
    pthread_mutex_destroy(&vcpu->lock);
    g_free(vcpu);
}

static bool open_vcpu(struct vcpu *vcpu, GError **error)
{
    struct kvm_engine *engine = vcpu->engine;

    vcpu->fd = kvm_ioctl(engine->vm, KVM_CREATE_VCPU, (void *)(uintptr_t)vcpu->index);
    if (vcpu->fd >= 0)
        vcpu->run = mmap(NULL, engine->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (vcpu->run == MAP_FAILED)
        vcpu->run = NULL;
    if (vcpu->run && kvm_dirty_map_ring(vcpu))
        return true;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                "KVM: cannot create vCPU %u: %s", vcpu->index, g_strerror(errno));
    return false;
}

/* Paravirtual MSRs and calls that CPUID does not show do not exist. */
static bool enforce_features(struct vcpu *vcpu, GError **error)
{
    struct kvm_enable_cap enforce = {.cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args = {1}};

    return kvm_ioctl(vcpu->fd, KVM_ENABLE_CAP, &enforce) == 0 ||
           kvm_refuses(error, vcpu, "paravirtual features");
}

struct vcpu *kvm_vcpu_create(struct engine *base, unsigned index, GError **error)
{
    struct kvm_engine *engine = kvm(base);
    struct cpu_state state;

    if (index >= engine->count || engine->vcpus[index]) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "vCPU %u: no such place", index);
        return NULL;
    }
    install_handler();
    struct vcpu *vcpu = g_new0(struct vcpu, 1);

    vcpu->engine = engine;
    vcpu->index = index;
    pthread_mutex_init(&vcpu->lock, NULL);
    if (open_vcpu(vcpu, error) && enforce_features(vcpu, error) && kvm_set_cpuid(vcpu, error) &&
        kvm_time_scale(vcpu, error)) {
        kvm_msr_find(vcpu);
        cpu_state_reset(&state, index == 0, index, engine->model.signature);
        if (kvm_vcpu_set_state(vcpu, &state, error)) {
            pthread_mutex_lock(&engine->slots_lock);
            engine->vcpus[index] = vcpu;
            pthread_mutex_unlock(&engine->slots_lock);
            return vcpu;
        }
    }
    kvm_vcpu_destroy(vcpu);
    return NULL;
}
