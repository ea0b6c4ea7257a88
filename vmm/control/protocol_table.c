// SPDX-License-Identifier: Apache-2.0
/*
 * The tables of the control protocol. What a method does is its handler's; what it takes and gives,
 * who may call it and what is said of it stand here and nowhere else.
 */
#include <stddef.h>
#include <stdint.h>

#include "vmm/control/peer.h"
#include "vmm/control/protocol.h"
#include "vmm/control/rpc.h"

#define STOP_TIMEOUT_MAX   86400 /* seconds */
#define DETACH_TIMEOUT_MAX 86400 /* seconds */

static const struct control_field none[] = {{0}};

static const struct control_field any_text = {.type = CONTROL_TEXT};
static const struct control_field any_number = {.type = CONTROL_INT};
static const struct control_field any_object = {.type = CONTROL_OBJECT};

static const char *const states[] = {"paused", "running", "crashed", "ended", NULL};
static const char *const engines[] = {"kvm", "soft", NULL};

/* ---- parameters ---- */

/* Of a file that was handed over. */
#define LOG_FIELD                                                                                \
    {                                                                                            \
        "log", CONTROL_TEXT, false,                                                              \
            "absolute path of the file, which makes it a log of two generations: a full one is " \
            "renamed to NAME.old"                                                                \
    }

static const struct control_field log_params[] = {LOG_FIELD, {0}};

static const struct control_field start_params[] = {
    {"definition", CONTROL_OBJECT, true, "the machine's definition, as anima(1) lists its keys"},
    {"serial", CONTROL_BOOL, false, "a descriptor comes along, for the line on stdio"},
    LOG_FIELD,
    {0},
};

static const struct control_field build_params[] = {
    {"definition", CONTROL_OBJECT, true},
    {"fds", CONTROL_LIST, true, .entry = &any_text},
    {"folder", CONTROL_TEXT, false},
    {0},
};

static const struct control_field stop_params[] = {
    {"timeout", CONTROL_INT, false, "seconds after which the machine is killed; absent: never",
     .max = STOP_TIMEOUT_MAX},
    {0},
};

static const struct control_field upgrade_params[] = {
    {"engine", CONTROL_TEXT, false, "go on with this one", .choices = engines},
    {0},
};

static const struct control_field subscribe_params[] = {
    {"since", CONTROL_INT, false,
     "number of the last event that the client knows: those after it come first. Absent: only new "
     "ones come",
     .max = INT64_MAX},
    {0},
};

static const struct control_field console_params[] = {
    {"readonly", CONTROL_BOOL, false, "only look. Absent: no"},
    {"scrollback", CONTROL_BOOL, false, "what was said last comes first. Absent: yes"},
    {0},
};

static const struct control_field cancel_params[] = {
    {"job", CONTROL_INT, true, "its number", .max = INT64_MAX},
    {0},
};

static const char *const shutdown_modes[] = {"powerdown", "reboot", "halt", NULL};

static const struct control_field guest_exec_params[] = {
    {"argv", CONTROL_LIST, true, "the command and its words", .entry = &any_text},
    {"env", CONTROL_LIST, false, "its environment, as NAME=VALUE. Absent: the agent's own",
     .entry = &any_text},
    {"input", CONTROL_TEXT, false, "what it reads on its standard input, in Base64"},
    {"timeout", CONTROL_INT, false, "seconds after which it is killed; absent: never", .min = 1,
     .max = STOP_TIMEOUT_MAX},
    {0},
};

static const struct control_field guest_watch_params[] = {
    {"pid", CONTROL_INT, true, .min = 1, .max = INT64_MAX},
    {"left_ms", CONTROL_INT, true, .max = INT32_MAX},
    {0},
};

static const struct control_field guest_freeze_params[] = {
    {"timeout", CONTROL_INT, true, "seconds after which they thaw by themselves", .min = 1,
     .max = CONTROL_FREEZE_MAX},
    {0},
};

static const struct control_field guest_shutdown_params[] = {
    {"mode", CONTROL_TEXT, false, "Absent: powerdown", .choices = shutdown_modes},
    {0},
};

