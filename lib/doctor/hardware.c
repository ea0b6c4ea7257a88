// SPDX-License-Identifier: Apache-2.0
/*
 * What the machine below the kernel gives: processors, memory, buses.
 */
#include <string.h>
#include <sys/stat.h>

#include "lib/doctor/doctor.h"

#define BRIDGE_FILE     "/etc/anima/bridge.conf"
#define MEMORY_LEAST_KB 262144 /* a small Linux guest, and what runs it */

/* ---- processors ---- */

/* Flags that Linux shows for the levels of the x86-64 psABI. */
static const char *const levels[][12] = {
    {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"},
    {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"},
    {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
};

static unsigned find_level(const struct doctor_host *host)
{
    for (unsigned level = 0; level < G_N_ELEMENTS(levels); level++)
        for (unsigned i = 0; i < G_N_ELEMENTS(levels[0]) && levels[level][i]; i++)
            if (!doctor_has_flag(host, levels[level][i]))
                return level + 1;
    return G_N_ELEMENTS(levels) + 1;
}

/* The value of the first line of /proc/cpuinfo that begins with `key`. */
static char *cpu_value(const struct doctor_host *host, const char *key)
{
    g_autofree char *text = doctor_read(host, "/proc/cpuinfo");
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);

    for (char **line = lines; *line; line++)
        if (g_str_has_prefix(*line, key) && strchr(*line, ':'))
            return g_strdup(g_strstrip(strchr(*line, ':') + 1));
    return g_strdup("a processor without a name");
}

void check_cpu(const struct doctor_host *host, struct doctor_finding *finding)
{
    g_autofree char *name = cpu_value(host, "model name"), *vendor = cpu_value(host, "vendor_id");
    unsigned level = find_level(host);

    doctor_say(finding, level >= 2 ? DOCTOR_OK : DOCTOR_NOTE,
               level >= 2 ? NULL : "if this host is a guest itself, give it a newer CPU model",
               "%s (%s): guests have x86-64-v%u by default%s", name, vendor, level,
               level >= 2 ? "" : ", on which many systems of today do not start");
}

static const char *virtualization_of(const struct doctor_host *host)
{
    if (doctor_has_flag(host, "vmx"))
        return "kvm-intel";
    return doctor_has_flag(host, "svm") ? "kvm-amd" : NULL;
}

/* Kernel modules of hypervisors that take the processor's virtualization while their machines run,
 * each for itself as KVM does. */
static const struct rival {
    const char *module, *name, *unload;
} rivals[] = {
    {"vboxdrv", "VirtualBox", "sudo modprobe -r vboxnetadp vboxnetflt vboxdrv"},
    {"vmmon", "VMware", "sudo modprobe -r vmmon"},
};

/* NULL: there is none. */
static const struct rival *find_rival(const struct doctor_host *host)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(rivals); i++) {
        g_autofree char *path = g_strconcat("/sys/module/", rivals[i].module, NULL);

        if (doctor_exists(host, path))
            return &rivals[i];
    }
    return NULL;
}

static void say_rival(const struct rival *rival, struct doctor_finding *finding)
{
    g_autofree char *remedy =
        g_strdup_printf("power off the machines of %s; so that it takes nothing again: %s",
                        rival->name, rival->unload);

    doctor_say(finding, DOCTOR_NOTE, remedy,
               "%s, whose module %s is loaded, has the processor's virtualization while its "
               "machines run: KVM runs none then",
               rival->name, rival->module);
}

void check_virtualization(const struct doctor_host *host, struct doctor_finding *finding)
{
    const struct rival *rival = find_rival(host);
    bool guest = doctor_has_flag(host, "hypervisor");

    if (virtualization_of(host) && rival)
        say_rival(rival, finding);
    else if (virtualization_of(host))
        doctor_say(finding, DOCTOR_OK, NULL, "the processor has %s%s",
                   doctor_has_flag(host, "vmx") ? "VMX" : "SVM",
                   guest ? ", although this host is a guest itself" : "");
    else
        doctor_say(finding, DOCTOR_NOTE,
                   guest ? "let the hypervisor below this host allow nested virtualization"
                         : "turn on VT-x, or SVM, in the firmware's settings",
                   "%s: machines run on Anima's software CPU",
                   guest ? "this host is a guest itself, whose processor has no virtualization"
                         : "the processor shows no virtualization");
}

