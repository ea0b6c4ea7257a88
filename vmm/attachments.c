// SPDX-License-Identifier: Apache-2.0
/*
 * Sorting descriptors by name.
 */
#include "vmm/attachments.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/devices.h"
#include "config/limits.h"
#include "config/nics.h"
#include "vmm/block/block.h"

#define LINE_PREFIX   "line/"
#define DEVICE_PREFIX "device/" /* of descriptors */

_Static_assert(CONFIG_LIST_MAX <= MACHINE_MODULES_MAX, "every module of a definition has a place");

void attachments_init(struct attachments *attachments)
{
    *attachments = (struct attachments){.kernel = -1,
                                        .initrd = -1,
                                        .gdb = -1,
                                        .kvm = -1,
                                        .incoming = -1,
                                        .agent_fd = -1,
                                        .ram = -1,
                                        .soft_log = -1,
                                        .perf_map = -1};
    memset(attachments->disk_fds, -1, sizeof(attachments->disk_fds));
    memset(attachments->nic_fds, -1, sizeof(attachments->nic_fds));
}

/* The place of a disk's or a card's descriptor, by the device's id. */
static int *find_device(struct attachments *attachments, const struct definition *definition,
                        const char *id)
{
    struct device_place place;
    int *fd = NULL;

    if (!definition_find_device(definition, id, &place))
        return NULL;
    if (place.kind == OPTION_DISK && place.index < CONFIG_DISKS_MAX)
        fd = &attachments->disk_fds[place.index];
    if (place.kind == OPTION_NIC && place.index < CONFIG_NICS_MAX)
        fd = &attachments->nic_fds[place.index];
    return fd && *fd < 0 ? fd : NULL;
}

/* The place for a descriptor called `name`; NULL when it has none or is taken. */
static int *find_place(struct attachments *attachments, const struct definition *definition,
                       const char *name)
{
    int *place = NULL;

    if (strcmp(name, "module") == 0 && attachments->module_count < MACHINE_MODULES_MAX)
        return &attachments->modules[attachments->module_count++];
    if (strcmp(name, "line") == 0 && attachments->line_count < LINES_MAX)
        return &attachments->line_fds[attachments->line_count++];
    if (g_str_has_prefix(name, DEVICE_PREFIX))
        return find_device(attachments, definition, name + strlen(DEVICE_PREFIX));
    if (strcmp(name, "kernel") == 0)
        place = &attachments->kernel;
    else if (strcmp(name, "initrd") == 0)
        place = &attachments->initrd;
    else if (strcmp(name, "gdb") == 0)
        place = &attachments->gdb;
    else if (strcmp(name, "kvm") == 0)
        place = &attachments->kvm;
    else if (strcmp(name, "state") == 0)
        place = &attachments->incoming;
    else if (strcmp(name, "ram") == 0)
        place = &attachments->ram;
    else if (strcmp(name, "soft-log") == 0)
        place = &attachments->soft_log;
    else if (strcmp(name, "perf-map") == 0)
        place = &attachments->perf_map;
    return place && *place < 0 ? place : NULL;
}

/* Whether each disk, and each card with a cable, has a descriptor. */
static bool devices_fit(const struct attachments *attachments, const struct definition *definition)
{
    unsigned disks = definition_count(definition, OPTION_DISK);
    unsigned nics = definition_count(definition, OPTION_NIC);
    bool fit = disks <= CONFIG_DISKS_MAX && nics <= CONFIG_NICS_MAX;

    for (unsigned i = 0; fit && i < disks; i++)
        fit = attachments->disk_fds[i] >= 0;
    for (unsigned i = 0; fit && i < nics; i++)
        fit = (attachments->nic_fds[i] >= 0) == (definition_nic(definition, i).network != NIC_NONE);
    return fit;
}

static bool fits(const struct attachments *attachments, const struct definition *definition)
{
    struct line lines[LINES_MAX];

    return (attachments->kernel >= 0) == (definition_text(definition, OPTION_KERNEL) != NULL) &&
           (attachments->initrd >= 0) == (definition_text(definition, OPTION_INITRD) != NULL) &&
           (attachments->gdb >= 0) == (definition_text(definition, OPTION_GDB) != NULL) &&
           (attachments->incoming >= 0) ==
               (attachments->ram >= 0 || definition_text(definition, OPTION_STATE)) &&
           attachments->module_count == definition_count(definition, OPTION_MODULE) &&
           attachments->line_count == definition_lines(definition, lines) &&
           devices_fit(attachments, definition);
}