static const struct control_field vmm_cancel_params[] = {
    {"call", CONTROL_INT, true},
    {0},
};

static const struct control_field load_params[] = {
    {"clients", CONTROL_LIST, true, .entry = &any_number},
    {0},
};

static const struct control_field go_params[] = {
    {"running", CONTROL_BOOL, true},   {"began_ns", CONTROL_INT, true},
    {"stopped_ns", CONTROL_INT, true}, {"started_us", CONTROL_INT, true},
    {"frozen_ms", CONTROL_INT, false}, {0},
};

static const char *const device_kinds[] = {"disk", "nic", NULL};

static const struct control_field attach_params[] = {
    {"kind", CONTROL_TEXT, true, "what comes", .choices = device_kinds},
    {"options", CONTROL_OBJECT, true,
     "an entry of a definition's list of that name, as anima(1) lists the members"},
    {0},
};

static const struct control_field detach_params[] = {
    {"id", CONTROL_TEXT, true, "which disk or network card"},
    {"timeout", CONTROL_INT, false, "seconds that the guest has to let go of it; absent: for ever",
     .min = 1, .max = DETACH_TIMEOUT_MAX},
    {0},
};

static const struct control_field vmm_detach_params[] = {
    {"id", CONTROL_TEXT, true},
    {"ask", CONTROL_BOOL, true},
    {0},
};

static const struct control_field vmm_keep_params[] = {
    {"id", CONTROL_TEXT, true},
    {0},
};

#define CHANGE_FIELDS                                                                   \
    {"options", CONTROL_OBJECT, false, "new values by key; null: the default"},         \
        {"add", CONTROL_OBJECT, false, "entries that lists get, by key"},               \
    {                                                                                   \
        "remove", CONTROL_OBJECT, false, "entries that lists lose, by key: their texts" \
    }

static const struct control_field device_change_params[] = {
    {"id", CONTROL_TEXT, true, "which disk or network card"},
    CHANGE_FIELDS,
    {0},
};

static const struct control_field machine_change_params[] = {
    CHANGE_FIELDS,
    {0},
};

static const struct control_field vmm_change_params[] = {
    {"id", CONTROL_TEXT, false},
    {"cable", CONTROL_BOOL, false},
    CHANGE_FIELDS,
    {0},
};

/* ---- results ---- */

static const struct control_field attach_result[] = {
    {"id", CONTROL_TEXT, true, "by which the device is named"},
    {"address", CONTROL_TEXT, true, "its place on the PCI bus"},
    {0},
};

static const struct control_field describe_result[] = {
    {"version", CONTROL_TEXT, true, "of Anima"},
    {"methods", CONTROL_LIST, true,
     "name, description, access, lasting, descriptors, params, result", .entry = &any_object},
    {"events", CONTROL_LIST, true, "name, description, params", .entry = &any_object},
    {"errors", CONTROL_LIST, true, "code, name, description", .entry = &any_object},
    {0},
};

static const struct control_field start_result[] = {
    {"name", CONTROL_TEXT, true, "of the machine"},
    {0},
};

static const struct control_field sandbox_fields[] = {
    {"uid", CONTROL_INT, true, "the vmm's user, as the host sees it"},
    {"namespaces", CONTROL_LIST, true, "which ones it has of its own", .entry = &any_text},
    {"landlock", CONTROL_INT, true, "version of Landlock that shuts it off from files; 0: none"},
    {"seccomp", CONTROL_BOOL, true, "its system calls are filtered"},
    {0},
};

static const struct control_field forward_fields[] = {
    {"nic", CONTROL_TEXT, true, "id of the network card"},
    {"proto", CONTROL_TEXT, true, "\"tcp\" or \"udp\""},
    {"host", CONTROL_TEXT, true, "address of the host; 0.0.0.0: every one"},
    {"host_port", CONTROL_INT, true, "its port", .max = UINT16_MAX},
    {"guest", CONTROL_TEXT, true, "address of the guest"},
    {"guest_port", CONTROL_INT, true, "its port", .max = UINT16_MAX},
    {0},
};
static const struct control_field forward = {.type = CONTROL_OBJECT, .fields = forward_fields};

