// SPDX-License-Identifier: Apache-2.0
/*
 * The life of a vmm:
 *
 *     "vmm.start" comes -> engine chosen -> sandbox closed -> machine built, kernel loaded ->
 * running
 *     -> calls are answered -> the machine ends -> "finished" is sent -> the process ends
 *
 * This thread is the machine's control thread.
 */
#include "vmm/vmm.h"

#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/devices.h"
#include "config/limits.h"
#include "config/nics.h"
#include "vmm/device/virtio/virtio_blk.h"
#include "vmm/internal.h"
#include "vmm/machine/machine_stream.h"
#include "vmm/machine/pc/layout.h"
#include "vmm/monitor/process.h"

#define LAST_WORDS_MS 1000
#define TELL_US       100000
#define ARENAS        4 /* of the C library's allocator */

_Static_assert(CONFIG_MEMORY_MAX <= PC_MMIO64_BASE - (PC_HIGH_RAM_BASE - PC_LOW_RAM_END),
               "all RAM lies below the 64-bit PCI window");
_Static_assert(CONFIG_PORTS_MAX <= MACHINE_PORTS_MAX, "a machine takes all ports of a definition");
_Static_assert(CONFIG_DISKS_MAX <= MACHINE_DISKS_MAX, "a machine takes all disks of a definition");
_Static_assert(CONFIG_SERIAL_MAX <= VIRTIO_BLK_SERIAL_MAX, "a disk shows all of its serial number");
_Static_assert(CONFIG_PCI_FIRST == PC_PCI_USER_DEVICES && CONFIG_PCI_LAST < PC_PCI_ROOT_PORTS &&
                   CONFIG_ROOT_PORTS == PC_ROOT_PORTS,
               "every address of a definition is a place on the board");
_Static_assert(CONFIG_NICS_MAX <= MACHINE_NICS_MAX, "every card of a definition has a place");
_Static_assert(CONFIG_CPUS_MAX <= MACHINE_CPUS_MAX, "a machine takes all CPUs of a definition");

/* ---- words to the monitor ---- */

void vmm_tell(struct vmm *vmm, const char *type, json_t *details)
{
    json_object_set_new(details, "type", json_string(type));
    peer_send(vmm->link, rpc_notification("event", details), NULL, 0);
}

static void send_event(struct vmm *vmm, const char *type, const char *reason)
{
    json_t *details = json_object();

    if (reason)
        json_object_set_new(details, "reason", json_string(reason));
    vmm_tell(vmm, type, details);
}

static void send_finished(struct vmm *vmm, int status, const char *cause, const char *message)
{
    json_t *params = json_object();

    json_object_set_new(params, "status", json_integer(status));
    json_object_set_new(params, "cause", json_string(cause));
    if (message)
        json_object_set_new(params, "message", json_string(message));
    peer_send(vmm->link, rpc_notification("finished", params), NULL, 0);
}

/* ---- what the machine tells ---- */

static const char *state_name(enum machine_state state)
{
    static const char *const names[] = {
        [MACHINE_PAUSED] = "paused",
        [MACHINE_RUNNING] = "running",
        [MACHINE_CRASHED] = "crashed",
        [MACHINE_ENDED] = "ended",
    };
    return names[state];
}

static void on_changed(void *opaque, enum machine_state state, const char *reason)
{
    struct vmm *vmm = opaque;

    if (!vmm->quiet)
        send_event(vmm, state_name(state), reason);
    guest_machine_changed(vmm->guest, state);
}

static void on_restarted(void *opaque, const char *reason)
{
    struct vmm *vmm = opaque;

    send_event(vmm, "restarted", reason);
    guest_restarted(vmm->guest);
}

