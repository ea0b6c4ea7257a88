// SPDX-License-Identifier: Apache-2.0
/*
 * Where machines lie, what starts them, and files of other packages.
 */
#include <string.h>

#include "lib/doctor/doctor.h"

#define FREE_LEAST (1ULL << 30) /* bytes */

void check_machines_folder(const struct doctor_host *host, struct doctor_finding *finding)
{
    const char *kind = host->data_kind ? host->data_kind : "an unknown file system";
    bool volatile_kind = strcmp(kind, "tmpfs") == 0;

    if (host->data_error)
        doctor_say(finding, DOCTOR_PROBLEM,
                   "name another one in ANIMA_DATA_DIR, or give it to "
                   "this user",
                   "%s: no machine can be kept there: %s", host->data_folder, host->data_error);
    else if (volatile_kind)
        doctor_say(finding, DOCTOR_NOTE, "name another one in ANIMA_DATA_DIR",
                   "%s is on %s: machines are gone when the host starts anew", host->data_folder,
                   kind);
    else if (host->data_free < FREE_LEAST)
        doctor_say(finding, DOCTOR_PROBLEM,
                   "make room on it, or name another folder in ANIMA_DATA_DIR",
                   "%s has %" G_GUINT64_FORMAT
                   " MiB free: a guest whose disk grows gets errors when they are used up",
                   host->data_folder, host->data_free >> 20);
    else
        doctor_say(finding, DOCTOR_OK, NULL, "%s on %s, %" G_GUINT64_FORMAT " GiB free",
                   host->data_folder, kind, host->data_free >> 30);
}

void check_runtime_folder(const struct doctor_host *host, struct doctor_finding *finding)
{
    if (host->runtime_error)
        doctor_say(finding, DOCTOR_STOP,
                   "name another one in ANIMA_RUNTIME_DIR, or log in with a session of systemd's",
                   "no machine can have its control socket there: %s", host->runtime_error);
    else
        doctor_say(finding, DOCTOR_OK, NULL, "%s", host->runtime_folder);
}

void check_systemd(const struct doctor_host *host, struct doctor_finding *finding)
{
    g_autofree char *linger = g_strconcat("/var/lib/systemd/linger/", host->user, NULL);
    g_autofree char *remedy = g_strdup_printf("sudo loginctl enable-linger %s", host->user);

    if (!doctor_exists(host, "/run/systemd/system"))
        doctor_say(finding, DOCTOR_NOTE, "let the host's init call 'anima start --autostart'",
                   "the host runs without systemd: nothing starts machines with it");
    else if (host->uid != 0 && !doctor_exists(host, linger))
        doctor_say(finding, DOCTOR_NOTE, remedy,
                   "machines of %s start with the first login, and end with the last", host->user);
    else
        doctor_say(finding, DOCTOR_OK, NULL, "by 'systemctl %senable anima'",
                   host->uid ? "--user " : "");
}

void check_firmware(const struct doctor_host *host, struct doctor_finding *finding)
{
    static const struct {
        const char *name, *package, *paths[3];
    } kinds[] = {
        {"SeaBIOS",
         "seabios",
         {"/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/bios-256k.bin"}},
        {"OVMF", "ovmf", {"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_CODE.fd"}},
    };
    g_autoptr(GString) missing = g_string_new(NULL),
                       packages = g_string_new("sudo apt-get install");

    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        bool there = false;

        for (unsigned j = 0; kinds[i].paths[j]; j++)
            there |= doctor_exists(host, kinds[i].paths[j]);
        if (there)
            continue;
        g_string_append_printf(missing, "%s%s", missing->len ? " and " : "", kinds[i].name);
        g_string_append_printf(packages, " %s", kinds[i].package);
    }
    if (missing->len)
        doctor_say(finding, DOCTOR_NOTE, packages->str,
                   "%s: not there; this version boots kernels directly, and needs none",
                   missing->str);
    else
        doctor_say(finding, DOCTOR_OK, NULL, "SeaBIOS and OVMF are there");
}

void check_osinfo(const struct doctor_host *host, struct doctor_finding *finding)
{
    if (!host->osinfo)
        doctor_say(finding, DOCTOR_NOTE, "build Anima with libosinfo-1.0-dev there",
                   "this build knows no guests by name: --os does not work");
    else if (!doctor_exists(host, "/usr/share/osinfo/os"))
        doctor_say(finding, DOCTOR_NOTE, "sudo apt-get install osinfo-db",
                   "osinfo-db is not there: --os does not work");
    else
        doctor_say(finding, DOCTOR_OK, NULL, "--os knows guests by name");
}