static const struct control_field query_result[] = {
    {"state", CONTROL_TEXT, true, "how the machine is", .choices = states},
    {"machine", CONTROL_TEXT, true, "version of its layout"},
    {"engine", CONTROL_TEXT, true, "what runs its CPUs"},
    {"engine_why", CONTROL_TEXT, true, "why it is this one"},
    {"io", CONTROL_TEXT, true, "how it waits for disks and networks"},
    {"cpu", CONTROL_TEXT, true, "model of its CPUs, by version"},
    {"cpus", CONTROL_INT, true, "how many"},
    {"memory", CONTROL_INT, true, "bytes of RAM"},
    {"uptime_ms", CONTROL_INT, true, "host time since it was started"},
    {"clock_ns", CONTROL_INT, true, "its own clock, which stands while it is paused"},
    {"guest_errors", CONTROL_INT, true, "what its devices were asked that no device can do"},
    {"exits", CONTROL_MAP, false, "how often guest code left the processor, by reason",
     .entry = &any_number},
    {"pid", CONTROL_INT, true, "of the vmm"},
    {"sandbox", CONTROL_OBJECT, true, "what shuts the vmm off", .fields = sandbox_fields},
    {"name", CONTROL_TEXT, true, "of the machine"},
    {"monitor_pid", CONTROL_INT, true, "of the monitor"},
    {"group", CONTROL_TEXT, false, "control group of its processes, if it has limits"},
    {"ptys", CONTROL_MAP, true, "pseudo-terminals, by line", .entry = &any_text},
    {"forwards", CONTROL_LIST, true, "ports of the host that lead to the guest", .entry = &forward},
    {0},
};

static const struct control_field definition_result[] = {
    {"definition", CONTROL_OBJECT, true,
     "with all defaults, and the ids and addresses of devices, as anima(1) lists its keys"},
    {0},
};

static const struct control_field counter_fields[] = {
    {"about", CONTROL_TEXT, true, "what is counted"},
    {"total", CONTROL_INT, true, "the sum"},
    {"vcpus", CONTROL_LIST, true, "each vCPU's own", .entry = &any_number},
    {0},
};
static const struct control_field counter = {.type = CONTROL_OBJECT, .fields = counter_fields};

static const struct control_field metrics_result[] = {
    {"engine", CONTROL_TEXT, true, "what runs the CPUs"},
    {"counters", CONTROL_MAP, true, "by name, since this vmm was started", .entry = &counter},
    {0},
};

static const struct control_field guest_os_fields[] = {
    {"id", CONTROL_TEXT, false, "such as debian"},
    {"name", CONTROL_TEXT, false, "for people"},
    {"pretty_name", CONTROL_TEXT, false, "with its version"},
    {"version", CONTROL_TEXT, false, "of it"},
    {"version_id", CONTROL_TEXT, false, "such as 12"},
    {"kernel_release", CONTROL_TEXT, false, "as uname -r"},
    {"kernel_version", CONTROL_TEXT, false, "as uname -v"},
    {"machine", CONTROL_TEXT, false, "kind of its processor"},
    {0},
};

static const struct control_field guest_info_result[] = {
    {"agent", CONTROL_TEXT, false, "its version"},
    {"commands", CONTROL_LIST, true, "what it offers, by the names of its own protocol",
     .entry = &any_text},
    {"os", CONTROL_OBJECT, false, "what the guest is", .fields = guest_os_fields},
    {"hostname", CONTROL_TEXT, false, "what it calls itself"},
    {"frozen", CONTROL_BOOL, false, "its file systems are"},
    {0},
};

static const char *const address_families[] = {"ipv4", "ipv6", NULL};

static const struct control_field guest_address_fields[] = {
    {"family", CONTROL_TEXT, true, "of addresses", .choices = address_families},
    {"address", CONTROL_TEXT, true, "in digits"},
    {"prefix", CONTROL_INT, true, "bits that are the network's", .max = 128},
    {0},
};
static const struct control_field guest_address = {.type = CONTROL_OBJECT,
                                                   .fields = guest_address_fields};