bool attachments_take(struct attachments *attachments, const struct definition *definition,
                      const json_t *names, int *fds, unsigned count, GError **error)
{
    bool good = json_array_size(names) == count;

    attachments_init(attachments);
    for (unsigned i = 0; good && i < count; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        int *place = name ? find_place(attachments, definition, name) : NULL;

        good = place != NULL;
        if (good) {
            *place = fds[i];
            fds[i] = -1;
        }
    }
    if (good && fits(attachments, definition))
        return true;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                "the descriptors do not fit the definition");
    return false;
}

static void close_all(int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

static bool open_lines(struct attachments *attachments, const struct definition *definition,
                       GError **error)
{
    struct line lines[LINES_MAX];

    definition_lines(definition, lines);
    for (unsigned i = 0; i < attachments->line_count; i++) {
        int fd = attachments->line_fds[i];
        const struct chardev_fd_config config = {
            .name = lines[i].name,
            .in = lines[i].place == LINE_FILE ? -1 : fd,
            .out = fd,
            .listen = lines[i].place == LINE_SOCKET,
            .reopens = lines[i].place == LINE_PTY,
            .suspended = attachments->ram >= 0,
        };

        attachments->line_fds[i] = -1;
        attachments->lines[i] = chardev_fd_create(&config, error);
        if (!attachments->lines[i])
            return false;
    }
    return true;
}

/* Port E9h goes to standard error, which the monitor reads line by line. */
static bool open_debug_console(struct attachments *attachments, const struct definition *definition,
                               GError **error)
{
    struct chardev_fd_config config = {.name = "debugcon", .in = -1, .out = -1};

    if (!definition_lists(definition, OPTION_DEVICE, "debugcon"))
        return true;
    config.out = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    config.suspended = attachments->ram >= 0;
    attachments->debug_console = chardev_fd_create(&config, error);
    return attachments->debug_console != NULL;
}

static bool open_agent(struct attachments *attachments, GError **error)
{
    const struct chardev_fd_config config = {
        .name = "agent",
        .in = attachments->agent_fd,
        .out = attachments->agent_fd,
        .suspended = attachments->ram >= 0,
    };

    if (config.in < 0)
        return true;
    attachments->agent_fd = -1;
    attachments->agent = chardev_fd_create(&config, error);
    return attachments->agent != NULL;
}

bool attachments_open_lines(struct attachments *attachments, const struct definition *definition,
                            GError **error)
{
    return open_lines(attachments, definition, error) &&
           open_debug_console(attachments, definition, error) && open_agent(attachments, error);
}

/* ---- disks and network cards ---- */

static struct block *create_node(const struct block_config *config, const char *format,
                                 GError **error)
{
    if (g_str_equal(format, "vhd"))
        return block_vhd_create(config, error);
    if (g_str_equal(format, "qcow2"))
        return block_qcow2_create(config, error);
    return block_raw_create(config, error);
}

bool attachments_activate_disks(struct attachments *attachments, GError **error)
{
    bool good = true;

    for (unsigned i = 0; i < CONFIG_DISKS_MAX; i++)
        if (attachments->disks[i] && !block_activate(attachments->disks[i], good ? error : NULL))
            good = false;
    return good;
}

struct block_limits attachments_disk_limits(const struct definition *definition, unsigned index)
{
    static const char *const bytes[] = {"bps", "bps-read", "bps-write"};
    static const char *const operations[] = {"iops", "iops-read", "iops-write"};
    uint64_t burst_ms = definition_member_number(definition, OPTION_DISK, index, "burst");
    struct block_limits limits = {.burst_ns = (int64_t)burst_ms * (NS_PER_SECOND / 1000)};

    for (unsigned i = 0; i < BLOCK_LIMITS; i++) {
        limits.bytes[i] = definition_member_number(definition, OPTION_DISK, index, bytes[i]);
        limits.operations[i] =
            definition_member_number(definition, OPTION_DISK, index, operations[i]);
    }
    return limits;
}

static bool is_limited(const struct block_limits *limits)
{
    for (unsigned i = 0; i < BLOCK_LIMITS; i++)
        if (limits->bytes[i] || limits->operations[i])
            return true;
    return false;
}

/* NULL is fine. */
static void close_disk(struct block *disk)
{
    g_autoptr(GError) error = NULL;

    if (disk && !block_deactivate(disk, &error))
        g_message("%s", error->message);
    block_destroy(disk);
}

bool attachments_deactivate_disks(struct attachments *attachments, GError **error)
{
    bool good = true;

    for (unsigned i = 0; i < CONFIG_DISKS_MAX; i++)
        if (attachments->disks[i] && !block_deactivate(attachments->disks[i], good ? error : NULL))
            good = false;
    return good;
}

static bool open_disk(struct attachments *attachments, const struct definition *definition,
                      unsigned index, struct loop *loop, GError **error)
{
    const struct block_config config = {
        .fd = attachments->disk_fds[index],
        .name = definition_member_text(definition, OPTION_DISK, index, "file"),
        .readonly = definition_member_number(definition, OPTION_DISK, index, "readonly"),
        .loop = loop,
    };
    struct block_limits limits = attachments_disk_limits(definition, index);

    attachments->disks[index] = create_node(
        &config, definition_member_text(definition, OPTION_DISK, index, "format"), error);
    if (!attachments->disks[index])
        return false;
    attachments->disk_fds[index] = -1;
    return !is_limited(&limits) || block_set_limits(attachments->disks[index], &limits, error);
}

bool attachments_open_disks(struct attachments *attachments, const struct definition *definition,
                            struct loop *loop, GError **error)
{
    for (unsigned i = 0; i < definition_count(definition, OPTION_DISK); i++)
        if (!open_disk(attachments, definition, i, loop, error))
            return false;
    /* The vmm whose place is taken still has them. */
    return attachments->ram >= 0 || attachments_activate_disks(attachments, error);
}

/* A TAP is a device, all others are sockets; a network that machines share may be either. */
static enum net_link_kind kind_of(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) ? NET_LINK_TAP : NET_LINK_PACKETS;
}