/* The name of a group, or its number. */
static char *group_name(const struct doctor_host *host, gid_t group)
{
    g_autofree char *text = doctor_read(host, "/etc/group");
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);

    for (char **line = lines; *line; line++) {
        g_auto(GStrv) fields = g_strsplit(*line, ":", -1);

        if (g_strv_length(fields) >= 3 && g_ascii_strtoull(fields[2], NULL, 10) == group)
            return g_strdup(fields[0]);
    }
    return g_strdup_printf("%u", group);
}

static bool is_member(const struct doctor_host *host, gid_t group)
{
    for (unsigned i = 0; i < host->group_count; i++)
        if (host->groups[i] == group)
            return true;
    return false;
}

/* Whether the user may read and write what has this owner and mode. */
static bool may_use(const struct doctor_host *host, const struct stat *status)
{
    mode_t mode = status->st_mode;

    if (host->uid == 0)
        return true;
    if (host->uid == status->st_uid)
        return (mode & 0600) == 0600;
    return is_member(host, status->st_gid) ? (mode & 060) == 060 : (mode & 06) == 06;
}

/* How a user comes to a device that root has for itself, or for a group. */
static char *mend_access(const struct doctor_host *host, const char *device,
                         const struct stat *status)
{
    g_autofree char *group = group_name(host, status->st_gid);

    if (status->st_gid != 0 && (status->st_mode & 060) == 060)
        return g_strdup_printf("sudo usermod -aG %s %s, then log in anew", group, host->user);
    return g_strdup_printf("sudo groupadd -f kvm && sudo chgrp kvm %s && sudo chmod 660 %s && sudo "
                           "usermod -aG kvm %s, then log in anew",
                           device, device, host->user);
}

static void say_no_kvm(const struct doctor_host *host, struct doctor_finding *finding)
{
    const char *module = virtualization_of(host);
    g_autofree char *remedy = module ? g_strdup_printf("sudo modprobe %s && echo %s | sudo tee "
                                                       "/etc/modules-load.d/anima.conf",
                                                       module, module)
                                     : NULL;

    if (module)
        doctor_say(finding, DOCTOR_PROBLEM, remedy,
                   "there is no /dev/kvm, although the processor could: machines run on Anima's "
                   "software CPU");
    else
        doctor_say(finding, DOCTOR_NOTE, NULL,
                   "there is no /dev/kvm, for want of virtualization: machines run on Anima's "
                   "software CPU");
}

void check_kvm(const struct doctor_host *host, struct doctor_finding *finding)
{
    g_autofree char *device = g_strconcat(host->root, "/dev/kvm", NULL), *remedy = NULL;
    const json_t *kvm = json_object_get(host->found, "kvm");
    const char *why = json_string_value(json_object_get(kvm, "why"));
    struct stat status;

    if (stat(device, &status) != 0) {
        say_no_kvm(host, finding);
    } else if (!virtualization_of(host)) {
        doctor_say(finding, DOCTOR_NOTE, NULL,
                   "there is a /dev/kvm without virtualization below it, which runs kernels in "
                   "software: machines run on Anima's software CPU");
    } else if (!may_use(host, &status)) {
        remedy = mend_access(host, "/dev/kvm", &status);
        doctor_say(finding, DOCTOR_PROBLEM, remedy,
                   "%s may not use /dev/kvm: machines run on Anima's software CPU", host->user);
    } else if (json_is_true(json_object_get(kvm, "usable"))) {
        doctor_say(finding, DOCTOR_OK, NULL, "%s", why ? why : "KVM runs guests");
    } else {
        doctor_say(finding, DOCTOR_NOTE, NULL, "%s: machines run on Anima's software CPU",
                   why ? why : "whether KVM runs guests in hardware is not known");
    }
}