static const struct control_field guest_interface_fields[] = {
    {"name", CONTROL_TEXT, true, "in the guest"},
    {"mac", CONTROL_TEXT, false, "its hardware address"},
    {"addresses", CONTROL_LIST, true, "that it has", .entry = &guest_address},
    {0},
};
static const struct control_field guest_interface = {.type = CONTROL_OBJECT,
                                                     .fields = guest_interface_fields};

static const struct control_field guest_addresses_result[] = {
    {"interfaces", CONTROL_LIST, true, "of the guest", .entry = &guest_interface},
    {0},
};

static const struct control_field guest_exec_result[] = {
    {"status", CONTROL_INT, false, "with which it exited"},
    {"signal", CONTROL_INT, false, "that ended it instead"},
    {"stdout", CONTROL_TEXT, true, "what it wrote there, in Base64; up to 1 MiB"},
    {"stderr", CONTROL_TEXT, true, "and there"},
    {"stdout_cut", CONTROL_BOOL, true, "it wrote more than that"},
    {"stderr_cut", CONTROL_BOOL, true, "so it did here"},
    {0},
};

static const struct control_field guest_frozen_result[] = {
    {"filesystems", CONTROL_INT, true, "how many"},
    {0},
};

static const struct control_field guest_time_result[] = {
    {"was_off_ns", CONTROL_INT, true, "how far it was ahead of the host's"},
    {0},
};

static const struct control_field upgrade_result[] = {
    {"downtime_ns", CONTROL_INT, true, "how long the guest was away"},
    {"running", CONTROL_BOOL, true, "the machine ran, and goes on"},
    {"engine_before", CONTROL_TEXT, true, "what ran it"},
    {"engine", CONTROL_TEXT, true, "what runs it now"},
    {0},
};

static const struct control_field subscribe_result[] = {
    {"seq", CONTROL_INT, true, "number of the last event so far"},
    {"missed", CONTROL_INT, true,
     "how many of the events after \"since\" are not remembered any more"},
    {0},
};

#define JOB_NAME                                                  \
    {"job", CONTROL_INT, true, "its number"},                     \
    {                                                             \
        "method", CONTROL_TEXT, true, "which method's work it is" \
    }
#define JOB_PROGRESS                                                       \
    {"done", CONTROL_INT, true, "bytes or steps that are done"},           \
    {                                                                      \
        "total", CONTROL_INT, true, "of so many; 0: that is not known yet" \
    }

static const struct control_field job_fields[] = {JOB_NAME, {0}};
static const struct control_field job_progress_fields[] = {JOB_NAME, JOB_PROGRESS, {0}};
static const struct control_field any_job = {.type = CONTROL_OBJECT, .fields = job_progress_fields};

static const struct control_field job_list_result[] = {
    {"jobs", CONTROL_LIST, true, "what is under way", .entry = &any_job},
    {0},
};

/* ---- networks ---- */

static const struct control_field network_start_params[] = {
    {"name", CONTROL_TEXT, true, "of the network"},
    {0},
};

static const struct control_field network_attach_params[] = {
    {"machine", CONTROL_TEXT, true, "whose card it is"},
    {"nic", CONTROL_TEXT, true, "id of the card"},
    {"mac", CONTROL_TEXT, true, "the card's address"},
    {"name", CONTROL_TEXT, false, "what it is found by. Absent: nothing"},
    {0},
};

static const struct control_field network_attach_result[] = {
    {"address", CONTROL_TEXT, false, "what it gets by DHCP, in a network with a subnet"},
    {0},
};

static const struct control_field network_port_fields[] = {
    {"machine", CONTROL_TEXT, true, "whose card it is"},
    {"nic", CONTROL_TEXT, true, "id of the card"},
    {"mac", CONTROL_TEXT, true, "the card's address"},
    {"address", CONTROL_TEXT, false, "what it gets by DHCP"},
    {"frames_in", CONTROL_INT, false, "frames that came from it"},
    {"frames_out", CONTROL_INT, false, "frames that went to it"},
    {"refused", CONTROL_INT, false, "of those that came: what it may not send"},
    {"lost", CONTROL_INT, false, "frames that it did not take in time"},
    {0},
};
static const struct control_field network_port = {.type = CONTROL_OBJECT,
                                                  .fields = network_port_fields};

