// SPDX-License-Identifier: Apache-2.0
/*
 * The options of a machine's definition: the table, and the checks that one of them alone needs.
 */
#include <string.h>

#include "config/devices.h"
#include "config/limits.h"
#include "config/nics.h"
#include "config/paths.h"
#include "config/schema.h"

static bool check_name(const char *text, GError **error)
{
    size_t length = strlen(text);
    bool good = length >= 1 && length <= CONFIG_NAME_MAX && g_ascii_isalnum(text[0]);

    for (size_t i = 0; good && i < length; i++)
        good = g_ascii_isalnum(text[i]) || strchr("-_.", text[i]);
    if (g_str_equal(text, CONFIG_NETWORKS))
        return text_refuse(text, error, "another name: this is the folder of the networks");
    return good || text_refuse(text, error, "a name of up to %d letters, digits, '-', '_' and '.'",
                               CONFIG_NAME_MAX);
}

/* A word of ssh's command line, which is none of its options. */
static bool check_ssh_user(const char *text, GError **error)
{
    bool good = *text && *text != '-';

    for (const char *at = text; good && *at; at++)
        good = g_ascii_isgraph(*at) && !strchr("'\"`$;|&<>(){}\\", *at);
    return good || text_refuse(text, error, "the name of a user");
}

/* A short id or an id of libosinfo's database. */
static bool check_os(const char *text, GError **error)
{
    bool good = g_ascii_isalnum(*text);

    for (const char *at = text; good && *at; at++)
        good = g_ascii_isalnum(*at) || strchr("-_.:/+", *at);
    return good || text_refuse(text, error, "the name of a guest such as debian12");
}

/* What programs look for under /dev/virtio-ports: "org.qemu.guest_agent.0". */
static bool check_port_name(const char *text, GError **error)
{
    size_t length = strlen(text);
    bool good = length >= 1 && length <= CONFIG_PORT_NAME_MAX;

    for (size_t i = 0; good && i < length; i++)
        good = g_ascii_isgraph(text[i]) && !strchr("/,=", text[i]);
    return good || text_refuse(text, error, "a name such as org.qemu.guest_agent.0");
}

/* A guest may make a file's name of it: /dev/disk/by-id/virtio-SERIAL. */
static bool check_serial(const char *text, GError **error)
{
    size_t length = strlen(text);
    bool good = length >= 1 && length <= CONFIG_SERIAL_MAX;

    for (size_t i = 0; good && i < length; i++)
        good = g_ascii_isalnum(text[i]) || strchr("-_.", text[i]);
    return good || text_refuse(text, error, "up to %d letters, digits, '-', '_' and '.'",
                               CONFIG_SERIAL_MAX);
}

static const char *const machine_choices[] = {"anima-1", NULL};
static const char *const engine_choices[] = {"auto", "kvm", "soft", NULL};
static const char *const line_choices[] = {"stdio", "pty", "file=", "socket=", "none", NULL};
static const char *const device_choices[] = {"isa-debug-exit", "pc-testdev", "pvpanic",
                                             "debugcon",       "virtio-rng", NULL};
static const char *const bus_choices[] = {"virtio", NULL};
static const char *const format_choices[] = {"raw", "qcow2", "vhd", NULL};
static const char *const cache_choices[] = {"writeback", "writethrough", "none", NULL};
static const char *const on_reboot_choices[] = {"restart", "exit", NULL};
static const char *const restart_choices[] = {"never", "on-failure", "always", NULL};
static const char *const on_crash_choices[] = {"exit", "pause", "restart", NULL};

static const char *const network_choices[] = {"user", "tap=", "bridge=", "switch=", "none", NULL};

/* What disks and network cards have in common. */
#define DEVICE_MEMBERS                                                                            \
    {                                                                                             \
        .key = "id",                                                                              \
        .type = OPTION_TYPE_STRING,                                                               \
        .argument = "ID",                                                                         \
        .check = device_check_id,                                                                 \
        .help = "what commands name it by",                                                       \
        .manual = "Without it, the first of disk0, disk1, ... (nic0, ...) that is free.",         \
    },                                                                                            \
    {                                                                                             \
        .key = "address", .type = OPTION_TYPE_STRING, .argument = "BUS:DEVICE.0",                 \
        .check = device_check_address, .help = "place on the PCI bus",                            \
        .manual = "On bus 0 a machine has 00:03.0 to 00:1b.0; there a device stays while the "    \
                  "machine runs. *anima detach* takes out what has a bus of its own, 01:00.0 to " \
                  "08:00.0. Without an address it is the next place on bus 0.",                   \
    }