struct net_link *attachments_link(const struct definition *definition, unsigned card, int fd,
                                  GError **error)
{
    const struct net_link_config config = {
        .kind = kind_of(fd),
        .mtu = definition_nic(definition, card).mtu,
        .fd = fd,
        .name = definition_device_id(definition, OPTION_NIC, card),
    };

    return net_link_create(&config, error);
}

static bool open_link(struct attachments *attachments, const struct definition *definition,
                      unsigned index, GError **error)
{
    int fd = attachments->nic_fds[index];

    if (definition_nic(definition, index).network == NIC_NONE)
        return true;
    attachments->nic_fds[index] = -1;
    attachments->links[index] = attachments_link(definition, index, fd, error);
    return attachments->links[index];
}

bool attachments_open_links(struct attachments *attachments, const struct definition *definition,
                            GError **error)
{
    for (unsigned i = 0; i < definition_count(definition, OPTION_NIC); i++)
        if (!open_link(attachments, definition, i, error))
            return false;
    return true;
}

bool attachments_add(struct attachments *attachments, const struct definition *definition,
                     const struct device_place *place, int *fds, unsigned count, struct loop *loop,
                     GError **error)
{
    bool disk = place->kind == OPTION_DISK;
    bool wanted = disk || definition_nic(definition, place->index).network != NIC_NONE;

    if (count != wanted) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                    "the descriptors do not fit the device");
        return false;
    }
    if (count) {
        *(disk ? &attachments->disk_fds[place->index] : &attachments->nic_fds[place->index]) =
            fds[0];
        fds[0] = -1;
    }
    if (!disk)
        return open_link(attachments, definition, place->index, error);
    return open_disk(attachments, definition, place->index, loop, error) &&
           block_activate(attachments->disks[place->index], error);
}

void attachments_remove(struct attachments *attachments, enum option_id kind, unsigned index)
{
    if (kind == OPTION_DISK) {
        size_t behind = CONFIG_DISKS_MAX - index - 1;

        close_disk(attachments->disks[index]);
        close_all(&attachments->disk_fds[index], 1);
        memmove(&attachments->disks[index], &attachments->disks[index + 1],
                behind * sizeof(attachments->disks[0]));
        attachments->disks[CONFIG_DISKS_MAX - 1] = NULL;
    } else {
        size_t behind = CONFIG_NICS_MAX - index - 1;

        net_link_destroy(attachments->links[index]);
        close_all(&attachments->nic_fds[index], 1);
        memmove(&attachments->links[index], &attachments->links[index + 1],
                behind * sizeof(attachments->links[0]));
        attachments->links[CONFIG_NICS_MAX - 1] = NULL;
    }
}

/* ---- going and coming ---- */

/* The character device number `number`, or NULL. */
static struct chardev *chardev_at(const struct attachments *attachments, uint64_t number)
{
    if (number < attachments->line_count)
        return attachments->lines[number];
    if (number == attachments->line_count)
        return attachments->debug_console;
    return number == attachments->line_count + 1 ? attachments->agent : NULL;
}