void check_nested(const struct doctor_host *host, struct doctor_finding *finding)
{
    static const char *const modules[] = {"kvm_intel", "kvm_amd"};

    for (unsigned i = 0; i < G_N_ELEMENTS(modules); i++) {
        g_autofree char *path = g_strdup_printf("/sys/module/%s/parameters/nested", modules[i]);
        g_autofree char *remedy =
            g_strdup_printf("echo options %s nested=1 | sudo tee /etc/modprobe.d/anima.conf, then "
                            "load the module anew",
                            modules[i]);
        g_autofree char *text = doctor_read(host, path);

        if (!text)
            continue;
        if (strcmp(text, "1") == 0 || g_ascii_strcasecmp(text, "Y") == 0)
            doctor_say(finding, DOCTOR_OK, NULL, "KVM lets guests virtualize; see --cpu");
        else
            doctor_say(finding, DOCTOR_NOTE, remedy,
                       "KVM lets no guest virtualize: guests that run machines do so in software");
        return;
    }
    doctor_say(finding, DOCTOR_OK, NULL, "does not apply: there is no KVM in hardware");
}

void check_clock(const struct doctor_host *host, struct doctor_finding *finding)
{
    g_autofree char *source =
        doctor_read(host, "/sys/devices/system/clocksource/clocksource0/current_clocksource");

    if (!source || strcmp(source, "tsc") == 0 || strcmp(source, "kvm-clock") == 0)
        doctor_say(finding, DOCTOR_OK, NULL, "%s", source ? source : "not told");
    else
        doctor_say(finding, DOCTOR_NOTE,
                   "see 'dmesg | grep -i tsc' for why the kernel does not trust the TSC; "
                   "tsc=reliable in its parameters has it do so",
                   "the clock source is %s: each look at the time is slow, for guests too", source);
}

/* ---- memory ---- */

/* A line of /proc/meminfo, in kilobytes. */
static uint64_t meminfo(const struct doctor_host *host, const char *key)
{
    g_autofree char *text = doctor_read(host, "/proc/meminfo");
    const char *line = text ? strstr(text, key) : NULL;

    return line ? g_ascii_strtoull(line + strlen(key), NULL, 10) : 0;
}

void check_memory(const struct doctor_host *host, struct doctor_finding *finding)
{
    uint64_t available = meminfo(host, "MemAvailable:"), total = meminfo(host, "MemTotal:"),
             swap = meminfo(host, "SwapTotal:");

    if (available >= MEMORY_LEAST_KB)
        doctor_say(finding, DOCTOR_OK, NULL,
                   "%" G_GUINT64_FORMAT " MiB of %" G_GUINT64_FORMAT
                   " are available, and %" G_GUINT64_FORMAT " of swap",
                   available >> 10, total >> 10, swap >> 10);
    else
        doctor_say(finding, DOCTOR_PROBLEM,
                   "end something that takes memory ('ps aux --sort -rss | head' shows what)",
                   "only %" G_GUINT64_FORMAT " MiB of memory are available: the kernel may kill "
                   "machines that need more",
                   available >> 10);
}