static const char *const link_choices[] = {"up", "down", NULL};

/* What may be saved up of a rate. */
#define BURST_MEMBER                                                                            \
    {                                                                                           \
        .key = "burst", .type = OPTION_TYPE_INT, .argument = "MS", .preset = "100",             \
        .max = CONFIG_BURST_MAX, .live = OPTION_LIVE,                                           \
        .help = "milliseconds of a rate that may be saved up",                                  \
        .manual = "So much may pass at once after a rest; the mean stays the rate. With 1000, " \
                  "a limit of 10M lets 10 MB through before it holds back.",                    \
    }

/* A limit of a disk's. */
#define RATE_MEMBER(key_, type_, range_, help_)                                                    \
    {                                                                                              \
        .key = (key_), .type = OPTION_TYPE_##type_, .argument = "N", .min = CONFIG_##range_##_MIN, \
        .max = CONFIG_##range_##_MAX, .live = OPTION_LIVE, .help = (help_),                        \
        .manual = "Without it there is no limit.",                                                 \
    }

static const struct option nic_members[] = {
    {
        .key = "network",
        .type = OPTION_TYPE_ENUM,
        .required = true,
        .argument = "NETWORK",
        .choices = network_choices,
        .live = OPTION_LIVE,
        .help = "what the card is plugged into",
        .manual = "*user* is a network of its own by NAT, which needs no rights: 10.0.2.0/24 and "
                  "fec0::/64, with DHCP, the host as 10.0.2.2 and its resolver as 10.0.2.3. "
                  "*tap=IF* is the host's TAP interface IF, made before by *ip tuntap add dev IF "
                  "mode tap user USER*. *bridge=IF* is the host's bridge IF, on which an interface "
                  "is made; for others than root, _/etc/anima/bridge.conf_ says which. "
                  "*switch=NAME* is the network NAME, which *anima network create* defines. *none* "
                  "is a card without a cable.",
    },
    {
        .key = "mac",
        .type = OPTION_TYPE_STRING,
        .argument = "ADDRESS",
        .check = nic_check_mac,
        .help = "the card's address",
        .manual = "Without it the card has one that follows from the machine's name and the card's "
                  "number.",
    },
    {
        .key = "mtu",
        .type = OPTION_TYPE_INT,
        .argument = "BYTES",
        .min = CONFIG_NIC_MTU_MIN,
        .max = CONFIG_NIC_MTU_MAX,
        .help = "largest packet of the network",
        .manual = "The guest is told. Without it the network has 1500, as everybody assumes.",
    },
    {
        .key = "hostname",
        .type = OPTION_TYPE_STRING,
        .argument = "NAME",
        .check = nic_check_hostname,
        .help = "name that DHCP tells the guest",
        .manual =
            "On *user* and *switch=NAME*; elsewhere it has no effect. Without it, the machine's "
            "name.",
    },
    {
        .key = "forward",
        .type = OPTION_TYPE_STRING,
        .list = true,
        .argument = "FORWARD",
        .check = nic_check_forward,
        .help = "port of the host that leads to the guest",
        .live = OPTION_LIVE,
        .manual = "*tcp:* or *udp:*, then [HOSTADDR:]HOSTPORT:[GUESTADDR:]GUESTPORT, on *user*; on "
                  "another network it waits until the card is back. May be given several times. "
                  "Without HOSTADDR only this host's programs reach it (127.0.0.1); 0.0.0.0 is "
                  "every address of the host. With HOSTPORT 0 it is a port that is free, which "
                  "*anima query* tells. Connections that were made outlive their forward.",
    },
    {
        .key = "link",
        .type = OPTION_TYPE_ENUM,
        .argument = "STATE",
        .preset = "up",
        .choices = link_choices,
        .live = OPTION_LIVE,
        .help = "whether the cable is plugged in",
        .manual = "With *down* the guest sees a loose cable, whatever the card's network is.",
    },
    {
        .key = "rate",
        .type = OPTION_TYPE_SIZE,
        .argument = "BYTES",
        .min = CONFIG_RATE_MIN,
        .max = CONFIG_RATE_MAX,
        .live = OPTION_LIVE,
        .help = "most that passes in a second, in each direction",
        .manual = "Without it there is no limit.",
    },
    BURST_MEMBER,
    DEVICE_MEMBERS,
    {0},
};