void attachments_suspend_lines(struct attachments *attachments)
{
    for (unsigned i = 0; i < ATTACHMENTS_CHARDEVS; i++)
        if (chardev_at(attachments, i))
            chardev_suspend(chardev_at(attachments, i));
}

void attachments_resume_lines(struct attachments *attachments)
{
    for (unsigned i = 0; i < ATTACHMENTS_CHARDEVS; i++)
        if (chardev_at(attachments, i))
            chardev_resume(chardev_at(attachments, i));
}

json_t *attachments_clients(const struct attachments *attachments, int fds[ATTACHMENTS_CHARDEVS],
                            unsigned *count)
{
    json_t *numbers = json_array();

    *count = 0;
    for (unsigned i = 0; i < ATTACHMENTS_CHARDEVS; i++) {
        const struct chardev *chardev = chardev_at(attachments, i);
        int fd = chardev ? chardev_client(chardev) : -1;

        if (fd < 0)
            continue;
        fds[(*count)++] = fd;
        json_array_append_new(numbers, json_integer(i));
    }
    return numbers;
}

bool attachments_adopt_clients(struct attachments *attachments, const json_t *numbers, int *fds,
                               unsigned count, GError **error)
{
    bool good = json_array_size(numbers) == count;

    for (unsigned i = 0; good && i < count; i++) {
        json_t *number = json_array_get(numbers, i);
        struct chardev *chardev =
            json_is_integer(number) ? chardev_at(attachments, (uint64_t)json_integer_value(number))
                                    : NULL;

        good = chardev && chardev_adopt_client(chardev, fds[i]);
        if (good)
            fds[i] = -1;
    }
    if (!good)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                    "the clients that came along do not fit the machine's lines");
    return good;
}

bool attachments_save_lines(void *opaque, struct stream_writer *writer, GError **error)
{
    const struct attachments *attachments = opaque;

    for (unsigned i = 0; i < ATTACHMENTS_CHARDEVS; i++) {
        g_autofree char *name = g_strdup_printf(LINE_PREFIX "%u", i);
        g_autoptr(GBytes) pending = NULL;
        gsize size;

        if (!chardev_at(attachments, i))
            continue;
        pending = chardev_pending(chardev_at(attachments, i));
        const void *data = g_bytes_get_data(pending, &size);
        if (size && !stream_write(writer, name, 1, 0, data, size, error))
            return false;
    }
    return true;
}

enum stream_verdict attachments_load_line(void *opaque, const struct stream_section *section,
                                          GError **error)
{
    gsize size;
    const void *data = g_bytes_get_data(section->content, &size);
    struct chardev *chardev = NULL;
    guint64 number;

    if (g_str_has_prefix(section->name, LINE_PREFIX) && section->version == 1 &&
        g_ascii_string_to_unsigned(section->name + strlen(LINE_PREFIX), 10, 0,
                                   ATTACHMENTS_CHARDEVS - 1, &number, NULL))
        chardev = chardev_at(opaque, number);
    if (!chardev)
        return STREAM_UNKNOWN;
    if (chardev_write(chardev, data, size) == size)
        return STREAM_TAKEN;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                "%s: more output is pending than its buffer holds", section->name);
    return STREAM_FAILED;
}

void attachments_finish(struct attachments *attachments)
{
    for (unsigned i = 0; i < attachments->line_count; i++)
        chardev_destroy(g_steal_pointer(&attachments->lines[i]));
    chardev_destroy(g_steal_pointer(&attachments->debug_console));
    chardev_destroy(g_steal_pointer(&attachments->agent));
    for (unsigned i = 0; i < CONFIG_DISKS_MAX; i++)
        close_disk(g_steal_pointer(&attachments->disks[i]));
    close_all(&attachments->kernel, 1);
    close_all(&attachments->initrd, 1);
    close_all(&attachments->gdb, 1);
    close_all(&attachments->kvm, 1);
    close_all(&attachments->incoming, 1);
    close_all(&attachments->agent_fd, 1);
    close_all(&attachments->ram, 1);
    close_all(&attachments->soft_log, 1);
    close_all(&attachments->perf_map, 1);
    close_all(attachments->modules, attachments->module_count);
    close_all(attachments->line_fds, attachments->line_count);
    close_all(attachments->disk_fds, CONFIG_DISKS_MAX);
    close_all(attachments->nic_fds, CONFIG_NICS_MAX);
    for (unsigned i = 0; i < CONFIG_NICS_MAX; i++)
        net_link_destroy(g_steal_pointer(&attachments->links[i]));
    attachments->module_count = attachments->line_count = 0;
}
