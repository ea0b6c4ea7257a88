// SPDX-License-Identifier: Apache-2.0
/*
 * The PC's board, machine version 1: what is soldered where. Every number is layout.h's.
 *
 *     vCPUs -- exit_ops --+-- port bus --- chipset and ISA devices
 *       |                 +-- MMIO bus --- IOAPIC, HPET, PCI windows
 *     local APICs <-- messages -- IOAPIC <-- GSI 0..23 --> PIC (0..15 only) --> LINT0 of vCPU 0
 *
 * GSI 0..15 are the ISA interrupts and reach both controllers, the timer's at IOAPIC pin 2. The
 * interval timer and the RTC reach theirs through the HPET, which can take their place. PCI's INTx
 * end at GSI 16..23, and by way of the LPC bridge at ISA interrupts.
 */
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/device/legacy/acpi_pm.h"
#include "vmm/device/legacy/debug_console.h"
#include "vmm/device/legacy/debug_exit.h"
#include "vmm/device/legacy/fw_cfg.h"
#include "vmm/device/legacy/hpet.h"
#include "vmm/device/legacy/i8042.h"
#include "vmm/device/legacy/ioapic.h"
#include "vmm/device/legacy/pc_testdev.h"
#include "vmm/device/legacy/pic.h"
#include "vmm/device/legacy/pit.h"
#include "vmm/device/legacy/pvpanic.h"
#include "vmm/device/legacy/rtc.h"
#include "vmm/device/legacy/uart16550.h"
#include "vmm/device/pci/host_bridge.h"
#include "vmm/device/pci/lpc.h"
#include "vmm/device/virtio/virtio_console.h"
#include "vmm/device/virtio/virtio_rng.h"
#include "vmm/machine/boot/boot.h"
#include "vmm/machine/internal.h"
#include "vmm/machine/pc/acpi.h"
#include "vmm/machine/pc/layout.h"
#include "vmm/util/fault.h"

_Static_assert(MACHINE_PORTS_MAX < VIRTIO_CONSOLE_PORTS, "port 0 is the console's");

#define ISA_INTERRUPTS 16
/* Comparators of the HPET may raise the lines of PCI, where sharing is usual. */
#define HPET_ROUTES 0x00FF0000U

/* "This call does not exist", of KVM's numbering (KVM_ENOSYS). */
#define HYPERCALL_UNKNOWN ((uint64_t)-1000)

struct pc {
    struct machine *machine;
    struct device *pic, *ioapic, *acpi_pm;
    struct {
        struct irq_line pic, ioapic;
    } isa[ISA_INTERRUPTS];
};

/* ---- calls out of the CPU ---- */

static uint64_t mmio_read(void *opaque, uint64_t address, unsigned size)
{
    struct pc *pc = opaque;
    return bus_read(pc->machine->env.mmio, address, size);
}

static void mmio_write(void *opaque, uint64_t address, unsigned size, uint64_t value)
{
    struct pc *pc = opaque;
    bus_write(pc->machine->env.mmio, address, size, value);
}

static uint32_t pio_read(void *opaque, uint16_t port, unsigned size)
{
    struct pc *pc = opaque;
    return (uint32_t)bus_read(pc->machine->env.pio, port, size);
}

static void pio_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    struct pc *pc = opaque;
    bus_write(pc->machine->env.pio, port, size, value);
}

static uint8_t extint_acknowledge(void *opaque)
{
    struct pc *pc = opaque;
    return pic_acknowledge(pc->pic);
}

static void eoi_broadcast(void *opaque, uint8_t vector)
{
    struct pc *pc = opaque;
    ioapic_eoi(pc->ioapic, vector);
}

/* The CPU models show no feature that has a call. */
static uint64_t hypercall(void *opaque, unsigned vcpu, uint64_t number, const uint64_t args[4])
{
    return HYPERCALL_UNKNOWN;
}

const struct exit_ops pc_exit_ops = {
    .mmio_read = mmio_read,
    .mmio_write = mmio_write,
    .pio_read = pio_read,
    .pio_write = pio_write,
    .extint_acknowledge = extint_acknowledge,
    .eoi_broadcast = eoi_broadcast,
    .hypercall = hypercall,
};

/* ---- memory ---- */

/* Bytes of RAM below 4 GiB, holes included. */
static uint64_t low_ram(const struct machine *machine)
{
    return MIN(machine->config.memory_size, PC_LOW_RAM_END);
}

static bool ram_add(struct machine *machine, const char *name, int fd, uint64_t base, uint64_t end,
                    uint64_t offset, GError **error)
{
    return base >= end ||
           memory_add(machine->memory, name, MEMORY_RAM, base, end - base, fd, offset, error);
}

