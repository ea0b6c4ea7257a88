// SPDX-License-Identifier: Apache-2.0
/*
 * The engine "kvm": the kernel's virtual machine and its interrupts (Linux,
 * Documentation/virt/kvm/api.rst).
 *
 * Messages go straight to the kernel's local APICs. IOAPIC pins are told to it as routes only so
 * that it knows which vectors' EOIs to report. The 8259 pair's interrupt is injected by the first
 * vCPU's own thread, which is poked when the level rises.
 */
#include "vmm/engine/kvm/kvm.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/engine/engines.h"

/* Three pages that KVM on Intel's processors needs in the guest's space, and one more: below the
 * firmware at the end of 4 GiB. */
#define IDENTITY_MAP 0xfffbc000UL
#define TSS_ADDRESS  0xfffbd000UL

int kvm_ioctl(int fd, unsigned long request, void *argument)
{
    int result;

    do
        result = ioctl(fd, request, argument);
    while (result < 0 && errno == EINTR);
    return result;
}

static struct kvm_engine *kvm(const struct engine *engine)
{
    return (struct kvm_engine *)engine;
}

static bool fail(GError **error, const char *what)
{
    int failure = errno;

    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(failure), "KVM: %s: %s", what,
                g_strerror(failure));
    return false;
}

/* ---- creation ---- */

static bool check_capabilities(int fd, GError **error)
{
    if (kvm_ioctl(fd, KVM_GET_API_VERSION, NULL) != KVM_API_VERSION) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSYS,
                    "/dev/kvm does not speak version %d of its interface; use --engine soft",
                    KVM_API_VERSION);
        return false;
    }
    const char *missing = kvm_missing(fd);
    if (missing) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSYS, "%s; use --engine soft", missing);
        return false;
    }
    return true;
}

static bool enable(struct kvm_engine *engine, uint32_t capability, uint64_t argument)
{
    struct kvm_enable_cap enable = {.cap = capability, .args = {argument}};

    return kvm_ioctl(engine->vm, KVM_ENABLE_CAP, &enable) == 0;
}

static bool create_vm(struct kvm_engine *engine, GError **error)
{
    uint64_t identity_map = IDENTITY_MAP;
    int size;

    engine->vm = kvm_ioctl(engine->kvm, KVM_CREATE_VM, NULL);
    if (engine->vm < 0)
        return fail(error, "cannot create a machine");
    if (kvm_ioctl(engine->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
        kvm_ioctl(engine->vm, KVM_SET_TSS_ADDR, (void *)TSS_ADDRESS) < 0)
        return fail(error, "cannot place its own pages");
    if (!enable(engine, KVM_CAP_SPLIT_IRQCHIP, KVM_IOAPIC_PINS))
        return fail(error, "cannot split the interrupt controllers");
    /* A refinement that every kernel since 5.0 has. */
    enable(engine, KVM_CAP_X2APIC_API,
           KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
    if (!enable(engine, KVM_CAP_EXCEPTION_PAYLOAD, 1))
        return fail(error, "cannot keep the payload of exceptions apart");
    kvm_dirty_init(engine);
    size = kvm_ioctl(engine->kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
    if (size < (int)sizeof(struct kvm_run))
        return fail(error, "its vCPU area is too small");
    engine->run_size = (size_t)size;
    size = kvm_ioctl(engine->vm, KVM_CHECK_EXTENSION, (void *)KVM_CAP_XSAVE2);
    engine->xsave_size = size > 4096 ? (size_t)size : 4096;
    return true;
}

static void engine_destroy(struct engine *base)
{
    struct kvm_engine *engine = kvm(base);

    if (!engine)
        return;
    kvm_slots_finish(engine);
    if (engine->vm >= 0)
        close(engine->vm);
    pthread_mutex_destroy(&engine->routes_lock);
    pthread_mutex_destroy(&engine->time_lock);
    pthread_mutex_destroy(&engine->slots_lock);
    g_free(engine->msr_known);
    g_free(engine->vcpus);
    g_free(engine);
}

static bool define_cpu(struct kvm_engine *engine, const uint32_t words[CPU_WORDS], GError **error)
{
    bool scales = kvm_ioctl(engine->kvm, KVM_CHECK_EXTENSION, (void *)KVM_CAP_TSC_CONTROL) > 0;

    kvm_time_init(engine);
    return engine_define_cpu(&engine->config, words, scales, &engine->model, error);
}

static bool setup(struct kvm_engine *engine, GError **error)
{
    const struct engine_config *config = &engine->config;
    uint32_t words[CPU_WORDS];
    int most;

    if (engine->kvm < 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT,
                    "engine kvm has no /dev/kvm; use --engine soft");
        return false;
    }
    if (!check_capabilities(engine->kvm, error))
        return false;
    most = kvm_ioctl(engine->kvm, KVM_CHECK_EXTENSION, (void *)KVM_CAP_MAX_VCPUS);
    if (config->cpus < 1 || config->cpus > (unsigned)most || config->cpus > 255) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "engine kvm runs 1 to %d CPUs, not %u", MIN(most, 255), config->cpus);
        return false;
    }
    return kvm_features(engine->kvm, words, error) && create_vm(engine, error) &&
           define_cpu(engine, words, error) && kvm_msr_filter(engine, error) &&
           kvm_slots_init(engine, error);
}

