// SPDX-License-Identifier: Apache-2.0
/*
 * Names of guests. VMware ("debian12_64Guest") and VirtualBox ("Debian12_64") build theirs of a
 * system and its version, as osinfo-db does ("debian12"); CIM has a number for each family.
 */
#include <string.h>

#include "vmm/import/ovf.h"

/* CIM_OperatingSystem.OSType; the 64-bit ones. */
static const struct {
    const char *prefix; /* of a name in osinfo-db */
    unsigned cim;
} families[] = {
    {"debian", 96},  {"ubuntu", 94},   {"rhel", 80},    {"centos", 107}, {"sles", 85},
    {"fedora", 101}, {"opensuse", 83}, {"freebsd", 78}, {"linux", 101},
};

#define CIM_OTHER_64 102

/* Systems whose name with a version behind is a name in osinfo-db: "debian" 12, "rhel" 9. Debian's
 * versions are known from 10 on, since "Debian_64" is one of any. */
static const struct {
    const char *foreign, *own;
    unsigned least;
} systems[] = {
    {"debian", "debian", 4},
    {"windows10", "win10", 0},
    {"windows11", "win11", 0},
    {"windows9", "win10", 0}, /* VMware's word */
};

char *guest_find(const char *foreign)
{
    g_autofree char *name = g_ascii_strdown(foreign, -1);
    char *end;

    for (char *at = name; *at; at++)
        if (*at == '_' || g_ascii_isspace(*at)) {
            *at = 0;
            break;
        }
    for (unsigned i = 0; i < G_N_ELEMENTS(systems); i++) {
        const char *rest = name + strlen(systems[i].foreign);
        guint64 version;

        if (!g_str_has_prefix(name, systems[i].foreign))
            continue;
        if (!systems[i].least)
            return *rest ? NULL : g_strdup(systems[i].own);
        version = g_ascii_strtoull(rest, &end, 10);
        if (end != rest && !*end && version >= systems[i].least)
            return g_strdup_printf("%s%" G_GUINT64_FORMAT, systems[i].own, version);
    }
    return NULL;
}

unsigned guest_cim(const char *os)
{
    for (unsigned i = 0; os && i < G_N_ELEMENTS(families); i++)
        if (g_str_has_prefix(os, families[i].prefix))
            return families[i].cim;
    return CIM_OTHER_64;
}
