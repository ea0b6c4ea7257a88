// SPDX-License-Identifier: Apache-2.0
/*
 * The life of a machine: put together, run, paused, reset, ended.
 *
 * Order of making: memory, clock, buses, engine, vCPUs, devices, then what firmware would do. It is
 * undone from the end. Time passes only while vCPUs run; it is stopped after they are parked and
 * goes on before they do.
 */
#include "vmm/device/pci/pci.h"
#include "vmm/machine/internal.h"
#include "vmm/util/fault.h"

/* Beyond any address that a CPU can form. */
#define MMIO_LIMIT ((1ULL << 52) - 1)

/* ---- configuration ---- */

static bool config_check(const struct machine_config *config, GError **error)
{
    const char *wrong = NULL;

    if (config->cpus < 1 || config->cpus > MACHINE_CPUS_MAX)
        wrong = "cpus: a machine has 1 to 255";
    else if (!config->memory_size || config->memory_size % GUEST_PAGE_SIZE)
        wrong = "memory: expected whole pages of 4096 bytes";
    else if (config->module_count > MACHINE_MODULES_MAX)
        wrong = "module: a machine takes at most 64";
    else if (config->port_count > MACHINE_PORTS_MAX)
        wrong = "port: a machine takes at most 30";
    else if (config->kernel.fd < 0 && !config->incoming)
        wrong = "kernel: nothing to boot; name a kernel";
    if (wrong)
        g_set_error_literal(error, VMM_ERROR, VMM_ERROR_INVALID, wrong);
    return !wrong;
}

static void image_copy(struct machine_image *image)
{
    image->name = g_strdup(image->name);
    image->arguments = g_strdup(image->arguments);
}

static void image_clear(struct machine_image *image)
{
    g_free((char *)image->name);
    g_free((char *)image->arguments);
}

static void config_copy(struct machine_config *config)
{
    config->name = g_strdup(config->name);
    config->cpu_model = g_strdup(config->cpu_model);
    config->cpu = g_memdup2(config->cpu, sizeof(*config->cpu));
    image_copy(&config->kernel);
    image_copy(&config->initrd);
    for (unsigned i = 0; i < config->module_count; i++)
        image_copy(&config->modules[i]);
    for (unsigned i = 0; i < config->port_count; i++)
        config->ports[i].name = g_strdup(config->ports[i].name);
    for (unsigned i = 0; i < config->disk_count; i++) {
        config->disks[i].id = g_strdup(config->disks[i].id);
        config->disks[i].serial = g_strdup(config->disks[i].serial);
    }
    for (unsigned i = 0; i < config->nic_count; i++)
        config->nics[i].id = g_strdup(config->nics[i].id);
}

static void config_clear(struct machine_config *config)
{
    g_free((char *)config->name);
    g_free((char *)config->cpu_model);
    g_free((struct cpu_definition *)config->cpu);
    image_clear(&config->kernel);
    image_clear(&config->initrd);
    for (unsigned i = 0; i < config->module_count; i++)
        image_clear(&config->modules[i]);
    for (unsigned i = 0; i < config->port_count; i++)
        g_free((char *)config->ports[i].name);
    for (unsigned i = 0; i < config->disk_count; i++) {
        g_free((char *)config->disks[i].id);
        g_free((char *)config->disks[i].serial);
    }
    for (unsigned i = 0; i < config->nic_count; i++)
        g_free((char *)config->nics[i].id);
}

/* ---- making ---- */

static void send_msi(void *opaque, uint64_t address, uint32_t data)
{
    struct machine *machine = opaque;
    machine->config.engine->msi(machine->engine, address, data);
}

static void env_init(struct machine *machine)
{
    machine->env.clock = machine->clock;
    machine->env.memory = machine->memory;
    machine->env.pio = bus_create("pio", UINT16_MAX);
    machine->env.mmio = bus_create("mmio", MMIO_LIMIT);
    machine->env.pci = pci_root_create();
    machine->env.msi = send_msi;
    machine->env.msi_opaque = machine;
    machine->env.loop = machine->config.loop;
    machine->env.requests = machine_device_requests(machine);
}

static bool doorbell_attach(void *opaque, uint64_t address, int eventfd)
{
    struct machine *machine = opaque;
    return machine->config.engine->doorbell(machine->engine, address, eventfd, true);
}

static void doorbell_detach(void *opaque, uint64_t address, int eventfd)
{
    struct machine *machine = opaque;
    machine->config.engine->doorbell(machine->engine, address, eventfd, false);
}

