// SPDX-License-Identifier: Apache-2.0
/*
 * A machine as a stream (state/stream.h): section "cpu-model", which a machine must know before it
 * is made; "clock", by which devices arm their timers when they are loaded; one section "vcpu/N"
 * per vCPU, one "device/ID" per device with state, "memory", then RAM. A machine that is handed
 * over to another process says in "memory" that its RAM is shared, and has no more of it; it has
 * sections of others behind the clock.
 *
 * A machine is loaded over one that was made from the stream's definition and has not run. Every
 * section that its board has must be there, and no other may.
 */
#include "vmm/machine/machine_stream.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/machine/internal.h"
#include "vmm/memory/ram_stream.h"
#include "vmm/util/fault.h"

#define CPU_MODEL_SECTION "cpu-model"
#define CLOCK_SECTION     "clock"
#define MEMORY_SECTION    "memory"
#define CPU_PREFIX        "vcpu/"
#define DEVICE_PREFIX     "device/"

struct clock_state {
    uint64_t now_ns;
};
static const struct state_field clock_fields[] = {
    STATE_RANGE(struct clock_state, now_ns, 0, INT64_MAX / 2),
};
static const struct state_table clock_table =
    STATE_TABLE("clock", 1, struct clock_state, clock_fields);

struct memory_state {
    uint64_t size; /* of RAM, bytes */
    bool shared;   /* it goes by its descriptor */
};
static const struct state_field memory_fields[] = {
    STATE_U(struct memory_state, size),
    STATE_B(struct memory_state, shared),
};
static const struct state_table memory_table =
    STATE_TABLE("memory", 1, struct memory_state, memory_fields);

/* ---- saving ---- */

static bool write_state(struct stream_writer *writer, const char *name,
                        const struct state_table *table, GBytes *bytes, GError **error)
{
    gsize size;
    const void *data = g_bytes_get_data(bytes, &size);
    return stream_write(writer, name, table->version, STREAM_STATE, data, size, error);
}

static GBytes *cpu_model_bytes(struct machine *machine)
{
    return state_save(&cpu_definition_table, machine->config.engine->cpu(machine->engine));
}

static bool save_cpu_model(struct machine *machine, struct stream_writer *writer, GError **error)
{
    g_autoptr(GBytes) bytes = cpu_model_bytes(machine);
    return write_state(writer, CPU_MODEL_SECTION, &cpu_definition_table, bytes, error);
}

static bool save_clock(struct machine *machine, struct stream_writer *writer, GError **error)
{
    struct clock_state state = {.now_ns = (uint64_t)clock_now(machine->clock)};
    g_autoptr(GBytes) bytes = state_save(&clock_table, &state);
    return write_state(writer, CLOCK_SECTION, &clock_table, bytes, error);
}

static bool save_cpus(struct machine *machine, struct stream_writer *writer, GError **error)
{
    g_autofree struct cpu_state *state = g_new0(struct cpu_state, 1);

    for (unsigned i = 0; i < machine->config.cpus; i++) {
        g_autofree char *name = g_strdup_printf(CPU_PREFIX "%u", i);
        machine->config.engine->vcpu_get_state(machine->cpus[i].vcpu, state);
        g_autoptr(GBytes) bytes = state_save(&cpu_state_table, state);
        if (!write_state(writer, name, &cpu_state_table, bytes, error))
            return false;
    }
    return true;
}

static bool save_devices(struct machine *machine, struct stream_writer *writer, GError **error)
{
    for (guint i = 0; i < machine->devices->len; i++) {
        struct device *device = machine->devices->pdata[i];
        g_autoptr(GBytes) bytes = device_save(device);
        g_autofree char *name = g_strconcat(DEVICE_PREFIX, device->id, NULL);
        if (bytes && !write_state(writer, name, device->ops->state, bytes, error))
            return false;
    }
    return true;
}

static bool save_memory(struct machine *machine, bool shared, struct stream_writer *writer,
                        GError **error)
{
    struct memory_state state = {.size = machine->config.memory_size, .shared = shared};
    g_autoptr(GBytes) bytes = state_save(&memory_table, &state);
    return write_state(writer, MEMORY_SECTION, &memory_table, bytes, error) &&
           (shared || ram_stream_write(machine->memory, writer, error));
}

static bool may_save(struct machine *machine, GError **error)
{
    const char *wrong = NULL;

    if (machine->state == MACHINE_RUNNING || machine->state == MACHINE_ENDED)
        wrong = "pause the machine before saving it";
    else if (machine_requests_wait(machine))
        wrong = "the guest has just asked for a reset or its end; try again";
    if (wrong)
        g_set_error(error, VMM_ERROR, VMM_ERROR_BUSY, "%s: %s", machine->config.name, wrong);
    return !wrong;
}