/* RAM's file: that of the machine which this one goes on from, or a new one. */
static int ram_file(struct machine *machine, GError **error)
{
    uint64_t size = machine->config.memory_size;
    struct stat status;

    if (!machine->config.takes_over)
        return memory_memfd("guest-ram", size, error);
    if (fstat(machine->config.ram_fd, &status) == 0 && (uint64_t)status.st_size == size)
        return fcntl(machine->config.ram_fd, F_DUPFD_CLOEXEC, 3);
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                "memory: the RAM that was handed over is not of this machine's size");
    return -1;
}

bool pc_init(struct machine *machine, GError **error)
{
    uint64_t size = machine->config.memory_size, low = low_ram(machine);
    uint64_t hole_end = PC_VGA_HOLE_BASE + PC_VGA_HOLE_SIZE;

    machine->pc = g_new0(struct pc, 1);
    machine->pc->machine = machine;
    if (size > PC_MMIO64_BASE - PC_HIGH_RAM_BASE) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "memory: a machine of this version has at most 508 GiB");
        return false;
    }
    int fd = ram_file(machine, error);
    if (fd < 0)
        return false;
    bool done = ram_add(machine, "ram-conventional", fd, 0, MIN(low, PC_VGA_HOLE_BASE), 0, error) &&
                ram_add(machine, "ram-low", fd, hole_end, low, hole_end, error) &&
                ram_add(machine, "ram-high", fd, PC_HIGH_RAM_BASE, PC_HIGH_RAM_BASE + size - low,
                        low, error);
    close(fd);
    return done;
}

void pc_finish(struct machine *machine)
{
    g_free(machine->pc);
    machine->pc = NULL;
}

/* ---- interrupts ---- */

static void isa_set(void *opaque, unsigned pin, bool level)
{
    struct pc *pc = opaque;
    irq_set(&pc->isa[pin].pic, level);
    irq_set(&pc->isa[pin].ioapic, level);
}

static void pic_output(void *opaque, unsigned pin, bool level)
{
    struct machine *machine = opaque;
    machine->config.engine->set_extint(machine->engine, level);
}

static void ioapic_route(void *opaque, unsigned pin, uint64_t address, uint32_t data, bool masked,
                         bool level)
{
    struct machine *machine = opaque;
    const struct engine_ops *ops = machine->config.engine;
    if (ops->ioapic_route)
        ops->ioapic_route(machine->engine, pin, address, data, masked, level);
}

/* Wire every global system interrupt to the controllers' inputs. */
static void gsi_connect(struct machine *machine)
{
    struct pc *pc = machine->pc;

    for (unsigned i = 0; i < ISA_INTERRUPTS; i++) {
        pc->isa[i].pic = pic_input(pc->pic, i);
        pc->isa[i].ioapic = ioapic_input(pc->ioapic, i == PC_GSI_PIT ? PC_IOAPIC_PIT_PIN : i);
        machine->env.gsi[i] = (struct irq_line){isa_set, pc, i};
    }
    for (unsigned i = ISA_INTERRUPTS; i < PC_IOAPIC_PINS; i++)
        machine->env.gsi[i] = ioapic_input(pc->ioapic, i);
}

/* ---- devices ---- */

bool pc_add(struct machine *machine, const struct device_ops *ops, const char *id,
            const void *config, struct device **device, GError **error)
{
    struct device *made = device_create(ops, id, &machine->env, config, error);

    if (!made)
        return false;
    g_ptr_array_add(machine->devices, made);
    if (device)
        *device = made;
    return true;
}

static bool add_controllers(struct machine *machine, GError **error)
{
    struct pc *pc = machine->pc;
    struct pic_config pic = {.output = {pic_output, machine, 0}};
    struct ioapic_config ioapic = {
        .base = PC_IOAPIC_BASE, .route = ioapic_route, .opaque = machine};

    if (!pc_add(machine, &pic_device, "pic", &pic, &pc->pic, error) ||
        !pc_add(machine, &ioapic_device, "ioapic", &ioapic, &pc->ioapic, error))
        return false;
    gsi_connect(machine);
    return true;
}