static const struct control_field lease_fields[] = {
    {"address", CONTROL_TEXT, true, "of IPv4"},
    {"mac", CONTROL_TEXT, true, "of the card that has it; all zero: none was seen yet"},
    {"name", CONTROL_TEXT, true, "what it is found by, or empty"},
    {0},
};
static const struct control_field network_lease = {.type = CONTROL_OBJECT, .fields = lease_fields};

static const struct control_field network_query_result[] = {
    {"monitor_pid", CONTROL_INT, true, "of the process that answers"},
    {"ports", CONTROL_LIST, true, "cards that are on the network", .entry = &network_port},
    {"leases", CONTROL_LIST, true, "addresses that cards got", .entry = &network_lease},
    {"forwards", CONTROL_LIST, true, "ports of the host that lead in, as anima(1) has them",
     .entry = &any_text},
    {0},
};

static const struct control_field network_forward_params[] = {
    {"add", CONTROL_LIST, false, "forwards, as anima(1) has them", .entry = &any_text},
    {"remove", CONTROL_LIST, false, "those that go, before", .entry = &any_text},
    {0},
};

static const struct control_field network_forward_result[] = {
    {"forwards", CONTROL_LIST, true, "what was added, with the ports that were chosen",
     .entry = &any_text},
    {0},
};