static void on_ended(void *opaque, enum machine_end end, int status, const char *reason)
{
    static const struct {
        const char *cause;
        int status;
    } outcomes[] = {
        [MACHINE_END_POWER_OFF] = {"power-off", 0}, [MACHINE_END_EXIT] = {"exit", 0},
        [MACHINE_END_CRASH] = {"crash", 3},         [MACHINE_END_STOPPED] = {"stopped", 0},
        [MACHINE_END_FAILED] = {"failed", 1},
    };
    struct vmm *vmm = opaque;

    if (vmm->debugger)
        gdb_server_ended(vmm->debugger, end == MACHINE_END_EXIT ? status : outcomes[end].status);
    guest_ended(vmm->guest);
    send_finished(vmm, end == MACHINE_END_EXIT ? status : outcomes[end].status, outcomes[end].cause,
                  reason);
    g_main_loop_quit(vmm->loop);
}

/* ---- building ---- */

static void configure_modules(const struct vmm *vmm, struct machine_config *config,
                              GPtrArray *words)
{
    config->module_count = vmm->attachments.module_count;
    for (unsigned i = 0; i < config->module_count; i++) {
        char *name = g_strdup(definition_entry(vmm->definition, OPTION_MODULE, i));
        char *space = strchr(name, ' ');

        if (space)
            *space++ = 0;
        g_ptr_array_add(words, name);
        config->modules[i] = (struct machine_image){
            .fd = vmm->attachments.modules[i],
            .name = name,
            .arguments = space ? space : "",
        };
    }
}

static void configure_lines(const struct vmm *vmm, struct machine_config *config)
{
    struct line lines[LINES_MAX];
    unsigned count = definition_lines(vmm->definition, lines);

    for (unsigned i = 0; i < count; i++) {
        struct chardev *chardev = vmm->attachments.lines[i];

        if (lines[i].kind == LINE_SERIAL)
            config->serial[0] = chardev;
        else if (lines[i].kind == LINE_CONSOLE)
            config->console = chardev;
        else
            config->ports[config->port_count++] = (struct machine_port){lines[i].name, chardev};
    }
    if (vmm->attachments.agent)
        config->ports[config->port_count++] =
            (struct machine_port){CONFIG_AGENT_PORT, vmm->attachments.agent};
}

static void configure_devices(const struct vmm *vmm, struct machine_config *config)
{
    config->disk_count = definition_count(vmm->definition, OPTION_DISK);
    for (unsigned i = 0; i < config->disk_count; i++)
        config->disks[i] = vmm_disk(vmm, i);
    config->nic_count = definition_count(vmm->definition, OPTION_NIC);
    for (unsigned i = 0; i < config->nic_count; i++)
        config->nics[i] = vmm_nic(vmm, i);
}

/* What has no address in the definition has the first places that are free. */
static void configure_places(const struct vmm *vmm, struct machine_config *config)
{
    bool console = config->console || config->port_count;

    config->console_device = definition_free_place(vmm->definition, 0);
    config->rng_device = definition_free_place(vmm->definition, console);
}

/* `words` owns the strings that are made for the configuration. */
static void configure(struct vmm *vmm, struct machine_config *config, GPtrArray *words)
{
    const struct definition *definition = vmm->definition;
    const char *append = definition_text(definition, OPTION_APPEND);

    *config = (struct machine_config){
        .name = definition_text(definition, OPTION_NAME),
        .engine = vmm->engine,
        .kvm_fd = vmm->attachments.kvm,
        .debug = &vmm->debug,
        .cpu_model = definition_text(definition, OPTION_CPU),
        .cpus = definition_number(definition, OPTION_CPUS),
        .memory_size = definition_number(definition, OPTION_MEMORY),
        .loop = vmm->io,
        .kernel = {vmm->attachments.kernel, definition_text(definition, OPTION_KERNEL),
                   append ? append : ""},
        .initrd = {vmm->attachments.initrd, definition_text(definition, OPTION_INITRD), ""},
        .debug_console = vmm->attachments.debug_console,
        .debug_exit = definition_lists(definition, OPTION_DEVICE, "isa-debug-exit"),
        .testdev = definition_lists(definition, OPTION_DEVICE, "pc-testdev"),
        .pvpanic = definition_lists(definition, OPTION_DEVICE, "pvpanic"),
        .virtio_rng = definition_lists(definition, OPTION_DEVICE, "virtio-rng"),
        .rng_rate = definition_number(definition, OPTION_RNG_RATE),
        .on_reboot = vmm_reboot_policy(definition),
        .on_crash = vmm_crash_policy(definition),
        .listener = {.changed = on_changed,
                     .restarted = on_restarted,
                     .released = vmm_on_released,
                     .ended = on_ended,
                     .opaque = vmm},
    };
    configure_modules(vmm, config, words);
    configure_lines(vmm, config);
    configure_devices(vmm, config);
    configure_places(vmm, config);
}

