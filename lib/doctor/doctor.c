// SPDX-License-Identifier: Apache-2.0
/*
 * The table of checks, and what they share.
 */
#include "lib/doctor/doctor.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct doctor_check doctor_checks[] = {
    {"program", "the program that runs machines", check_program},
    {"kernel", "the version of the kernel", check_kernel},
    {"cpu", "the instructions of the processor", check_cpu},
    {"virtualization", "the processor's own, and who has it", check_virtualization},
    {"kvm", "/dev/kvm", check_kvm},
    {"nested", "machines within machines", check_nested},
    {"clock", "the kernel's clock source", check_clock},
    {"memory", "memory and swap", check_memory},
    {"huge-pages", "huge pages for the memory of guests", check_huge_pages},
    {"mappings", "how many mappings a process may have", check_mappings},
    {"limits", "descriptors and processes", check_limits},
    {"locked-memory", "how much memory may be locked", check_locked_memory},
    {"io", "io_uring", check_io_uring},
    {"userfaultfd", "userfaultfd", check_userfaultfd},
    {"seccomp", "filters of system calls", check_seccomp},
    {"namespaces", "namespaces of the sandbox", check_namespaces},
    {"landlock", "Landlock", check_landlock},
    {"cgroups", "limits by control groups", check_cgroups},
    {"nat", "networks by NAT", check_nat},
    {"tun", "/dev/net/tun", check_tun},
    {"bridges", "bridges of the host", check_bridges},
    {"bridge-helper", "who may put machines on them", check_bridge_helper},
    {"iommu", "IOMMU groups", check_iommu},
    {"machines", "the folder of machines", check_machines_folder},
    {"runtime", "the folder of running machines", check_runtime_folder},
    {"systemd", "machines that start with the host", check_systemd},
    {"firmware", "firmware for guests", check_firmware},
    {"osinfo", "the database of guests", check_osinfo},
    {0},
};

static const char *const level_names[] = {
    [DOCTOR_OK] = "ok",
    [DOCTOR_NOTE] = "note",
    [DOCTOR_PROBLEM] = "problem",
    [DOCTOR_STOP] = "stop",
};

static json_t *run(const struct doctor_check *check, const struct doctor_host *host,
                   enum doctor_level *worst)
{
    struct doctor_finding finding = {0};
    json_t *said;

    check->run(host, &finding);
    said =
        json_pack("{s:s, s:s, s:s, s:s, s:s*}", "name", check->name, "about", check->about, "level",
                  level_names[finding.level], "text", finding.text, "remedy", finding.remedy);
    *worst = MAX(*worst, finding.level);
    g_free(finding.text);
    g_free(finding.remedy);
    return said;
}

json_t *doctor_examine(const struct doctor_host *host)
{
    enum doctor_level worst = DOCTOR_OK;
    json_t *checks = json_array();

    for (const struct doctor_check *check = doctor_checks; check->name; check++)
        json_array_append_new(checks, run(check, host, &worst));
    return json_pack("{s:o, s:b}", "checks", checks, "runs", worst < DOCTOR_STOP);
}

/* ---- for checks ---- */

void doctor_say(struct doctor_finding *finding, enum doctor_level level, const char *remedy,
                const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list arguments;

    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    /* A file may say anything. */
    finding->level = level;
    finding->text = g_utf8_make_valid(text, -1);
    finding->remedy = remedy ? g_utf8_make_valid(remedy, -1) : NULL;
}

char *doctor_read(const struct doctor_host *host, const char *path)
{
    g_autofree char *place = g_strconcat(host->root, path, NULL);
    char *text;

    if (!g_file_get_contents(place, &text, NULL, NULL))
        return NULL;
    return g_strchomp(text);
}

bool doctor_exists(const struct doctor_host *host, const char *path)
{
    g_autofree char *place = g_strconcat(host->root, path, NULL);

    return access(place, F_OK) == 0;
}

int64_t doctor_number(const struct doctor_host *host, const char *path, int64_t otherwise)
{
    g_autofree char *text = doctor_read(host, path);
    gint64 number;

    if (!text || !g_ascii_string_to_signed(text, 10, G_MININT64, G_MAXINT64, &number, NULL))
        return otherwise;
    return number;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **doctor_list(const struct doctor_host *host, const char *path)
{
    g_autofree char *place = g_strconcat(host->root, path, NULL);
    g_autoptr(GDir) folder = g_dir_open(place, 0, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *name;

    while (folder && (name = g_dir_read_name(folder)))
        g_ptr_array_add(names, g_strdup(name));
    if (names->len)
        qsort(names->pdata, names->len, sizeof(char *), compare);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_steal(names, NULL);
}

bool doctor_has_flag(const struct doctor_host *host, const char *word)
{
    g_autofree char *text = doctor_read(host, "/proc/cpuinfo");
    const char *line = text ? strstr(text, "\nflags") : NULL;
    g_autofree char *flags = line ? g_strndup(line + 1, strcspn(line + 1, "\n")) : g_strdup("");
    g_auto(GStrv) words = g_strsplit_set(flags, " \t", -1);

    return g_strv_contains((const char *const *)words, word);
}

char *doctor_sysctl(const char *name, const char *value)
{
    return g_strdup_printf("echo %s=%s | sudo tee -a /etc/sysctl.d/90-anima.conf && sudo sysctl "
                           "--system",
                           name, value);
}