/* Everything between the definition and RAM. */
static bool save_state(struct machine *machine, struct stream_writer *writer,
                       const struct machine_stream_extra *extra, GError **error)
{
    return save_cpu_model(machine, writer, error) && save_clock(machine, writer, error) &&
           (!extra || extra->save(extra->opaque, writer, error)) &&
           save_cpus(machine, writer, error) && save_devices(machine, writer, error);
}

static bool finish_stream(struct stream_writer *writer, bool done, GError **error)
{
    done = done && stream_writer_finish(writer, error);
    stream_writer_destroy(writer);
    return done;
}

/* The stream begins in a memory file, which is copied when the thread comes that writes. */
struct machine_saver {
    struct machine *machine;
    struct stream_writer *writer;
    int begun; /* the memory file */
};

static bool begin_stream(struct machine_saver *saver, const char *definition, GError **error)
{
    saver->begun = memfd_create("state", MFD_CLOEXEC);
    if (saver->begun < 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "stream: no memory file: %s",
                    g_strerror(errno));
        return false;
    }
    saver->writer = stream_writer_create(saver->begun, definition, error);
    return saver->writer && save_state(saver->machine, saver->writer, NULL, error);
}

struct machine_saver *machine_saver_create(struct machine *machine, const char *definition,
                                           GError **error)
{
    struct machine_saver *saver;

    if (!may_save(machine, error))
        return NULL;
    saver = g_new0(struct machine_saver, 1);
    saver->machine = machine;
    machine->savers++;
    if (begin_stream(saver, definition, error))
        return saver;
    machine_saver_destroy(saver);
    return NULL;
}

bool machine_saver_write(struct machine_saver *saver, int fd, struct stream_progress *progress,
                         GError **error)
{
    stream_writer_follow(saver->writer, progress);
    return stream_writer_move(saver->writer, fd, error) &&
           save_memory(saver->machine, false, saver->writer, error) &&
           stream_writer_finish(saver->writer, error);
}

void machine_saver_destroy(struct machine_saver *saver)
{
    if (!saver)
        return;
    saver->machine->savers--;
    stream_writer_destroy(saver->writer);
    if (saver->begun >= 0)
        close(saver->begun);
    g_free(saver);
}

bool machine_save(struct machine *machine, int fd, const char *definition, GError **error)
{
    struct machine_saver *saver = machine_saver_create(machine, definition, error);
    bool good = saver && machine_saver_write(saver, fd, NULL, error);

    machine_saver_destroy(saver);
    return good;
}

bool machine_save_handover(struct machine *machine, int fd, const char *definition,
                           const struct machine_stream_extra *extra, GError **error)
{
    struct stream_writer *writer;

    if (!may_save(machine, error))
        return false;
    writer = stream_writer_create(fd, definition, error);
    return writer && finish_stream(writer,
                                   save_state(machine, writer, extra, error) &&
                                       save_memory(machine, true, writer, error),
                                   error);
}

bool machine_save_head(struct machine *machine, int fd, const char *definition, GError **error)
{
    struct stream_writer *writer = stream_writer_create(fd, definition, error);

    return writer && finish_stream(writer, save_cpu_model(machine, writer, error), error);
}

/* ---- loading ---- */

struct loader {
    struct machine *machine;
    const struct machine_stream_extra *extra;
    bool clock, memory;
    unsigned cpus, devices;
};

static bool load_clock(struct loader *loader, const struct stream_section *section, GError **error)
{
    struct clock_state state = {0};

    if (!state_load(&clock_table, &state, section->content, error))
        return false;
    clock_set(loader->machine->clock, (int64_t)state.now_ns);
    loader->clock = true;
    return true;
}

static bool load_cpu(struct loader *loader, const char *number,
                     const struct stream_section *section, GError **error)
{
    struct machine *machine = loader->machine;
    g_autofree struct cpu_state *state = g_new0(struct cpu_state, 1);
    guint64 index;

    if (!g_ascii_string_to_unsigned(number, 10, 0, machine->config.cpus - 1, &index, error))
        return false;
    /* Names are unique, and so are numbers if each has one name only. */
    if (number[0] == '0' && number[1]) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "the stream has a vCPU \"%s\", not %u",
                    number, (unsigned)index);
        return false;
    }
    machine->config.engine->vcpu_get_state(machine->cpus[index].vcpu, state);
    loader->cpus++;
    return state_load(&cpu_state_table, state, section->content, error) &&
           machine->config.engine->vcpu_set_state(machine->cpus[index].vcpu, state, error);
}

static bool load_device(struct loader *loader, const char *id, const struct stream_section *section,
                        GError **error)
{
    struct device *device = machine_device(loader->machine, id);

    if (!device) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "the stream has a device %s, which this machine lacks", id);
        return false;
    }
    loader->devices++;
    return device_load(device, section->content, error);
}