void check_huge_pages(const struct doctor_host *host, struct doctor_finding *finding)
{
    static const char path[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    g_autofree char *text = doctor_read(host, path);
    int64_t reserved =
        doctor_number(host, "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", 0);

    if (!text)
        doctor_say(finding, DOCTOR_NOTE, "boot a kernel with CONFIG_TRANSPARENT_HUGEPAGE",
                   "the kernel has no transparent huge pages: guests' memory is slower to reach");
    else if (strstr(text, "[never]") || strstr(text, "[deny]"))
        doctor_say(finding, DOCTOR_NOTE,
                   "echo advise | sudo tee /sys/kernel/mm/transparent_hugepage/shmem_enabled (at "
                   "each start, such as by /etc/tmpfiles.d)",
                   "not for shared memory, which guests' memory is: it is slower to reach");
    else
        doctor_say(finding, DOCTOR_OK, NULL,
                   "guests' memory has them (%" G_GINT64_FORMAT " are reserved apart from that)",
                   reserved);
}

/* ---- buses ---- */

void check_iommu(const struct doctor_host *host, struct doctor_finding *finding)
{
    g_auto(GStrv) groups = doctor_list(host, "/sys/kernel/iommu_groups");
    unsigned count = g_strv_length(groups);

    if (count)
        doctor_say(finding, DOCTOR_OK, NULL, "%u groups", count);
    else
        doctor_say(
            finding, DOCTOR_NOTE,
            "turn on VT-d, or AMD-Vi, in the firmware's settings; for Intel add "
            "intel_iommu=on to the kernel's parameters",
            "none: no device of the host could be handed to a guest, which this version does "
            "not do yet");
}

/* ---- networks ---- */

void check_tun(const struct doctor_host *host, struct doctor_finding *finding)
{
    g_autofree char *device = g_strconcat(host->root, "/dev/net/tun", NULL);
    struct stat status;

    if (stat(device, &status) != 0)
        doctor_say(finding, DOCTOR_PROBLEM,
                   "sudo modprobe tun && echo tun | sudo tee -a /etc/modules-load.d/anima.conf",
                   "there is no /dev/net/tun: no network card can be plugged into an interface or "
                   "a bridge; NAT needs none");
    else if (!may_use(host, &status))
        doctor_say(
            finding, DOCTOR_PROBLEM, "sudo chmod 666 /dev/net/tun",
            "%s may not open /dev/net/tun: no network card can be plugged into an interface; "
            "NAT needs none",
            host->user);
    else
        doctor_say(finding, DOCTOR_OK, NULL, "network cards can be plugged into interfaces");
}

void check_bridges(const struct doctor_host *host, struct doctor_finding *finding)
{
    g_auto(GStrv) interfaces = doctor_list(host, "/sys/class/net");
    g_autoptr(GString) names = g_string_new(NULL);

    for (char **name = interfaces; *name; name++) {
        g_autofree char *path = g_strdup_printf("/sys/class/net/%s/bridge", *name);

        if (doctor_exists(host, path))
            g_string_append_printf(names, "%s%s", names->len ? ", " : "", *name);
    }
    if (names->len)
        doctor_say(finding, DOCTOR_OK, NULL, "%s", names->str);
    else
        doctor_say(finding, DOCTOR_NOTE,
                   "sudo ip link add br0 type bridge && sudo ip link set br0 up, and the host's "
                   "interface into it",
                   "none: guests reach the host's network by NAT");
}

/* The bridges on which the user may put network cards, by anima-bridge's file: "allow BRIDGE", for
 * everybody or for the users behind it. */
static char *allowed_bridges(const struct doctor_host *host)
{
    g_autofree char *text = doctor_read(host, BRIDGE_FILE);
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);
    GString *names = g_string_new(NULL);

    for (char **line = lines; *line; line++) {
        g_auto(GStrv) words = g_strsplit_set(g_strstrip(*line), " \t", -1);
        unsigned count = g_strv_length(words);

        if (count >= 2 && strcmp(words[0], "allow") == 0 &&
            (count == 2 || g_strv_contains((const char *const *)words + 2, host->user)))
            g_string_append_printf(names, "%s%s", names->len ? ", " : "", words[1]);
    }
    return g_string_free(names, FALSE);
}

void check_bridge_helper(const struct doctor_host *host, struct doctor_finding *finding)
{
    g_autofree char *names = allowed_bridges(host);
    g_autofree char *remedy =
        g_strdup_printf("sudo setcap cap_net_admin=ep %s", host->bridge_helper);

    if (!host->bridge_helper)
        doctor_say(finding, DOCTOR_NOTE, "install Anima again",
                   "anima-bridge is not there: no network card can be put on a bridge by its name");
    else if (host->uid == 0)
        doctor_say(finding, DOCTOR_OK, NULL, "root may put network cards on any bridge");
    else if (!host->bridge_capable)
        doctor_say(
            finding, DOCTOR_NOTE, remedy,
            "anima-bridge has not its capability: users cannot put network cards on bridges");
    else if (!*names)
        doctor_say(finding, DOCTOR_NOTE,
                   "sudo mkdir -p /etc/anima && echo allow br0 | sudo tee -a " BRIDGE_FILE,
                   "no bridge is allowed to %s in " BRIDGE_FILE, host->user);
    else
        doctor_say(finding, DOCTOR_OK, NULL, "%s may put network cards on %s", host->user, names);
}

void check_nat(const struct doctor_host *host, struct doctor_finding *finding)
{
    if (host->nat)
        doctor_say(finding, DOCTOR_OK, NULL, "guests reach the host's network without any rights");
    else
        doctor_say(finding, DOCTOR_PROBLEM,
                   "install the package with anima-nat, or build Anima with libslirp-dev there",
                   "this build has no NAT: --nic user does not work");
}