static bool check_cpu_name(const struct vmm *vmm, const struct cpu_definition *cpu, GError **error)
{
    if (strcmp(definition_text(vmm->definition, OPTION_CPU), cpu->name) == 0)
        return true;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                "cpu: the state was saved on '%s' and goes on with no other", cpu->name);
    return false;
}

/* The whole stream is read before anything else is answered, so what is told is sent here. Whoever
 * cancels the start ends this process. */
static void tell_read(void *opaque, uint64_t done)
{
    struct vmm *vmm = opaque;
    int64_t now = g_get_monotonic_time();
    struct stat status;

    if (now - vmm->told_us < TELL_US || fstat(vmm->attachments.incoming, &status) != 0)
        return;
    vmm->told_us = now;
    control_progress(vmm->start, done, (uint64_t)status.st_size);
    peer_flush(vmm->link, 0);
}

/* Go on from a stream, or be ready to: its beginning says on which processors. */
static bool create_from_stream(struct vmm *vmm, const struct machine_config *plain, GError **error)
{
    struct machine_config config = *plain;
    struct stream_reader *reader = stream_reader_create(vmm->attachments.incoming, error);
    struct cpu_definition cpu;
    bool good =
        reader && machine_load_head(reader, &cpu, error) && check_cpu_name(vmm, &cpu, error);

    config.incoming = true;
    config.takes_over = vmm->quiet = vmm->attachments.ram >= 0;
    config.ram_fd = vmm->attachments.ram;
    config.cpu = &cpu;
    if (good)
        vmm->machine = machine_create(&config, error);
    if (good && !config.takes_over)
        stream_reader_follow(reader, tell_read, vmm);
    good = vmm->machine && (config.takes_over || machine_load(vmm->machine, reader, NULL, error));
    stream_reader_destroy(reader);
    return good;
}

static bool create_machine(struct vmm *vmm, GError **error)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
    struct machine_config config;

    vmm->debug = (struct engine_debug){
        .switches = getenv("ANIMA_SOFT"),
        .log = vmm->attachments.soft_log,
        .perf_map = vmm->attachments.perf_map,
    };

    configure(vmm, &config, words);
    if (vmm->attachments.incoming >= 0)
        return create_from_stream(vmm, &config, error);
    vmm->machine = machine_create(&config, error);
    return vmm->machine != NULL;
}

void vmm_await_debugger(struct vmm *vmm)
{
    if (vmm->attachments.gdb >= 0)
        vmm->debugger = gdb_server_create(vmm->machine, vmm->attachments.gdb);
    vmm->attachments.gdb = -1;
}

/* Before it reads the first byte that a guest or an image wrote. */
static bool close_sandbox(struct vmm *vmm, bool kvm, GError **error)
{
    g_autofree char *gaps = NULL;

    if (!sandbox_enter(SANDBOX_VMM, kvm, &vmm->sandbox, error))
        return false;
    gaps = sandbox_describe_gaps(&vmm->sandbox);
    if (gaps)
        g_message("sandbox: %s", gaps);
    loop_start(vmm->io);
    return true;
}