static bool load_ram(struct loader *loader, const struct stream_section *section, GError **error)
{
    if (loader->memory && !loader->machine->config.takes_over)
        return ram_stream_load(loader->machine->memory, section, error);
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "the stream has RAM where none is expected");
    return false;
}

static bool load_memory(struct loader *loader, const struct stream_section *section, GError **error)
{
    const struct machine_config *config = &loader->machine->config;
    struct memory_state state = {0};

    if (!state_load(&memory_table, &state, section->content, error))
        return false;
    if (state.shared != config->takes_over)
        g_set_error_literal(error, VMM_ERROR, VMM_ERROR_INVALID,
                            state.shared ? "the stream has no RAM: another process held it when it "
                                           "was written"
                                         : "the stream has RAM of its own");
    else if (state.size != config->memory_size)
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "memory: the state has %" G_GUINT64_FORMAT
                    " MiB, the machine %" G_GUINT64_FORMAT,
                    state.size >> 20, config->memory_size >> 20);
    else
        loader->memory = true;
    return loader->memory;
}

/* Of a machine that was made on other processors than the stream's. */
static bool check_cpu_model(const struct loader *loader, const struct stream_section *section,
                            GError **error)
{
    g_autoptr(GBytes) mine = cpu_model_bytes(loader->machine);

    if (g_bytes_equal(mine, section->content))
        return true;
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                "the stream is of other processors than the machine was made with");
    return false;
}

static enum stream_verdict receive_extra(const struct loader *loader,
                                         const struct stream_section *section, GError **error)
{
    const struct machine_stream_extra *extra = loader->extra;

    return extra ? extra->load(extra->opaque, section, error) : STREAM_UNKNOWN;
}

static enum stream_verdict receive(void *opaque, const struct stream_section *section,
                                   GError **error)
{
    struct loader *loader = opaque;
    const char *name = section->name;
    bool done;

    if (!strcmp(name, CLOCK_SECTION)) {
        done = load_clock(loader, section, error);
    } else if (!strcmp(name, CPU_MODEL_SECTION)) {
        done = check_cpu_model(loader, section, error);
    } else if (!strcmp(name, STREAM_RAM)) {
        done = load_ram(loader, section, error);
    } else if (!strcmp(name, MEMORY_SECTION)) {
        done = load_memory(loader, section, error);
    } else if (!loader->clock) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "the stream has section %s before its clock", name);
        done = false;
    } else if (g_str_has_prefix(name, CPU_PREFIX)) {
        done = load_cpu(loader, name + strlen(CPU_PREFIX), section, error);
    } else if (g_str_has_prefix(name, DEVICE_PREFIX)) {
        done = load_device(loader, name + strlen(DEVICE_PREFIX), section, error);
    } else {
        return receive_extra(loader, section, error);
    }
    return done ? STREAM_TAKEN : STREAM_FAILED;
}

static bool check_complete(const struct loader *loader, GError **error)
{
    const struct machine *machine = loader->machine;
    unsigned devices = 0;

    for (guint i = 0; i < machine->devices->len; i++)
        devices += ((struct device *)machine->devices->pdata[i])->ops->state != NULL;
    if (!loader->clock || loader->cpus != machine->config.cpus || loader->devices != devices)
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "the stream has %u of %u vCPUs and %u of %u devices", loader->cpus,
                    machine->config.cpus, loader->devices, devices);
    else if (!loader->memory)
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "the stream does not speak of memory");
    else
        return true;
    return false;
}

static enum stream_verdict receive_head(void *opaque, const struct stream_section *section,
                                        GError **error)
{
    if (strcmp(section->name, CPU_MODEL_SECTION)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "the stream does not begin with its processors");
        return STREAM_FAILED;
    }
    return state_load(&cpu_definition_table, opaque, section->content, error) ? STREAM_ENOUGH
                                                                              : STREAM_FAILED;
}

bool machine_load_head(struct stream_reader *reader, struct cpu_definition *cpu, GError **error)
{
    *cpu = (struct cpu_definition){.cpus = 0};
    if (!stream_read(reader, receive_head, cpu, error))
        return false;
    if (!cpu->cpus)
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "the stream ends before its processors");
    return cpu->cpus;
}

bool machine_load(struct machine *machine, struct stream_reader *reader,
                  const struct machine_stream_extra *extra, GError **error)
{
    struct loader loader = {.machine = machine, .extra = extra};

    if (machine->state != MACHINE_PAUSED) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_BUSY, "%s: only a paused machine can be loaded",
                    machine->config.name);
        return false;
    }
    if (!machine->config.takes_over)
        memory_clear(machine->memory);
    if (stream_read(reader, receive, &loader, error) && check_complete(&loader, error))
        return true;
    machine_crash(machine, "the state could not be loaded");
    return false;
}