const struct control_method control_methods[] = {
    {"protocol.describe", "Tell all methods, events and error codes, with JSON Schemas.",
     CONTROL_OBSERVE, .params = none, .result = describe_result},
    {"start", "Start the machine. Only for the connection that the monitor was started with.",
     CONTROL_OWN, .lasting = true, .fds_max = 1,
     .fds_about = "the line on stdio, if \"serial\" is true", .params = start_params,
     .result = start_result},
    {"detach",
     "Let the machine live on when the connection that the monitor was started with is closed.",
     CONTROL_OWN, .fds_max = 1,
     .fds_about = "a file for the machine's log, to which messages are appended",
     .params = log_params, .result = none},
    {"query", "Tell how the machine is.", CONTROL_OBSERVE, .in_vmm = true, .params = none,
     .result = query_result},
    {"definition",
     "Tell the machine's definition as it is now: what was asked for at its start, what became of "
     "that, and what has changed since.",
     CONTROL_OBSERVE, .params = none, .result = definition_result},
    {"metrics", "Tell what the engine counted.", CONTROL_OBSERVE, .in_vmm = true, .params = none,
     .result = metrics_result},
    {"pause", "Stop CPUs and clock. A machine that is paused stays so.", CONTROL_OPERATE,
     .in_vmm = true, .params = none, .result = none},
    {"resume", "Let CPUs and clock go on.", CONTROL_OPERATE, .in_vmm = true, .params = none,
     .result = none},
    {"reset", "Press the reset button.", CONTROL_OPERATE, .in_vmm = true, .params = none,
     .result = none},
    {"nmi", "Send a non-maskable interrupt to the first CPU.", CONTROL_OPERATE, .in_vmm = true,
     .params = none, .result = none},
    {"stop", "Press the power button; the guest decides what follows.", CONTROL_OPERATE,
     .params = stop_params, .result = none},
    {"kill",
     "End the machine at once. The answer comes when nothing of it is left: its name and its files "
     "are free.",
     CONTROL_OPERATE, .params = none, .result = none},
    {"state.save",
     "Write the machine's state to a descriptor. The machine stands still until it is written.",
     CONTROL_OPERATE, .in_vmm = true, .lasting = true, .fds_min = 1, .fds_max = 1,
     .fds_about = "what the state is written to: a file, a pipe or a socket", .params = none,
     .result = none},
    {"device.attach",
     "Put a disk or a network card into the machine, behind a root port. The guest finds it by "
     "PCIe hot-plug.",
     CONTROL_OPERATE, .params = attach_params, .result = attach_result},
    {"device.detach",
     "Ask the guest to let go of a disk or a network card that is behind a root port, and take it "
     "out when it has. One that does not let go keeps it, and nothing has changed.",
     CONTROL_OPERATE, .lasting = true, .params = detach_params, .result = none},
    {"device.change",
     "Change members of a disk or a network card: what the card is plugged into, its forwards, "
     "limits of the rate. Those that cannot change are refused, and then nothing has changed.",
     CONTROL_OPERATE, .params = device_change_params, .result = none},
    {"machine.change",
     "Change options of the machine, such as its restart policy. As \"device.change\".",
     CONTROL_OPERATE, .params = machine_change_params, .result = none},
    {"upgrade",
     "Put a new vmm, of the program that is installed now, in the place of the one that runs.",
     CONTROL_OPERATE, .lasting = true, .params = upgrade_params, .result = upgrade_result},
    {"guest.info", "Ask the guest's agent what it is, and what the guest is.", CONTROL_OBSERVE,
     .in_vmm = true, .params = none, .result = guest_info_result},
    {"guest.addresses", "Ask the guest's agent for the guest's network interfaces.",
     CONTROL_OBSERVE, .in_vmm = true, .params = none, .result = guest_addresses_result},
    {"guest.exec",
     "Run a command in the guest, by its agent, and wait for its end. Cancelled, it is killed.",
     CONTROL_OPERATE, .in_vmm = true, .lasting = true, .params = guest_exec_params,
     .result = guest_exec_result},
    {"guest.freeze",
     "Let the guest's agent write out and freeze its file systems, so that its disks can be copied "
     "as they lie.",
     CONTROL_OPERATE, .in_vmm = true, .params = guest_freeze_params, .result = guest_frozen_result},
    {"guest.thaw",
     "Let them go on. Fails when they were not frozen, or not any more: then a copy is of no use.",
     CONTROL_OPERATE, .in_vmm = true, .params = none, .result = guest_frozen_result},
    {"guest.time", "Let the guest's agent set the guest's time of day to the host's.",
     CONTROL_OPERATE, .in_vmm = true, .params = none, .result = guest_time_result},
    {"guest.shutdown",
     "Let the guest's agent shut the guest down, power off (powerdown) or not (halt), or reboot "
     "it.",
     CONTROL_OPERATE, .params = guest_shutdown_params, .result = none},
    {"console.attach", "See and use the line on stdio, with all who do so at the same time.",
     CONTROL_OPERATE, .fds_min = 1, .fds_max = 1,
     .fds_about = "a socket: what the guest says comes there, and what is sent there is typed",
     .params = console_params, .result = none},
    {"events.subscribe",
     "From now on each event comes to this connection, as a notification \"event\".",
     CONTROL_OBSERVE, .params = subscribe_params, .result = subscribe_result},
    {"job.list", "Tell which work that may take long is under way.", CONTROL_OBSERVE,
     .params = none, .result = job_list_result},
    {"job.cancel",
     "Stop such work, if it is not too late. Its own request fails as cancelled then, and the "
     "machine goes on as before.",
     CONTROL_OPERATE, .params = cancel_params, .result = none},

    /* What a network's process answers; a machine's does not. */
    {"network.start",
     "Start the network. Only for the connection that its process was started with.", CONTROL_OWN,
     .params = network_start_params, .result = none},
    {"network.attach",
     "On a network's socket: plug in a card, which is there as long as this connection.",
     CONTROL_OPERATE, .fds_min = 1, .fds_max = 1,
     .fds_about = "the network's end of a pair of sockets (SOCK_SEQPACKET) that carry a frame a "
                  "message",
     .params = network_attach_params, .result = network_attach_result},
    {"network.query", "On a network's socket: tell how it is.", CONTROL_OBSERVE, .params = none,
     .result = network_query_result},
    {"network.forward", "On a network's socket: change which ports of the host lead in.",
     CONTROL_OPERATE, .params = network_forward_params, .result = network_forward_result},

    /* What the monitor asks of a vmm. "fds" names each descriptor, and "folder" is what relative
     * paths are relative to. */
    {"vmm.start", NULL, CONTROL_LEAD, .in_vmm = true, .fds_max = PEER_FDS_MAX,
     .params = build_params},
    {"vmm.power-button", NULL, CONTROL_LEAD, .in_vmm = true, .params = none},
    /* Go on with "guest.exec", which the vmm before had to leave. */
    {"vmm.guest-watch", NULL, CONTROL_LEAD, .in_vmm = true, .params = guest_watch_params},
    {"vmm.guest-shutdown", NULL, CONTROL_LEAD, .in_vmm = true, .params = guest_shutdown_params},
    /* A device comes, "options" being complete; another is to go, of which the guest is told with
     * "ask": the notification "released" says that it has gone, unless "vmm.keep" comes before. */
    {"vmm.attach", NULL, CONTROL_LEAD, .in_vmm = true, .fds_max = 1, .params = attach_params},
    {"vmm.detach", NULL, CONTROL_LEAD, .in_vmm = true, .params = vmm_detach_params},
    {"vmm.keep", NULL, CONTROL_LEAD, .in_vmm = true, .params = vmm_keep_params},
    /* Of a device, or without id of the machine. With "cable" a network card is plugged into the
     * descriptor that comes along, or into nothing. */
    {"vmm.change", NULL, CONTROL_LEAD, .in_vmm = true, .fds_max = 1, .params = vmm_change_params},
    /* Of a call under way, by the id of its request. */
    {"vmm.cancel", NULL, CONTROL_LEAD, .in_vmm = true, .params = vmm_cancel_params},
    /* The steps of "upgrade", see vmm/handover.c. */
    {"handover.describe", NULL, CONTROL_LEAD, .in_vmm = true, .fds_min = 1, .fds_max = 1,
     .params = none},
    {"handover.pause", NULL, CONTROL_LEAD, .in_vmm = true, .fds_min = 1, .fds_max = 1,
     .params = none},
    {"handover.cancel", NULL, CONTROL_LEAD, .in_vmm = true, .params = none},
    {"handover.load", NULL, CONTROL_LEAD, .in_vmm = true, .fds_min = 1, .fds_max = PEER_FDS_MAX,
     .params = load_params},
    {"handover.go", NULL, CONTROL_LEAD, .in_vmm = true, .params = go_params},
    {0},
};