/* The end of its character device goes to the attachments. */
static bool open_agent_port(struct vmm *vmm, GError **error)
{
    if (!definition_number(vmm->definition, OPTION_AGENT))
        return true;
    vmm->guest = guest_create(vmm, &vmm->attachments.agent_fd, error);
    return vmm->guest;
}

static bool build(struct vmm *vmm, GError **error)
{
    bool kvm;

    vmm->engine = engine_find(definition_text(vmm->definition, OPTION_ENGINE), vmm->attachments.kvm,
                              &vmm->why, error);
    if (!vmm->engine)
        return false;
    kvm = strcmp(vmm->engine->name, "kvm") == 0;
    if (vmm->engine->prepare)
        vmm->engine->prepare(definition_number(vmm->definition, OPTION_CPUS));
    vmm->io = loop_create("io/0", error);
    if (!vmm->io || !open_agent_port(vmm, error) || !close_sandbox(vmm, kvm, error) ||
        !attachments_open_lines(&vmm->attachments, vmm->definition, error) ||
        !attachments_open_disks(&vmm->attachments, vmm->definition, vmm->io, error) ||
        !attachments_open_links(&vmm->attachments, vmm->definition, error))
        return false;
    return create_machine(vmm, error);
}

static bool take_definition(struct vmm *vmm, struct control_call *call, GError **error)
{
    vmm->definition = definition_create();
    vmm->folder = g_strdup(json_string_value(json_object_get(call->params, "folder")));
    return definition_from_json(vmm->definition, json_object_get(call->params, "definition"),
                                error) &&
           definition_fill_devices(vmm->definition, error) &&
           attachments_take(&vmm->attachments, vmm->definition,
                            json_object_get(call->params, "fds"), call->fds, call->count, error);
}

/* ---- words from the monitor ---- */

static void send_started(struct vmm *vmm)
{
    vmm_tell(vmm, "started", json_pack("{s:s, s:s}", "engine", vmm->engine->name, "why", vmm->why));
}

/* The machine is made, and runs unless that is left to "resume", or to "handover.go". */
static void handle_start(void *opaque, struct control_call *call)
{
    struct vmm *vmm = opaque;
    GError *error = NULL;
    bool good;

    if (vmm->definition) {
        control_fail(call, RPC_ERROR_STATE, "the machine was started before");
        return;
    }
    vmm->start = call;
    good = take_definition(vmm, call, &error) && build(vmm, &error);
    vmm->start = NULL;
    if (!good) {
        control_fail_error(call, error);
        g_main_loop_quit(vmm->loop);
        return;
    }
    if (vmm->attachments.ram >= 0) {
        control_reply(call, NULL);
        return;
    }
    vmm->started_us = g_get_monotonic_time();
    send_started(vmm);
    control_reply(call, NULL);
    vmm_await_debugger(vmm);
    if (vmm->attachments.incoming >= 0)
        guest_restored(vmm->guest);
    if (!definition_number(vmm->definition, OPTION_PAUSED))
        machine_resume(vmm->machine);
}

static json_t *describe_sandbox(const struct sandbox_report *report)
{
    g_autofree const char **names = sandbox_namespace_names(report->namespaces);
    json_t *sandbox = json_object(), *namespaces = json_array();

    for (unsigned i = 0; names[i]; i++)
        json_array_append_new(namespaces, json_string(names[i]));
    json_object_set_new(sandbox, "uid", json_integer(report->uid));
    json_object_set_new(sandbox, "namespaces", namespaces);
    json_object_set_new(sandbox, "landlock", json_integer(report->landlock));
    json_object_set_new(sandbox, "seccomp", json_boolean(report->seccomp));
    return sandbox;
}

static json_t *describe_exits(const struct machine_status *status)
{
    json_t *exits = json_object();

    for (unsigned i = 0; i < ENGINE_EXITS; i++)
        json_object_set_new(exits, engine_exit_names[i],
                            json_integer((json_int_t)status->exits[i]));
    return exits;
}