static const struct option port_members[] = {
    {
        .key = "name",
        .type = OPTION_TYPE_STRING,
        .required = true,
        .argument = "NAME",
        .check = check_port_name,
        .help = "what the guest knows it by",
        .manual = "Linux shows it as /dev/virtio-ports/NAME. The QEMU guest agent waits on "
                  "org.qemu.guest_agent.0.",
    },
    {
        .key = "socket",
        .type = OPTION_TYPE_PATH,
        .argument = "FILE",
        .help = "a Unix socket that listens for one client at a time",
        .manual = "The guest sees clients come and go.",
    },
    {
        .key = "file",
        .type = OPTION_TYPE_PATH,
        .argument = "FILE",
        .help = "a file that takes what the guest sends",
    },
    {
        .key = "pty",
        .type = OPTION_TYPE_BOOL,
        .argument = "YES|NO",
        .preset = "no",
        .help = "a new pseudo-terminal, whose name is told",
    },
    {0},
};

static const struct option disk_members[] = {
    {
        .key = "file",
        .type = OPTION_TYPE_PATH,
        .required = true,
        .argument = "FILE",
        .help = "a file or a block device",
        .manual = "Its size is a multiple of 512 bytes. No other machine can have it at the same "
                  "time, unless both only read it; QEMU keeps to the same locks.",
    },
    {
        .key = "readonly",
        .type = OPTION_TYPE_BOOL,
        .argument = "YES|NO",
        .preset = "no",
        .help = "the guest may not write",
    },
    {
        .key = "serial",
        .type = OPTION_TYPE_STRING,
        .argument = "TEXT",
        .check = check_serial,
        .help = "serial number that the guest sees",
    },
    {
        .key = "bus",
        .type = OPTION_TYPE_ENUM,
        .argument = "BUS",
        .preset = "virtio",
        .choices = bus_choices,
        .help = "what the guest sees it on",
    },
    {
        .key = "format",
        .type = OPTION_TYPE_ENUM,
        .argument = "FORMAT",
        .preset = "raw",
        .choices = format_choices,
        .help = "how the file holds the disk",
        .manual =
            "In a *raw* file the bytes are the disk's. *qcow2* is QEMU's; one that needs a backing "
            "file is refused. *vhd* is Virtual PC's and Xen's, fixed or dynamic. Neither of the "
            "two "
            "takes *cache=none*. The format is never guessed.",
    },
    {
        .key = "cache",
        .type = OPTION_TYPE_ENUM,
        .argument = "MODE",
        .preset = "writeback",
        .choices = cache_choices,
        .help = "where writes may lie until the guest flushes",
        .manual = "With *writeback* in the host's memory, with *none* in the disk's own (direct "
                  "I/O), with *writethrough* nowhere: a write is done when it is on stable "
                  "storage.",
    },
    {
        .key = "discard",
        .type = OPTION_TYPE_BOOL,
        .argument = "YES|NO",
        .preset = "yes",
        .help = "give room that the guest frees back to the host",
    },
    RATE_MEMBER("bps", SIZE, RATE, "bytes that move in a second"),
    RATE_MEMBER("bps-read", SIZE, RATE, "bytes that are read in a second"),
    RATE_MEMBER("bps-write", SIZE, RATE, "bytes that are written in a second"),
    RATE_MEMBER("iops", INT, IOPS, "operations in a second"),
    RATE_MEMBER("iops-read", INT, IOPS, "reads in a second"),
    RATE_MEMBER("iops-write", INT, IOPS, "writes and discards in a second"),
    BURST_MEMBER,
    DEVICE_MEMBERS,
    {0},
};