static bool add_timers(struct machine *machine, GError **error)
{
    uint64_t size = machine->config.memory_size, low = low_ram(machine);
    struct device *hpet;
    struct hpet_config hpet_config = {
        .base = PC_HPET_BASE,
        .irq0 = machine->env.gsi[PC_GSI_PIT],
        .irq8 = machine->env.gsi[PC_GSI_RTC],
        .routes = HPET_ROUTES,
    };
    if (!pc_add(machine, &hpet_device, "hpet", &hpet_config, &hpet, error))
        return false;

    struct pit_config pit = {.irq = hpet_legacy_input(hpet, 0)};
    struct rtc_config rtc = {
        .irq = hpet_legacy_input(hpet, 1),
        .ram_low = low,
        .ram_high = size - low,
        .cpus = machine->config.cpus,
    };
    return pc_add(machine, &pit_device, "pit", &pit, NULL, error) &&
           pc_add(machine, &rtc_device, "rtc", &rtc, NULL, error);
}

static bool add_serials(struct machine *machine, GError **error)
{
    struct uart16550_config serial[MACHINE_SERIALS] = {
        {.port = PC_PORT_SERIAL0, .irq = machine->env.gsi[PC_GSI_SERIAL0]},
        {.port = PC_PORT_SERIAL1, .irq = machine->env.gsi[PC_GSI_SERIAL1]},
    };
    static const char *const ids[MACHINE_SERIALS] = {"serial0", "serial1"};

    for (unsigned i = 0; i < MACHINE_SERIALS; i++) {
        serial[i].chardev = machine->config.serial[i];
        if (!pc_add(machine, &uart16550_device, ids[i], &serial[i], NULL, error))
            return false;
    }
    return true;
}

static bool add_pci(struct machine *machine, GError **error)
{
    struct host_bridge_config bridge;
    struct lpc_config lpc;

    host_bridge_device.defaults(&machine->env, &bridge);
    lpc_device.defaults(&machine->env, &lpc);
    return pc_add(machine, &host_bridge_device, "host-bridge", &bridge, NULL, error) &&
           pc_add(machine, &lpc_device, "lpc", &lpc, NULL, error) && slots_create(machine, error);
}

static void add_number(struct device *fw_cfg, enum fw_cfg_key key, uint64_t value, unsigned size)
{
    uint64_t le = GUINT64_TO_LE(value);
    g_autoptr(GBytes) bytes = g_bytes_new(&le, size);
    fw_cfg_add(fw_cfg, key, bytes);
}

/* What firmware asks for first. A direct boot has no need of it, but a guest may look. */
static bool add_fw_cfg(struct machine *machine, GError **error)
{
    struct fw_cfg_config config = {.port = PC_PORT_FW_CFG};
    struct device *fw_cfg;

    if (!pc_add(machine, &fw_cfg_device, "fw-cfg", &config, &fw_cfg, error))
        return false;
    add_number(fw_cfg, FW_CFG_RAM_SIZE, machine->config.memory_size, 8);
    add_number(fw_cfg, FW_CFG_CPUS, machine->config.cpus, 2);
    add_number(fw_cfg, FW_CFG_MAX_CPUS, machine->config.cpus, 2);
    return true;
}

/* What test kernels and panicking guests talk to, where it was asked for. */
static bool add_extras(struct machine *machine, GError **error)
{
    const struct machine_config *config = &machine->config;
    struct debug_exit_config debug_exit = {.port = PC_PORT_DEBUG_EXIT};
    struct debug_console_config console = {.port = PC_PORT_DEBUG_CONSOLE,
                                           .chardev = config->debug_console};
    struct pvpanic_config pvpanic = {.port = PC_PORT_PVPANIC};
    struct pc_testdev_config testdev;

    memcpy(testdev.lines, machine->env.gsi, sizeof(testdev.lines));
    return (!config->debug_exit ||
            pc_add(machine, &debug_exit_device, "isa-debug-exit", &debug_exit, NULL, error)) &&
           (!config->debug_console ||
            pc_add(machine, &debug_console_device, "debug-console", &console, NULL, error)) &&
           (!config->pvpanic ||
            pc_add(machine, &pvpanic_device, "pvpanic", &pvpanic, NULL, error)) &&
           (!config->testdev ||
            pc_add(machine, &pc_testdev_device, "pc-testdev", &testdev, NULL, error));
}

/* One device has the console, as port 0, and all named ports. */
static bool add_console(struct machine *machine, GError **error)
{
    const struct machine_config *config = &machine->config;
    struct virtio_console_setup setup = {
        .address = {NULL, config->console_device, 0},
        .ports[0] = {config->console != NULL, NULL, config->console},
    };

    if (!config->console && !config->port_count)
        return true;
    for (unsigned i = 0; i < config->port_count; i++)
        setup.ports[i + 1] =
            (struct virtio_console_port){true, config->ports[i].name, config->ports[i].chardev};
    return pc_add(machine, &virtio_console_device, "virtio-console", &setup, NULL, error);
}