static void handle_query(void *opaque, struct control_call *call)
{
    struct vmm *vmm = opaque;
    json_t *result = json_object();
    struct machine_status status;

    machine_query(vmm->machine, &status);
    json_object_set_new(result, "state", json_string(state_name(status.state)));
    json_object_set_new(result, "machine",
                        json_string(definition_text(vmm->definition, OPTION_MACHINE)));
    json_object_set_new(result, "engine", json_string(status.engine));
    json_object_set_new(result, "engine_why", json_string(vmm->why));
    json_object_set_new(result, "io", json_string(loop_backend(vmm->io)));
    json_object_set_new(result, "cpu", json_string(status.cpu_model));
    json_object_set_new(result, "cpus", json_integer(status.cpus));
    json_object_set_new(result, "memory", json_integer(status.memory_size));
    json_object_set_new(result, "uptime_ms",
                        json_integer((g_get_monotonic_time() - vmm->started_us) / 1000));
    json_object_set_new(result, "clock_ns", json_integer(status.clock_ns));
    json_object_set_new(result, "guest_errors", json_integer(status.guest_errors));
    if (status.exits_counted)
        json_object_set_new(result, "exits", describe_exits(&status));
    json_object_set_new(result, "sandbox", describe_sandbox(&vmm->sandbox));
    control_reply(call, result);
}

static void handle_pause(void *opaque, struct control_call *call)
{
    struct vmm *vmm = opaque;

    machine_pause(vmm->machine);
    control_reply(call, NULL);
}

static void handle_resume(void *opaque, struct control_call *call)
{
    struct vmm *vmm = opaque;

    if (machine_resume(vmm->machine))
        control_reply(call, NULL);
    else
        control_fail(call, RPC_ERROR_STATE, "resume: the machine crashed; reset or kill it");
}

static void handle_reset(void *opaque, struct control_call *call)
{
    struct vmm *vmm = opaque;
    GError *error = NULL;

    if (machine_reset(vmm->machine, "asked for by the control socket", &error))
        control_reply(call, NULL);
    else
        control_fail_error(call, error);
}

static void handle_nmi(void *opaque, struct control_call *call)
{
    struct vmm *vmm = opaque;

    machine_nmi(vmm->machine);
    control_reply(call, NULL);
}

static void handle_power_button(void *opaque, struct control_call *call)
{
    struct vmm *vmm = opaque;

    machine_press_power_button(vmm->machine);
    control_reply(call, NULL);
}

char *vmm_effective_definition(const struct vmm *vmm)
{
    /* How it was started is no part of what it is. */
    static const enum option_id beginnings[] = {OPTION_PAUSED, OPTION_STATE};
    struct definition *placed = definition_create();
    json_t *object = definition_to_json(vmm->definition);
    struct machine_status status;
    char *text;

    if (vmm->folder && definition_from_json(placed, object, NULL)) {
        definition_place(placed, vmm->folder);
        json_decref(object);
        object = definition_to_json(placed);
    }
    definition_destroy(placed);
    machine_query(vmm->machine, &status);
    json_object_set_new(object, "engine", json_string(status.engine));
    json_object_set_new(object, "cpu", json_string(status.cpu_model));
    for (unsigned i = 0; i < G_N_ELEMENTS(beginnings); i++)
        json_object_del(object, options[beginnings[i]].key);
    text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return text;
}