static struct engine *engine_create(const struct engine_config *config, GError **error)
{
    struct kvm_engine *engine = g_new0(struct kvm_engine, 1);

    engine->config = *config;
    engine->kvm = config->kvm_fd;
    engine->vm = -1;
    engine->count = config->cpus;
    engine->vcpus = g_new0(struct vcpu *, MAX(config->cpus, 1));
    pthread_mutex_init(&engine->routes_lock, NULL);
    pthread_mutex_init(&engine->time_lock, NULL);
    pthread_mutex_init(&engine->slots_lock, NULL);
    if (!setup(engine, error)) {
        engine_destroy((struct engine *)engine);
        return NULL;
    }
    return (struct engine *)engine;
}

static const struct cpu_definition *engine_cpu(const struct engine *engine)
{
    return &kvm(engine)->model;
}

/* ---- interrupts ---- */

static void engine_msi(struct engine *engine, uint64_t address, uint32_t data)
{
    struct kvm_msi msi = {
        .address_lo = (uint32_t)address, .address_hi = address >> 32, .data = data};

    /* 0 means that no local APIC accepted it, which is the guest's affair. */
    kvm_ioctl(kvm(engine)->vm, KVM_SIGNAL_MSI, &msi);
}

static void engine_set_extint(struct engine *base, bool level)
{
    struct kvm_engine *engine = kvm(base);

    if (atomic_exchange(&engine->extint, level) != level && level && engine->vcpus[0])
        kvm_vcpu_poke(engine->vcpus[0]);
}

static void send_routes_locked(struct kvm_engine *engine)
{
    g_autofree struct kvm_irq_routing *table =
        g_malloc0(sizeof(*table) + KVM_IOAPIC_PINS * sizeof(table->entries[0]));

    for (unsigned pin = 0; pin < KVM_IOAPIC_PINS; pin++) {
        if (engine->routed[pin])
            table->entries[table->nr++] = engine->routes[pin];
    }
    if (kvm_ioctl(engine->vm, KVM_SET_GSI_ROUTING, table) < 0)
        g_warning("KVM refuses the interrupt routes: %s", g_strerror(errno));
}

static void engine_ioapic_route(struct engine *base, unsigned pin, uint64_t address, uint32_t data,
                                bool masked, bool level)
{
    struct kvm_engine *engine = kvm(base);
    bool routed = level && !masked;
    struct kvm_irq_routing_entry route = {
        .gsi = pin,
        .type = KVM_IRQ_ROUTING_MSI,
        .u.msi = {.address_lo = (uint32_t)address, .address_hi = address >> 32, .data = data},
    };

    if (pin >= KVM_IOAPIC_PINS)
        return;
    pthread_mutex_lock(&engine->routes_lock);
    struct kvm_irq_routing_entry *old = &engine->routes[pin];
    if (engine->routed[pin] != routed ||
        (routed && (old->u.msi.data != data || old->u.msi.address_lo != (uint32_t)address ||
                    old->u.msi.address_hi != address >> 32))) {
        engine->routed[pin] = routed;
        *old = route;
        send_routes_locked(engine);
    }
    pthread_mutex_unlock(&engine->routes_lock);
}

static bool engine_doorbell(struct engine *engine, uint64_t address, int eventfd, bool attach)
{
    struct kvm_ioeventfd doorbell = {
        .addr = address,
        .fd = eventfd,
        .flags = attach ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN,
    };

    return kvm_ioctl(kvm(engine)->vm, KVM_IOEVENTFD, &doorbell) == 0;
}

static const char *vcpu_error(struct vcpu *vcpu)
{
    return vcpu->error;
}

const struct engine_ops kvm_engine_ops = {
    .name = "kvm",
    .features = kvm_features,
    .create = engine_create,
    .destroy = engine_destroy,
    .cpu = engine_cpu,
    .vcpu_create = kvm_vcpu_create,
    .vcpu_destroy = kvm_vcpu_destroy,
    .vcpu_run = kvm_vcpu_run,
    .vcpu_kick = kvm_vcpu_kick,
    .vcpu_error = vcpu_error,
    .vcpu_get_state = kvm_vcpu_get_state,
    .vcpu_set_state = kvm_vcpu_set_state,
    .vcpu_set_debug = kvm_vcpu_set_debug,
    .vcpu_translate = kvm_vcpu_translate,
    .msi = engine_msi,
    .set_extint = engine_set_extint,
    .ioapic_route = engine_ioapic_route,
    .nmi = kvm_vcpu_nmi,
    .doorbell = engine_doorbell,
    .exits = kvm_vcpu_exits,
};
