// SPDX-License-Identifier: Apache-2.0
/*
 * Defaults by guest: what the operating system that the option `os` names wants of a machine, as
 * anima-osinfo tells it, for options that were not given.
 */
#include <string.h>
#include <sys/sysinfo.h>

#include "config/definition.h"
#include "config/limits.h"
#include "lib/fault.h"
#include "lib/reader.h"

static bool has_driver(const json_t *guest, const char *kind)
{
    json_t *drivers = json_object_get(guest, "drivers"), *driver;
    size_t i;

    json_array_foreach(drivers, i,
                       driver) if (g_strcmp0(json_string_value(driver), kind) == 0) return true;
    return false;
}

/* Set a number that was not given, unless nothing is said of it. */
static bool fill_number(struct definition *definition, enum option_id id, json_int_t number,
                        GError **error)
{
    g_autofree char *text = g_strdup_printf("%" JSON_INTEGER_FORMAT, number);

    return number <= 0 || definition_given(definition, id) ||
           definition_set(definition, options[id].key, text, error);
}

static bool fill(struct definition *definition, const json_t *guest, GError **error)
{
    json_int_t cpus = json_integer_value(json_object_get(guest, "cpus"));
    json_int_t memory = json_integer_value(json_object_get(guest, "memory"));
    bool rng = has_driver(guest, "rng") && !definition_given(definition, OPTION_DEVICE);

    /* More than this host has would be slower, not faster. */
    cpus = MIN(cpus, (json_int_t)MIN(CONFIG_CPUS_MAX, (uint64_t)get_nprocs()));
    memory -= memory % CONFIG_MEMORY_ALIGN;
    return fill_number(definition, OPTION_CPUS, cpus, error) &&
           fill_number(definition, OPTION_MEMORY, memory, error) &&
           (!rng || definition_set(definition, "device", "virtio-rng", error));
}

/* What the guest will miss, a line each. */
static char *describe_gaps(const struct definition *definition, const json_t *guest)
{
    static const struct {
        enum option_id id;
        const char *driver, *what;
    } kinds[] = {{OPTION_DISK, "disk", "disks"}, {OPTION_NIC, "nic", "network cards"}};
    const char *name = json_string_value(json_object_get(guest, "name"));
    GString *text = g_string_new(NULL);

    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (definition_has(definition, kinds[i].id) && !has_driver(guest, kinds[i].driver))
            g_string_append_printf(text,
                                   "%s%s: %s brings no driver for virtio %s; it needs one from "
                                   "elsewhere",
                                   text->len ? "\n" : "", options[kinds[i].id].key,
                                   name ? name : "the guest", kinds[i].what);
    return g_string_free(text, FALSE);
}

/* What is known of the guest, as a new object. */
static json_t *look_up(const char *os, struct anima_error **error)
{
    g_autofree char *program = program_path("anima-osinfo", "osinfo", NULL);
    g_autofree char *text = NULL;
    json_t *guest;

    if (!program) {
        error_set(error, ANIMA_ERROR_FAILED, "os: this build knows no guests by name (libosinfo)");
        return NULL;
    }
    text = reader_run(program, os, -1, "the database of guests cannot be read", error);
    guest = text ? json_loads(text, 0, NULL) : NULL;
    if (guest || !error)
        return guest;
    if (text)
        error_set(error, ANIMA_ERROR_FAILED, "os: the database of guests cannot be read");
    else
        error_prefix(*error, ANIMA_ERROR_USAGE, "os: ");
    return NULL;
}

ANIMA_API char *anima_definition_fill(struct anima_definition *definition,
                                      struct anima_error **error)
{
    struct definition *known = (struct definition *)definition;
    const char *os = definition_text(known, OPTION_OS);
    GError *cause = NULL;
    char *gaps = NULL;
    json_t *guest;

    if (!os)
        return g_strdup("");
    guest = look_up(os, error);
    if (!guest)
        return NULL;
    if (fill(known, guest, &cause))
        gaps = describe_gaps(known, guest);
    else
        error_take(error, cause);
    json_decref(guest);
    return gaps;
}