static const struct control_handler handlers[] = {
    {"vmm.start", handle_start},
    {"query", handle_query},
    {"metrics", vmm_handle_metrics},
    {"pause", handle_pause},
    {"resume", handle_resume},
    {"reset", handle_reset},
    {"nmi", handle_nmi},
    {"vmm.change", vmm_handle_change},
    {"vmm.power-button", handle_power_button},
    {"vmm.attach", vmm_handle_attach},
    {"vmm.detach", vmm_handle_detach},
    {"vmm.keep", vmm_handle_keep},
    {"state.save", vmm_handle_save},
    {"vmm.cancel", vmm_handle_cancel},
    {"guest.info", guest_handle_info},
    {"guest.addresses", guest_handle_addresses},
    {"guest.exec", guest_handle_exec},
    {"guest.freeze", guest_handle_freeze},
    {"guest.thaw", guest_handle_thaw},
    {"guest.time", guest_handle_time},
    {"vmm.guest-shutdown", guest_handle_shutdown},
    {"vmm.guest-watch", guest_handle_watch},
    {"handover.describe", handover_describe},
    {"handover.pause", handover_pause},
    {"handover.cancel", handover_cancel},
    {"handover.load", handover_load},
    {"handover.go", handover_go},
    {0},
};

/* What would move a machine whose state is being written, or be two at once. */
static bool must_wait(const char *method)
{
    static const char *const methods[] = {
        "resume", "reset", "pause", "state.save", "handover.describe", "handover.pause"};
    bool found = false;

    for (unsigned i = 0; i < G_N_ELEMENTS(methods); i++)
        found |= strcmp(method, methods[i]) == 0;
    return found;
}

/* Why the method cannot be served now; NULL when it can. */
static const char *find_hindrance(const struct vmm *vmm, const char *method)
{
    if (!vmm->machine && strcmp(method, "vmm.start") != 0)
        return "the machine is not started";
    if (vmm->save && must_wait(method))
        return "the machine's state is being saved; try again when that is done";
    return NULL;
}

static void on_line(void *opaque, struct peer *peer, const char *line, size_t length, int *fds,
                    unsigned count)
{
    struct vmm *vmm = opaque;
    struct control_service service = {.handlers = handlers, .opaque = vmm};
    const char *hindrance;
    struct rpc_message message;

    if (!control_receive(peer, line, length, &message))
        return;
    hindrance = message.method ? find_hindrance(vmm, message.method) : NULL;
    if (hindrance)
        peer_send(peer, rpc_failure(message.id, RPC_ERROR_STATE, hindrance, NULL), NULL, 0);
    else
        control_serve(&service, peer,
                      CONTROL_OBSERVE | CONTROL_OPERATE | CONTROL_OWN | CONTROL_LEAD, &message, fds,
                      count);
    rpc_message_clear(&message);
}

/* Without a monitor there is nobody to run for. */
static void on_closed(void *opaque, struct peer *peer)
{
    struct vmm *vmm = opaque;

    g_main_loop_quit(vmm->loop);
}

static const struct peer_ops link_ops = {on_line, on_closed};

/* The C library gives a new thread an arena of its own, and counts the host's processors in /sys
 * when there are many: a sandbox has no files. vCPUs allocate nothing, so a few will do. */
static void limit_arenas(void)
{
    mallopt(M_ARENA_MAX, ARENAS);
}

int vmm_main(void)
{
    struct vmm vmm = {0};

    attachments_init(&vmm.attachments);
    limit_arenas();
    vmm_save_prepare();
    signal(SIGPIPE, SIG_IGN);
    vmm.loop = g_main_loop_new(NULL, FALSE);
    vmm.link = peer_create(PROCESS_LINK_FD, &link_ops, &vmm);
    g_main_loop_run(vmm.loop);
    if (vmm.save) {
        /* Its thread may wait for ever, with the machine's memory in its hands. */
        peer_flush(vmm.link, LAST_WORDS_MS);
        return 0;
    }
    gdb_server_destroy(vmm.debugger);
    guest_destroy(vmm.guest);
    machine_destroy(vmm.machine);
    attachments_finish(&vmm.attachments);
    loop_destroy(vmm.io);
    peer_flush(vmm.link, LAST_WORDS_MS);
    peer_destroy(vmm.link);
    definition_destroy(vmm.definition);
    g_free(vmm.folder);
    g_main_loop_unref(vmm.loop);
    return 0;
}