/* ---- events ---- */

static const struct control_field started_fields[] = {
    {"engine", CONTROL_TEXT, true, "what runs the CPUs"},
    {"why", CONTROL_TEXT, true, "why it is this one"},
    {0},
};

static const struct control_field reason_fields[] = {
    {"reason", CONTROL_TEXT, false, "why"},
    {0},
};

static const struct control_field pty_fields[] = {
    {"line", CONTROL_TEXT, true, "which line of the machine"},
    {"pty", CONTROL_TEXT, true, "path of the pseudo-terminal that it leads to"},
    {0},
};

static const struct control_field helper_fields[] = {
    {"helper", CONTROL_TEXT, true, "what it does: \"nat\"; \"network\": that of a shared one"},
    {"nic", CONTROL_TEXT, true, "id of the network card that it serves"},
    {"reason", CONTROL_TEXT, true, "how the one before it ended"},
    {0},
};

static const char *const outcomes[] = {"done", "failed", "cancelled", NULL};

static const struct control_field job_ended_fields[] = {
    JOB_NAME,
    {"outcome", CONTROL_TEXT, true, "what came of it", .choices = outcomes},
    {"message", CONTROL_TEXT, false, "why it failed"},
    {0},
};

static const struct control_field stopping_fields[] = {
    {"timeout", CONTROL_INT, false, "seconds after which the machine is killed"},
    {0},
};

static const struct control_field restarting_fields[] = {
    {"cause", CONTROL_TEXT, true, "as in \"ended\""},
    {"message", CONTROL_TEXT, true, "one phrase more"},
    {"delay_ms", CONTROL_INT, true, "until then"},
    {"attempt", CONTROL_INT, true, "how many there were in a row, with this one"},
    {0},
};

static const struct control_field guest_thawed_fields[] = {
    {"reason", CONTROL_TEXT, false, "why, if nobody asked for it"},
    {0},
};

