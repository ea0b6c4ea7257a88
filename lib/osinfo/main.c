// SPDX-License-Identifier: Apache-2.0
/*
 * anima-osinfo GUEST: what an operating system wants of a machine, by libosinfo's database.
 *
 * A program of its own, since libosinfo brings two dozen libraries and reads hundreds of files,
 * which no other command shall pay for. It does so in a sandbox that lets it read those files
 * alone. GUEST is a short id ("debian12") or an id of the database. On standard output is a JSON
 * object: "id", "name", and where the database says so "cpus", "memory" (bytes) and "drivers", a
 * list of the virtio devices that the system can use as it is installed: "disk", "nic", "console",
 * "rng". A guest that is unknown is told on standard error, with status 1.
 */
#include <errno.h>
#include <jansson.h>
#include <osinfo/osinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/schema.h"
#include "vmm/monitor/sandbox.h"
#include "vmm/util/log.h"

#define ADDITIONS     "/proc/self/cwd"
#define VENDOR_VIRTIO "1af4" /* PCI's number of it, as text */

/* PCI device ids of virtio 1.x and of the transitional devices (virtio 1.2, sections 4.1.2.1 and
 * 5). */
static const struct {
    const char *kind, *modern, *transitional;
} drivers[] = {
    {"disk", "1042", "1001"},
    {"nic", "1041", "1000"},
    {"console", "1043", "1003"},
    {"rng", "1044", "1005"},
};

static OsinfoOs *find_short(OsinfoOsList *list, const char *name)
{
    GList *all = osinfo_list_get_elements(OSINFO_LIST(list));
    OsinfoOs *found = NULL;

    for (GList *at = all; at && !found; at = at->next) {
        const char *id = osinfo_product_get_short_id(at->data);

        if (id && g_str_equal(id, name))
            found = g_object_ref(at->data);
    }
    g_list_free(all);
    return found;
}

/* By short id or id; NULL when the database has none. The caller drops the reference. */
static OsinfoOs *find(OsinfoDb *db, const char *name)
{
    g_autoptr(OsinfoOsList) list = osinfo_db_get_os_list(db);
    OsinfoOs *os = osinfo_db_get_os(db, name);

    return os ? g_object_ref(os) : find_short(list, name);
}

static char *nearest(OsinfoDb *db, const char *name)
{
    g_autoptr(OsinfoOsList) list = osinfo_db_get_os_list(db);
    GList *all = osinfo_list_get_elements(OSINFO_LIST(list));
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    for (GList *at = all; at; at = at->next) {
        const char *id = osinfo_product_get_short_id(at->data);

        if (id)
            g_ptr_array_add(names, g_strdup(id));
    }
    g_list_free(all);
    g_ptr_array_add(names, NULL);
    return g_strdup(word_nearest(name, (const char *const *)names->pdata));
}

/* ---- what it wants ---- */

static bool is_for_us(OsinfoResources *resources)
{
    const char *architecture = osinfo_resources_get_architecture(resources);

    return g_str_equal(architecture, "x86_64") || g_str_equal(architecture, "all");
}

/* The first of the list that says anything of `value`; negative: none does. */
static gint64 look_up(OsinfoResourcesList *list, gint64 (*value)(OsinfoResources *resources))
{
    GList *all = osinfo_list_get_elements(OSINFO_LIST(list));
    gint64 found = -1;

    for (GList *at = all; at && found < 0; at = at->next)
        if (is_for_us(at->data))
            found = value(at->data);
    g_list_free(all);
    return found;
}

static gint64 cpus_of(OsinfoResources *resources)
{
    return osinfo_resources_get_n_cpus(resources);
}

/* What is recommended, or no less than the minimum; negative when nothing is said. */
static gint64 wanted(OsinfoOs *os, gint64 (*value)(OsinfoResources *resources))
{
    g_autoptr(OsinfoResourcesList) minimum = osinfo_os_get_minimum_resources(os);
    g_autoptr(OsinfoResourcesList) recommended = osinfo_os_get_recommended_resources(os);

    return MAX(look_up(recommended, value), look_up(minimum, value));
}