static bool add_rng(struct machine *machine, GError **error)
{
    struct virtio_rng_config rng = {
        .address = {NULL, machine->config.rng_device, 0},
        .bytes_per_second = machine->config.rng_rate,
    };

    return !machine->config.virtio_rng ||
           pc_add(machine, &virtio_rng_device, "virtio-rng", &rng, NULL, error);
}

/* PCI devices that the user chose. */
static bool add_user_devices(struct machine *machine, GError **error)
{
    return slots_fill(machine, error) && add_console(machine, error) && add_rng(machine, error);
}

bool pc_devices_create(struct machine *machine, GError **error)
{
    struct pc *pc = machine->pc;

    if (!add_controllers(machine, error) || !add_timers(machine, error))
        return false;
    struct acpi_pm_config acpi_pm = {.sci = machine->env.gsi[PC_GSI_SCI]};
    /* The A20 gate leads nowhere: no CPU of this age masks address bit 20. */
    struct i8042_config i8042 = {
        .keyboard_irq = machine->env.gsi[PC_GSI_KEYBOARD],
        .mouse_irq = machine->env.gsi[PC_GSI_MOUSE],
    };
    return pc_add(machine, &acpi_pm_device, "acpi-pm", &acpi_pm, &pc->acpi_pm, error) &&
           pc_add(machine, &i8042_device, "i8042", &i8042, NULL, error) &&
           add_serials(machine, error) && add_fw_cfg(machine, error) && add_pci(machine, error) &&
           add_extras(machine, error) && add_user_devices(machine, error);
}

void pc_press_power_button(struct machine *machine)
{
    acpi_pm_power_button(machine->pc->acpi_pm);
}

/* ---- what firmware does ---- */

/* Number the buses behind the root ports, in order. Windows are the operating system's to open. */
static void number_buses(struct machine *machine)
{
    for (unsigned i = 0; i < PC_ROOT_PORTS; i++) {
        uint8_t devfn = PCI_DEVFN(PC_PCI_ROOT_PORTS + i / 4, i % 4);
        pci_config_write(machine->env.pci, 0, devfn, PCI_SECONDARY_BUS, 1, i + 1);
        pci_config_write(machine->env.pci, 0, devfn, PCI_SUBORDINATE_BUS, 1, i + 1);
    }
}

static struct boot_file boot_file(const struct machine_image *image)
{
    return (struct boot_file){.fd = image->fd, .name = image->name, .arguments = image->arguments};
}

static bool load_kernel(struct machine *machine, struct cpu_state *state, GError **error)
{
    const struct machine_config *config = &machine->config;
    g_autofree struct boot_file *modules = g_new0(struct boot_file, MACHINE_MODULES_MAX + 1);
    struct boot_image image = {
        .memory = machine->memory,
        .kernel = boot_file(&config->kernel),
        .modules = modules,
        .cmdline = config->kernel.arguments,
        .acpi_rsdp = PC_ACPI_RSDP,
    };

    if (config->initrd.fd >= 0)
        modules[image.module_count++] = boot_file(&config->initrd);
    for (unsigned i = 0; i < config->module_count; i++)
        modules[image.module_count++] = boot_file(&config->modules[i]);
    return boot_load(&image, state, error);
}

/* Firmware gives every processor the memory types of the first one. */
static bool spread_memory_types(struct machine *machine, const struct cpu_state *first,
                                GError **error)
{
    const struct engine_ops *ops = machine->config.engine;
    g_autofree struct cpu_state *state = g_new0(struct cpu_state, 1);

    for (unsigned i = 1; i < machine->config.cpus; i++) {
        ops->vcpu_get_state(machine->cpus[i].vcpu, state);
        state->msrs.mtrr_def_type = first->msrs.mtrr_def_type;
        if (!ops->vcpu_set_state(machine->cpus[i].vcpu, state, error))
            return false;
    }
    return true;
}

bool pc_boot(struct machine *machine, GError **error)
{
    const struct engine_ops *ops = machine->config.engine;
    struct acpi_config acpi = {.cpus = machine->config.cpus, .pvpanic = machine->config.pvpanic};
    g_autofree struct cpu_state *state = g_new0(struct cpu_state, 1);

    number_buses(machine);
    if (!acpi_install(&acpi, machine->memory, error))
        return false;
    ops->vcpu_get_state(machine->cpus[0].vcpu, state);
    return load_kernel(machine, state, error) &&
           ops->vcpu_set_state(machine->cpus[0].vcpu, state, error) &&
           spread_memory_types(machine, state, error);
}