static const struct control_field device_fields[] = {
    {"id", CONTROL_TEXT, true, "by which it is named"},
    {"kind", CONTROL_TEXT, true, "what it is", .choices = device_kinds},
    {0},
};

static const struct control_field device_changed_fields[] = {
    {"id", CONTROL_TEXT, true, "which disk or network card"},
    {0},
};

static const struct control_field machine_changed_fields[] = {
    {"options", CONTROL_LIST, true, "which", .entry = &any_text},
    {0},
};

static const struct control_field missed_fields[] = {
    {"first", CONTROL_INT, true, "number of the first of them"},
    {0},
};

static const struct control_field log_fields[] = {
    {"line", CONTROL_TEXT, true, "what a process of the machine wrote to its standard error"},
    {0},
};

static const struct control_field ended_fields[] = {
    {"status", CONTROL_INT, true, "exit status for a command, as anima(1) lists them", .max = 255},
    {"cause", CONTROL_TEXT, true, "power-off, exit, crash, stopped, killed, abandoned or failed"},
    {"message", CONTROL_TEXT, false, "one phrase more"},
    {0},
};

const struct control_event control_events[] = {
    {"pty", "A line leads to a pseudo-terminal.", pty_fields},
    {"started", "The machine was made.", started_fields, .in_vmm = true},
    {"running", "CPUs and clock run.", reason_fields, .in_vmm = true},
    {"paused", "CPUs and clock stand.", reason_fields, .in_vmm = true},
    {"crashed", "The guest crashed, and the machine stands.", reason_fields, .in_vmm = true},
    {"restarted", "The machine begins anew, as after its reset button.", reason_fields,
     .in_vmm = true},
    {"stopping", "The power button was pressed.", stopping_fields},
    {"restarting", "The machine has ended, and will be started again by its restart policy.",
     restarting_fields},
    {"device-attached", "The machine has one more device.", device_fields},
    {"device-detached", "The guest has let go of a device, and the machine has it no more.",
     device_fields},
    {"device-changed", "A disk or a network card is another than it was.", device_changed_fields},
    {"machine-changed", "Options of the machine have other values.", machine_changed_fields},
    {"upgraded", "Another vmm has the machine.", upgrade_result},
    {"guest-frozen", "The guest's file systems were frozen by its agent.", guest_frozen_result,
     .in_vmm = true},
    {"guest-thawed", "They go on.", guest_thawed_fields, .in_vmm = true},
    {"helper-restarted", "A helper died, and another one is in its place.", helper_fields},
    {"job-started", "Work that may take long has begun.", job_fields},
    {"job-progress", "It is done as far as that.", job_progress_fields, .frequent = true},
    {"job-ended", "It has ended.", job_ended_fields},
    {"log", "A line for the machine's log.", log_fields, .frequent = true},
    {"missed",
     "The events from \"first\" to this one's number are not remembered any more: this connection "
     "was away for too long, or reads too slowly.",
     missed_fields},
    {"ended", "The machine has ended, and this is the last event.", ended_fields},
    {0},
};

/* ---- error codes ---- */

const struct control_code control_codes[] = {
    {RPC_ERROR_PARSE, "parse", "The line is no JSON, too long, or nested too deeply."},
    {RPC_ERROR_INVALID_REQUEST, "invalid-request", "The line is no request of JSON-RPC 2.0."},
    {RPC_ERROR_UNKNOWN_METHOD, "unknown-method", "There is no such method."},
    {RPC_ERROR_INVALID_PARAMS, "invalid-params",
     "A parameter is missing, unknown, or not what it should be; \"data\" names it as \"param\"."},
    {RPC_ERROR_INTERNAL, "internal", "A process of the machine broke the protocol itself."},
    {RPC_ERROR_FAILED, "failed", "The request was right but could not be carried out."},
    {RPC_ERROR_DENIED, "denied", "This connection may not."},
    {RPC_ERROR_STATE, "state", "Not in the machine's present state."},
    {RPC_ERROR_CANCELLED, "cancelled", "It was cancelled by \"job.cancel\"."},
    {0},
};