static json_t *describe_drivers(OsinfoOs *os)
{
    g_autoptr(OsinfoFilter) filter = osinfo_filter_new();
    g_autoptr(OsinfoDeviceList) devices = NULL;
    json_t *list = json_array();
    GList *all;

    osinfo_filter_add_constraint(filter, OSINFO_DEVICE_PROP_VENDOR_ID, VENDOR_VIRTIO);
    devices = osinfo_os_get_all_devices(os, filter);
    all = osinfo_list_get_elements(OSINFO_LIST(devices));
    for (unsigned i = 0; i < G_N_ELEMENTS(drivers); i++)
        for (GList *at = all; at; at = at->next) {
            const char *product = osinfo_device_get_product_id(at->data);

            if (!product || (g_ascii_strcasecmp(product, drivers[i].modern) != 0 &&
                             g_ascii_strcasecmp(product, drivers[i].transitional) != 0))
                continue;
            json_array_append_new(list, json_string(drivers[i].kind));
            break;
        }
    g_list_free(all);
    return list;
}

static void describe(OsinfoOs *os)
{
    const char *name = osinfo_product_get_name(OSINFO_PRODUCT(os));
    gint64 cpus = wanted(os, cpus_of), memory = wanted(os, osinfo_resources_get_ram);
    json_t *guest = json_object();

    json_object_set_new(guest, "id", json_string(osinfo_entity_get_id(OSINFO_ENTITY(os))));
    if (name)
        json_object_set_new(guest, "name", json_string(name));
    if (cpus > 0)
        json_object_set_new(guest, "cpus", json_integer(cpus));
    if (memory > 0)
        json_object_set_new(guest, "memory", json_integer(memory));
    json_object_set_new(guest, "drivers", describe_drivers(os));
    json_dumpf(guest, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(guest);
}

/* The folder with what an old database does not know yet: beside the program in a build tree, or
 * where it was installed. */
static char *find_additions(void)
{
    g_autofree char *program = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = program ? g_path_get_dirname(program) : g_strdup(".");
    char *path = g_build_filename(folder, "../../../packaging/osinfo", NULL);

    if (access(path, R_OK) == 0)
        return path;
    g_free(path);
    return g_strdup(ANIMA_OSINFO_DIR);
}

/* Read the database's folders, and what GLib knows file types by, and nothing else. The additions
 * are the working folder from here on: another user than root may not be let to it by its path. */
static bool close_sandbox(GError **error)
{
    static const char *const folders[] = {
        "/usr/share/osinfo", "/etc/osinfo",           "/usr/share/misc",   "/usr/share/hwdata",
        "/usr/share/mime",   "/usr/local/share/mime", "/var/lib/usbutils", "/var/lib/pciutils",
    };
    g_autofree char *additions = find_additions();
    g_autofree char *own = NULL;
    struct sandbox_report report;

    /* Or GLib asks a session's services for files. */
    setenv("GIO_USE_VFS", "local", 1);
    if (chdir(additions) != 0 && chdir("/usr/share/osinfo") != 0)
        g_warning("neither %s nor a database of guests is there", additions);
    else
        sandbox_allow_reading(".");
    /* Root's own is not for the user that root becomes. */
    if (geteuid() == 0)
        setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
    own = g_build_filename(g_get_user_config_dir(), "osinfo", NULL);
    sandbox_allow_reading(own);
    for (unsigned i = 0; i < G_N_ELEMENTS(folders); i++)
        sandbox_allow_reading(folders[i]);
    return sandbox_enter(SANDBOX_OSINFO, false, &report, error);
}

int main(int argc, char **argv)
{
    g_autoptr(OsinfoLoader) loader = NULL;
    g_autoptr(OsinfoOs) os = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *shown = NULL, *near = NULL;
    OsinfoDb *db;

    if (argc != 2)
        return 2;
    log_start();
    json_object_seed(0);
    if (!close_sandbox(&error)) {
        fprintf(stderr, "%s\n", error->message);
        return 1;
    }
    loader = osinfo_loader_new();
    /* A database that is not there, or faulty in parts, is one without the guest. */
    osinfo_loader_process_default_path(loader, NULL);
    db = osinfo_loader_get_db(loader);
    os = find(db, argv[1]);
    if (!os) {
        osinfo_loader_process_path(loader, ADDITIONS, NULL);
        os = find(db, argv[1]);
    }
    if (os) {
        describe(os);
        return fflush(stdout) == 0 ? 0 : 1;
    }
    near = nearest(db, argv[1]);
    shown = text_show(argv[1]);
    fprintf(stderr, "the database (osinfo-db) has no guest '%s'%s%s%s\n", shown,
            near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    return 1;
}