static bool engine_init(struct machine *machine, GError **error)
{
    struct engine_config config = {
        .memory = machine->memory,
        .clock = machine->clock,
        .exits = &pc_exit_ops,
        .opaque = machine->pc,
        .cpus = machine->config.cpus,
        .cpu_model = machine->config.cpu_model,
        .cpu = machine->config.cpu,
        .kvm_fd = machine->config.kvm_fd,
        .debug = machine->config.debug,
    };
    const struct bus_shortcuts shortcuts = {doorbell_attach, doorbell_detach, machine};

    machine->engine = machine->config.engine->create(&config, error);
    if (machine->engine && machine->config.engine->doorbell)
        bus_set_shortcuts(machine->env.mmio, &shortcuts);
    return machine->engine != NULL;
}

static bool machine_init(struct machine *machine, GError **error)
{
    machine->memory = memory_create();
    machine->clock = clock_create(error);
    if (!machine->clock)
        return false;
    env_init(machine);
    return pc_init(machine, error) && engine_init(machine, error) &&
           machine_cpus_create(machine, error) && pc_devices_create(machine, error) &&
           (machine->config.incoming || pc_boot(machine, error));
}

struct machine *machine_create(const struct machine_config *config, GError **error)
{
    if (!config_check(config, error))
        return NULL;
    struct machine *machine = g_new0(struct machine, 1);

    machine->config = *config;
    config_copy(&machine->config);
    machine->context = g_main_context_ref_thread_default();
    machine->devices = g_ptr_array_new();
    g_mutex_init(&machine->lock);
    g_cond_init(&machine->go);
    g_cond_init(&machine->parking);
    if (machine_init(machine, error))
        return machine;
    machine->state = MACHINE_ENDED;
    machine_destroy(machine);
    return NULL;
}

void machine_destroy(struct machine *machine)
{
    if (!machine)
        return;
    machine_stop(machine);
    machine_requests_drop(machine);
    while (machine->devices->len)
        device_destroy(g_ptr_array_steal_index(machine->devices, machine->devices->len - 1));
    slots_finish(machine);
    machine_cpus_destroy(machine);
    if (machine->engine)
        machine->config.engine->destroy(machine->engine);
    pc_finish(machine);
    pci_bus_destroy(machine->env.pci);
    bus_destroy(machine->env.pio);
    bus_destroy(machine->env.mmio);
    clock_destroy(machine->clock);
    memory_destroy(machine->memory);
    g_ptr_array_unref(machine->devices);
    g_main_context_unref(machine->context);
    g_mutex_clear(&machine->lock);
    g_cond_clear(&machine->go);
    g_cond_clear(&machine->parking);
    config_clear(&machine->config);
    g_free(machine);
}

/* ---- running ---- */

static void change(struct machine *machine, enum machine_state state, const char *reason)
{
    const struct machine_listener *listener = &machine->config.listener;

    if (machine->state == state)
        return;
    machine->state = state;
    if (state != MACHINE_ENDED && listener->changed)
        listener->changed(listener->opaque, state, reason);
}

/* With vCPUs parked: nothing of the machine moves any more. */
static void quiesce(struct machine *machine)
{
    clock_pause(machine->clock);
    if (machine->awake)
        for (guint i = 0; i < machine->devices->len; i++)
            device_pause(machine->devices->pdata[i]);
    machine->awake = false;
}

static void awaken(struct machine *machine)
{
    clock_resume(machine->clock);
    for (guint i = 0; i < machine->devices->len; i++)
        device_resume(machine->devices->pdata[i]);
    machine->awake = true;
}

bool machine_resume(struct machine *machine)
{
    if (machine->state == MACHINE_CRASHED || machine->state == MACHINE_ENDED || machine->savers)
        return false;
    if (machine->state == MACHINE_RUNNING)
        return true;
    awaken(machine);
    machine_cpus_run(machine);
    change(machine, MACHINE_RUNNING, NULL);
    return true;
}

void machine_pause(struct machine *machine)
{
    if (machine->state != MACHINE_RUNNING)
        return;
    machine_cpus_park(machine);
    quiesce(machine);
    change(machine, MACHINE_PAUSED, NULL);
}

void machine_debug(struct machine *machine, unsigned cpu)
{
    quiesce(machine);
    change(machine, MACHINE_PAUSED, "stopped by the debugger");
    if (machine->debugger)
        machine->debugger(machine->debugger_opaque, cpu);
}