const struct option options[OPTION_COUNT + 1] = {
    [OPTION_MACHINE] =
        {
            .key = "machine",
            .type = OPTION_TYPE_ENUM,
            .argument = "VERSION",
            .preset = "anima-1",
            .choices = machine_choices,
            .help = "version of the machine's layout",
            .manual = "A machine keeps its version for life, so that it is the same tomorrow.",
        },
    [OPTION_NAME] =
        {
            .key = "name",
            .type = OPTION_TYPE_STRING,
            .argument = "NAME",
            .check = check_name,
            .help = "name of the machine",
            .manual = "Other commands find the running machine by it. Without a name it gets one "
                      "from the number of its process.",
        },
    [OPTION_OS] =
        {
            .key = "os",
            .type = OPTION_TYPE_STRING,
            .argument = "GUEST",
            .check = check_os,
            .live = OPTION_LIVE_KEPT,
            .help = "what the guest is: debian12, win11 and so on",
            .manual =
                "*anima create* and *run* then take memory, CPUs and further devices that were "
                "not given from the database of osinfo-db, and say what the guest brings no "
                "drivers for. *osinfo-query os* lists the names.",
        },
    [OPTION_ENGINE] =
        {
            .key = "engine",
            .type = OPTION_TYPE_ENUM,
            .argument = "ENGINE",
            .preset = "auto",
            .choices = engine_choices,
            .help = "what runs the CPUs",
            .manual = "*kvm* is the kernel's, *soft* is Anima's own software CPU. *auto* takes "
                      "*kvm* where it runs guest kernels in hardware and says which it took.",
        },
    [OPTION_CPU] =
        {
            .key = "cpu",
            .type = OPTION_TYPE_STRING,
            .argument = "MODEL",
            .preset = "default",
            .help = "model of the CPUs",
            .manual =
                "*default* is the best generic level that the host has. *anima create* writes "
                "down which that is, and its version, so that the guest finds the same "
                "processor tomorrow and on another host; one that cannot give it says what "
                "it lacks. An unknown model is refused with the list of those that there "
                "are.",
        },
    [OPTION_CPUS] =
        {
            .key = "cpus",
            .type = OPTION_TYPE_INT,
            .argument = "N",
            .preset = "1",
            .min = 1,
            .max = CONFIG_CPUS_MAX,
            .help = "number of CPUs",
        },
    [OPTION_MEMORY] =
        {
            .key = "memory",
            .type = OPTION_TYPE_SIZE,
            .argument = "SIZE",
            .preset = "512M",
            .min = CONFIG_MEMORY_MIN,
            .max = CONFIG_MEMORY_MAX,
            .align = CONFIG_MEMORY_ALIGN,
            .help = "size of RAM",
            .manual = "It may not be more than the host's own memory and swap.",
        },
    [OPTION_KERNEL] =
        {
            .key = "kernel",
            .type = OPTION_TYPE_PATH,
            .argument = "FILE",
            .help = "kernel to boot directly",
            .manual = "A Linux bzImage, an ELF kernel with a PVH entry, or a multiboot 1 kernel.",
        },
    [OPTION_INITRD] =
        {
            .key = "initrd",
            .type = OPTION_TYPE_PATH,
            .argument = "FILE",
            .help = "initial RAM disk for the kernel",
        },
    [OPTION_MODULE] =
        {
            .key = "module",
            .type = OPTION_TYPE_STRING,
            .list = true,
            .argument = "\"FILE ARGS\"",
            .help = "module for a multiboot kernel",
            .manual = "The file's name, then after a space the module's command line. A file's "
                      "name in *vm.yaml* is relative to that file's folder.",
        },
    [OPTION_APPEND] =
        {
            .key = "append",
            .type = OPTION_TYPE_STRING,
            .argument = "TEXT",
            .help = "command line of the kernel",
        },
    [OPTION_DISK] =
        {
            .key = "disk",
            .type = OPTION_TYPE_GROUP,
            .list = true,
            .argument = "FILE[,..]",
            .members = disk_members,
            .help = "a disk",
            .manual = "Linux calls the first vda. A machine has up to 16.",
        },
    [OPTION_SERIAL] =
        {
            .key = "serial",
            .type = OPTION_TYPE_ENUM,
            .argument = "WHERE",
            .preset = "stdio",
            .choices = line_choices,
            .choice_is_path = true,
            .help = "where the first serial line goes",
            .manual = "*stdio* is the terminal of *anima run*, where Ctrl-] ends the machine; "
                      "*pty* a new pseudo-terminal, whose name is told; *file=F* a file that "
                      "takes the output; *socket=F* a Unix socket that listens for one client "
                      "at a time.",
        },
    [OPTION_CONSOLE] =
        {
            .key = "console",
            .type = OPTION_TYPE_ENUM,
            .argument = "WHERE",
            .preset = "none",
            .choices = line_choices,
            .choice_is_path = true,
            .help = "where a virtio console goes",
            .manual = "Linux calls it hvc0. The places are those of *--serial*; only one of the "
                      "two can have *stdio*.",
        },
    [OPTION_PORT] =
        {
            .key = "port",
            .type = OPTION_TYPE_GROUP,
            .list = true,
            .argument = "NAME,socket=FILE",
            .members = port_members,
            .help = "a named virtio port between programs of guest and host",
            .manual = "Each leads to one place. A machine has up to 30.",
        },
    [OPTION_AGENT] =
        {
            .key = "agent",
            .type = OPTION_TYPE_BOOL,
            .argument = "YES|NO",
            .preset = "no",
            .help = "a port for the guest's agent",
            .manual =
                "By it *anima guest* asks the package _qemu-guest-agent_ in the guest, on the "
                "port " CONFIG_AGENT_PORT ". After a long pause, and when it goes on from a "
                "saved state, the guest's time of day is set by it.",
        },
    [OPTION_NIC] =
        {
            .key = "nic",
            .type = OPTION_TYPE_GROUP,
            .list = true,
            .argument = "NETWORK[,..]",
            .members = nic_members,
            .help = "a network card",
            .manual = "A virtio card; a machine has up to 8. They come first on the PCI bus, so "
                      "that the first is enp0s3 for Linux whatever else there is.",
        },
    [OPTION_DEVICE] =
        {
            .key = "device",
            .type = OPTION_TYPE_ENUM,
            .list = true,
            .separator = ',',
            .argument = "NAME[,..]",
            .choices = device_choices,
            .help = "further devices",
            .manual = "With *isa-debug-exit* (port 0xf4) a guest that writes V ends the machine "
                      "with status (V << 1) | 1. *pc-testdev* stands beside it for test kernels. "
                      "*pvpanic* lets a guest report its crash. *debugcon* (port 0xe9) writes to "
                      "standard error. *virtio-rng* gives the guest random numbers of the host's.",
        },
    [OPTION_RNG_RATE] =
        {
            .key = "rng-rate",
            .type = OPTION_TYPE_SIZE,
            .argument = "SIZE",
            .preset = "1M",
            .min = 1,
            .max = CONFIG_RNG_RATE_MAX,
            .help = "bytes that virtio-rng gives in a second",
        },
    [OPTION_CPU_LIMIT] =
        {
            .key = "cpu-limit",
            .type = OPTION_TYPE_INT,
            .argument = "PERCENT",
            .min = 1,
            .max = CONFIG_CPU_LIMIT_MAX,
            .help = "how much of the host's processors the machine may have",
            .manual =
                "All of its processes together: 150 is one and a half processors. A limit that "
                "cannot be set is an error; see *SYSTEMD* for where it can.",
        },
    [OPTION_CPU_WEIGHT] =
        {
            .key = "cpu-weight",
            .type = OPTION_TYPE_INT,
            .argument = "N",
            .min = 1,
            .max = CONFIG_CPU_WEIGHT_MAX,
            .help = "its share when others want the processors too",
            .manual = "Others have 100 unless they say otherwise.",
        },
    [OPTION_MEMORY_LIMIT] =
        {
            .key = "memory-limit",
            .type = OPTION_TYPE_SIZE,
            .argument = "SIZE",
            .min = CONFIG_MEMORY_MIN,
            .max = 2 * CONFIG_MEMORY_MAX,
            .help = "how much of the host's memory the machine may have",
            .manual =
                "All of its processes together: the guest's memory, some 30M, and with the "
                "software CPU as much again as it is given for translated code. A machine that "
                "wants more is killed.",
        },
    [OPTION_ON_REBOOT] =
        {
            .key = "on-reboot",
            .type = OPTION_TYPE_ENUM,
            .argument = "ACTION",
            .preset = "restart",
            .choices = on_reboot_choices,
            .live = OPTION_LIVE,
            .help = "what follows when the guest reboots",
        },
    [OPTION_ON_CRASH] =
        {
            .key = "on-crash",
            .type = OPTION_TYPE_ENUM,
            .argument = "ACTION",
            .preset = "exit",
            .choices = on_crash_choices,
            .live = OPTION_LIVE,
            .help = "what follows when the guest crashes",
            .manual = "A crash is a triple fault, or a report by *pvpanic*.",
        },
    [OPTION_RESTART] =
        {
            .key = "restart",
            .type = OPTION_TYPE_ENUM,
            .argument = "WHEN",
            .preset = "never",
            .choices = restart_choices,
            .live = OPTION_LIVE,
            .help = "whether the machine is started again when it has ended",
            .manual =
                "*on-failure*: when the guest's crash has ended it (*--on-crash exit*), or its "
                "processes have died; *always*: also when the guest has powered off. Not "
                "after *anima stop* or *kill*. It waits a second before the first attempt, "
                "twice as long before each further one, up to a minute, and anew from a "
                "second when it has lived for a minute.",
        },
    [OPTION_STOP_TIMEOUT] =
        {
            .key = "stop-timeout",
            .type = OPTION_TYPE_INT,
            .argument = "SECONDS",
            .preset = "90",
            .max = CONFIG_STOP_TIMEOUT_MAX,
            .live = OPTION_LIVE_KEPT,
            .help = "how long the guest has to power off",
            .manual = "When *anima stop* waits for its end, as it does when the host goes down: "
                      "then the machine is killed.",
        },
    [OPTION_AUTOSTART] =
        {
            .key = "autostart",
            .type = OPTION_TYPE_BOOL,
            .argument = "YES|NO",
            .preset = "no",
            .live = OPTION_LIVE_KEPT,
            .help = "start with the host",
            .manual = "By *anima start --autostart*, which the unit _anima.service_ of systemd "
                      "calls; see *SYSTEMD*.",
        },
    [OPTION_START_ORDER] =
        {
            .key = "start-order",
            .type = OPTION_TYPE_INT,
            .argument = "N",
            .preset = "100",
            .max = CONFIG_START_ORDER_MAX,
            .live = OPTION_LIVE_KEPT,
            .help = "its turn among those that start with the host",
            .manual = "Lower ones start first and are stopped last.",
        },
    [OPTION_START_DELAY] =
        {
            .key = "start-delay",
            .type = OPTION_TYPE_INT,
            .argument = "SECONDS",
            .preset = "0",
            .max = CONFIG_START_DELAY_MAX,
            .live = OPTION_LIVE_KEPT,
            .help = "wait behind it before the next one starts with the host",
        },
    [OPTION_SSH_USER] =
        {
            .key = "ssh-user",
            .type = OPTION_TYPE_STRING,
            .argument = "NAME",
            .check = check_ssh_user,
            .help = "whom 'anima ssh' logs in as",
            .manual = "*anima create --cloud-image* sets it.",
        },
    [OPTION_SSH_IDENTITY] =
        {
            .key = "ssh-identity",
            .type = OPTION_TYPE_PATH,
            .argument = "FILE",
            .help = "private key that 'anima ssh' shows",
            .manual = "Without it, what *ssh*(1) has for every host.",
        },
    [OPTION_STATE] =
        {
            .key = "state",
            .type = OPTION_TYPE_PATH,
            .argument = "FILE",
            .help = "go on from a state that 'anima state save' wrote",
            .manual =
                "The definition is the one in the file, and other options change it: where its "
                "lines lead, or the engine. Disks must be as they were. Run only a state that "
                "you trust: it names files of yours.",
        },
    [OPTION_PAUSED] =
        {
            .key = "paused",
            .type = OPTION_TYPE_BOOL,
            .argument = "YES|NO",
            .preset = "no",
            .help = "do not run before 'anima resume' or a debugger says so",
        },
    [OPTION_GDB] =
        {
            .key = "gdb",
            .type = OPTION_TYPE_PATH,
            .argument = "SOCKET",
            .help = "Unix socket on which GDB is awaited",
            .manual = "In GDB: *target remote SOCKET*.",
        },
};