void machine_crash(struct machine *machine, const char *reason)
{
    quiesce(machine);
    change(machine, MACHINE_CRASHED, reason);
}

void machine_end(struct machine *machine, enum machine_end end, int status, const char *reason)
{
    const struct machine_listener *listener = &machine->config.listener;

    quiesce(machine);
    change(machine, MACHINE_ENDED, reason);
    if (listener->ended)
        listener->ended(listener->opaque, end, status, reason);
}

void machine_stop(struct machine *machine)
{
    if (machine->state == MACHINE_ENDED)
        return;
    if (machine->state == MACHINE_RUNNING)
        machine_cpus_park(machine);
    machine_end(machine, MACHINE_END_STOPPED, 0, NULL);
}

/* ---- reset ---- */

/* Everything to power-on, then what firmware does. vCPUs are parked. */
static bool restart(struct machine *machine, GError **error)
{
    for (guint i = 0; i < machine->devices->len; i++)
        device_reset(machine->devices->pdata[i]);
    slots_reset(machine);
    return machine_cpus_reset(machine, error) && pc_boot(machine, error);
}

void machine_restart(struct machine *machine, const char *reason)
{
    const struct machine_listener *listener = &machine->config.listener;
    g_autoptr(GError) error = NULL;

    if (!restart(machine, &error))
        machine_end(machine, MACHINE_END_FAILED, 0, error->message);
    else if (listener->restarted)
        listener->restarted(listener->opaque, reason);
}

bool machine_reset(struct machine *machine, const char *reason, GError **error)
{
    const struct machine_listener *listener = &machine->config.listener;
    bool running = machine->state == MACHINE_RUNNING;

    if (machine->state == MACHINE_ENDED) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_CLOSED, "the machine has ended; start it again");
        return false;
    }
    if (machine->savers) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_BUSY, "the machine's state is being saved");
        return false;
    }
    machine_cpus_park(machine);
    machine_requests_drop(machine);
    if (!restart(machine, error)) {
        machine_crash(machine, "the reset failed");
        return false;
    }
    if (machine->state == MACHINE_CRASHED)
        change(machine, MACHINE_PAUSED, reason);
    if (listener->restarted)
        listener->restarted(listener->opaque, reason);
    if (running)
        machine_cpus_run(machine);
    return true;
}

/* ---- questions ---- */

void machine_press_power_button(struct machine *machine)
{
    pc_press_power_button(machine);
}

void machine_query(struct machine *machine, struct machine_status *status)
{
    const struct machine_config *config = &machine->config;

    *status = (struct machine_status){
        .state = machine->state,
        .engine = config->engine->name,
        .cpu_model = config->engine->cpu(machine->engine)->name,
        .cpus = config->cpus,
        .memory_size = config->memory_size,
        .clock_ns = clock_now(machine->clock),
        .exits_counted = config->engine->exits != NULL,
    };
    for (unsigned i = 0; status->exits_counted && i < config->cpus; i++)
        config->engine->exits(machine->cpus[i].vcpu, status->exits);
    for (guint i = 0; i < machine->devices->len; i++) {
        struct device *device = machine->devices->pdata[i];
        status->guest_errors += __atomic_load_n(&device->guest_errors, __ATOMIC_RELAXED);
    }
}

struct memory *machine_memory(struct machine *machine)
{
    return machine->memory;
}

struct clock *machine_clock(struct machine *machine)
{
    return machine->clock;
}

const struct engine_ops *machine_engine(struct machine *machine)
{
    return machine->config.engine;
}

unsigned machine_cpus(struct machine *machine)
{
    return machine->config.cpus;
}

struct vcpu *machine_vcpu(struct machine *machine, unsigned index)
{
    return index < machine->config.cpus ? machine->cpus[index].vcpu : NULL;
}

void machine_set_policies(struct machine *machine, enum machine_on_reboot on_reboot,
                          enum machine_on_crash on_crash)
{
    machine->config.on_reboot = on_reboot;
    machine->config.on_crash = on_crash;
}

struct device *machine_device(struct machine *machine, const char *id)
{
    for (guint i = 0; i < machine->devices->len; i++) {
        struct device *device = machine->devices->pdata[i];
        if (!g_strcmp0(device->id, id))
            return device;
    }
    return NULL;
}

void machine_set_debugger(struct machine *machine, void (*stopped)(void *opaque, unsigned cpu),
                          void *opaque)
{
    machine->debugger = stopped;
    machine->debugger_opaque = opaque;
}
