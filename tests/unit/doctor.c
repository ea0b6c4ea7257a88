// SPDX-License-Identifier: Apache-2.0
/*
 * The checks of `anima doctor` on hosts that are made up: a folder in the place of the root, and
 * what system calls would have told. Each case takes a healthy host and makes something amiss.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/doctor/doctor.h"

#define FLAGS_V2 "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"
#define FLAGS_V3 FLAGS_V2 " avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
#define CPUINFO(flags) \
    "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\nflags\t\t: fpu " flags "\n"
#define FOUND(kvm, io, userfaultfd, missing, landlock)                                      \
    "{\"kvm\": " kvm ", \"io\": \"" io "\", \"userfaultfd\": " userfaultfd                  \
    ", \"sandbox\": {\"namespaces\": [], \"missing\": " missing ", \"landlock\": " landlock \
    ", \"seccomp\": true}}"
#define KVM_GOOD "{\"usable\": true, \"why\": \"KVM runs in hardware here\"}"
#define KVM_SOFT "{\"usable\": false, \"why\": \"the host's KVM runs kernels in software\"}"

struct file {
    const char *path;
    const char *content; /* NULL: it is not there */
    mode_t mode;         /* 0: 0644 */
};

static const struct file healthy[] = {
    {"/proc/cpuinfo", CPUINFO(FLAGS_V3 " svm")},
    {"/proc/meminfo", "MemTotal:  8388608 kB\nMemAvailable:  4194304 kB\nSwapTotal:  0 kB\n"},
    {"/proc/sys/vm/max_map_count", "65530\n"},
    {"/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"},
    {"/sys/kernel/mm/transparent_hugepage/shmem_enabled", "always within_size [advise] never\n"},
    {"/sys/kernel/iommu_groups/0/x", ""},
    {"/sys/module/kvm_amd/parameters/nested", "1\n"},
    {"/sys/class/net/br0/bridge/x", ""},
    {"/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n"},
    {"/sys/fs/cgroup/user.slice/user-77.slice/user@77.service/cgroup.controllers",
     "cpu io memory pids\n"},
    {"/dev/kvm", "", 0666},
    {"/dev/net/tun", "", 0666},
    {"/run/systemd/system/x", ""},
    {"/var/lib/systemd/linger/me", ""},
    {"/etc/anima/bridge.conf", "# ours\nallow br0\nallow br1 you\n  allow br2 you me\n"},
    {"/usr/share/seabios/bios-256k.bin", ""},
    {"/usr/share/OVMF/OVMF_CODE_4M.fd", ""},
    {"/usr/share/osinfo/os/x", ""},
    {0},
};

struct world {
    char *root;
    struct doctor_host host;
    json_t *found;
};

static void put(const struct world *world, const struct file *file)
{
    g_autofree char *path = g_strconcat(world->root, file->path, NULL);
    g_autofree char *folder = g_path_get_dirname(path);

    assert_int_equal(g_mkdir_with_parents(folder, 0755), 0);
    if (!file->content) {
        assert_int_equal(g_remove(path), 0);
        return;
    }
    assert_true(g_file_set_contents(path, file->content, -1, NULL));
    assert_int_equal(chmod(path, file->mode ? file->mode : 0644), 0);
}

static void find(struct world *world, const char *text)
{
    json_decref(world->found);
    world->found = text ? json_loads(text, 0, NULL) : NULL;
    assert_true(!text == !world->found);
    world->host.found = world->found;
}

static struct world *world_create(void)
{
    struct world *world = g_new0(struct world, 1);

    world->root = g_dir_make_tmp("anima-doctor-XXXXXX", NULL);
    assert_non_null(world->root);
    world->host = (struct doctor_host){
        .root = world->root,
        .user = "me",
        .uid = 77,
        .release = "6.1.0-56-amd64",
        .found_error = "it is not there",
        .nat = true,
        .osinfo = true,
        .bridge_helper = "/usr/libexec/anima/anima-bridge",
        .bridge_capable = true,
        .descriptors = 1024,
        .processes = 4096,
        .locked = 64 << 10,
        .data_folder = "/data",
        .data_free = 100ULL << 30,
        .data_kind = "ext4",
        .runtime_folder = "/run/anima",
    };
    find(world, FOUND(KVM_GOOD, "io_uring", "true", "[]", "4"));
    for (const struct file *file = healthy; file->path; file++)
        put(world, file);
    return world;
}

static void remove_tree(const char *path)
{
    GDir *folder = g_dir_open(path, 0, NULL);
    const char *name;

    while (folder && (name = g_dir_read_name(folder))) {
        g_autofree char *below = g_build_filename(path, name, NULL);

        remove_tree(below);
    }
    if (folder)
        g_dir_close(folder);
    g_remove(path);
}

static void world_destroy(struct world *world)
{
    remove_tree(world->root);
    json_decref(world->found);
    g_free(world->root);
    g_free(world);
}

static json_t *check_of(const json_t *result, const char *name)
{
    json_t *checks = json_object_get(result, "checks"), *check;
    size_t i;

    json_array_foreach(checks, i,
                       check) if (strcmp(json_string_value(json_object_get(check, "name")), name) ==
                                  0) return check;
    fail_msg("there is no check %s", name);
    return NULL;
}

static void assert_part(const json_t *check, const char *key, const char *part)
{
    const char *text = json_string_value(json_object_get(check, key));

    if (part ? !text || !strstr(text, part) : text != NULL)
        fail_msg("%s of %s is '%s', not '%s'", key,
                 json_string_value(json_object_get(check, "name")), text ? text : "",
                 part ? part : "");
}

/* Takes the world. */
static void assert_found(struct world *world, const char *name, const char *level, const char *text,
                         const char *remedy)
{
    json_t *result = doctor_examine(&world->host);
    const json_t *check = check_of(result, name);

    assert_part(check, "level", level);
    assert_part(check, "text", text);
    assert_part(check, "remedy", remedy);
    assert_int_equal(json_is_true(json_object_get(result, "runs")), strcmp(level, "stop") != 0);
    json_decref(result);
    world_destroy(world);
}

static void a_healthy_host_has_nothing_amiss(void **state)
{
    struct world *world = world_create();
    json_t *result = doctor_examine(&world->host), *check;
    size_t i;

    json_array_foreach(json_object_get(result, "checks"), i, check)
    {
        assert_part(check, "level", "ok");
        assert_part(check, "remedy", NULL);
        assert_null(strchr(json_string_value(json_object_get(check, "text")), '\n'));
    }
    for (unsigned j = 0; doctor_checks[j].name; j++)
        assert_non_null(check_of(result, doctor_checks[j].name));
    assert_true(json_is_true(json_object_get(result, "runs")));
    json_decref(result);
    world_destroy(world);
}

/* A file, and what is found because of it. */
static const struct {
    const char *name;
    struct file file;
    const char *level, *text, *remedy;
} files_tell[] = {
    {"cpu", {"/proc/cpuinfo", CPUINFO("cx16 svm")}, "note", "x86-64-v1", "newer CPU model"},
    {"cpu", {"/proc/cpuinfo", CPUINFO(FLAGS_V2 " svm")}, "ok", "x86-64-v2 by default", NULL},
    {"cpu", {"/proc/cpuinfo", NULL}, "note", "a processor without a name", "newer CPU model"},
    {"virtualization",
     {"/proc/cpuinfo", CPUINFO(FLAGS_V3)},
     "note",
     "shows no virtualization",
     "firmware's settings"},
    {"virtualization",
     {"/proc/cpuinfo", CPUINFO(FLAGS_V3 " hypervisor")},
     "note",
     "is a guest itself",
     "nested virtualization"},
    {"virtualization", {"/proc/cpuinfo", CPUINFO(FLAGS_V3 " vmx hypervisor")}, "ok", "VMX", NULL},
    {"virtualization",
     {"/sys/module/vboxdrv/x", ""},
     "note",
     "VirtualBox, whose module vboxdrv is loaded",
     "modprobe -r vboxnetadp vboxnetflt vboxdrv"},
    {"virtualization",
     {"/sys/module/vmmon/x", ""},
     "note",
     "VMware, whose module vmmon is loaded",
     "power off the machines of VMware"},
    {"kvm", {"/dev/kvm", NULL}, "problem", "although the processor could", "sudo modprobe kvm-amd"},
    {"kvm", {"/proc/cpuinfo", CPUINFO(FLAGS_V3)}, "note", "without virtualization below", NULL},
    {"kvm",
     {"/dev/kvm", "", 0600},
     "problem",
     "me may not use /dev/kvm",
     "sudo usermod -aG kvm me"},
    {"nested",
     {"/sys/module/kvm_amd/parameters/nested", "0"},
     "note",
     "lets no guest",
     "options kvm_amd nested=1"},
    {"nested", {"/sys/module/kvm_amd/parameters/nested", "Y"}, "ok", "lets guests", NULL},
    {"nested", {"/sys/module/kvm_amd/parameters/nested", NULL}, "ok", "does not apply", NULL},
    {"clock",
     {"/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet"},
     "note",
     "hpet",
     "tsc=reliable"},
    {"memory",
     {"/proc/meminfo", "MemTotal: 1 kB\nMemAvailable:  102400 kB\n"},
     "problem",
     "only 100 MiB",
     "end something"},
    {"memory", {"/proc/meminfo", NULL}, "problem", "only 0 MiB", "end something"},
    {"huge-pages",
     {"/sys/kernel/mm/transparent_hugepage/shmem_enabled", "always [never]"},
     "note",
     "not for shared memory",
     "echo advise"},
    {"huge-pages",
     {"/sys/kernel/mm/transparent_hugepage/shmem_enabled", NULL},
     "note",
     "no transparent huge pages",
     "CONFIG_TRANSPARENT_HUGEPAGE"},
    {"mappings",
     {"/proc/sys/vm/max_map_count", "1000"},
     "note",
     "is 1000",
     "echo vm.max_map_count=262144"},
    {"cgroups",
     {"/sys/fs/cgroup/cgroup.controllers", NULL},
     "note",
     "no control groups",
     "unified_cgroup_hierarchy"},
    {"cgroups",
     {"/sys/fs/cgroup/user.slice/user-77.slice/user@77.service/cgroup.controllers", "memory pids"},
     "note",
     "by cpu, io",
     "Delegate="},
    {"tun", {"/dev/net/tun", NULL}, "problem", "there is no /dev/net/tun", "sudo modprobe tun"},
    {"tun", {"/dev/net/tun", "", 0600}, "problem", "may not open", "chmod 666"},
    {"bridges", {"/sys/class/net/br0/bridge/x", ""}, "ok", "br0", NULL},
    {"iommu", {"/sys/kernel/iommu_groups/1/x", ""}, "ok", "2 groups", NULL},
    {"systemd",
     {"/var/lib/systemd/linger/me", NULL},
     "note",
     "first login",
     "sudo loginctl enable-linger me"},
    {"firmware",
     {"/usr/share/OVMF/OVMF_CODE_4M.fd", NULL},
     "note",
     "OVMF: not there",
     "sudo apt-get install ovmf"},
};

static void what_files_tell_is_found(void **state)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(files_tell); i++) {
        struct world *world = world_create();

        put(world, &files_tell[i].file);
        assert_found(world, files_tell[i].name, files_tell[i].level, files_tell[i].text,
                     files_tell[i].remedy);
    }
}

/* As what they lie in is not there. */
static void what_folders_tell_is_found(void **state)
{
    static const struct {
        const char *name, *folder, *level, *text, *remedy;
    } cases[] = {
        {"bridges", "/sys/class", "note", "none", "ip link add br0 type bridge"},
        {"iommu", "/sys/kernel/iommu_groups", "note", "none", "intel_iommu=on"},
        {"systemd", "/run", "note", "without systemd", "anima start --autostart"},
        {"firmware", "/usr/share", "note", "SeaBIOS and OVMF", "install seabios ovmf"},
        {"osinfo", "/usr/share/osinfo", "note", "osinfo-db is not there", "install osinfo-db"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct world *world = world_create();
        g_autofree char *path = g_strconcat(world->root, cases[i].folder, NULL);

        remove_tree(path);
        assert_found(world, cases[i].name, cases[i].level, cases[i].text, cases[i].remedy);
    }
}

static void what_was_tried_is_told(void **state)
{
    static const struct {
        const char *name, *found, *level, *text, *remedy;
    } cases[] = {
        {"kvm", FOUND(KVM_SOFT, "io_uring", "true", "[]", "4"), "note", "kernels in software",
         NULL},
        {"io", FOUND(KVM_GOOD, "epoll", "true", "[]", "4"), "note", "io_uring cannot be used",
         "io_uring_setup(2)"},
        {"userfaultfd", FOUND(KVM_GOOD, "io_uring", "false", "[]", "4"), "note",
         "not for this user", "vm.unprivileged_userfaultfd=1"},
        {"landlock", FOUND(KVM_GOOD, "io_uring", "true", "[]", "0"), "note", "no Landlock",
         "Linux 5.13"},
        {"namespaces", FOUND(KVM_GOOD, "io_uring", "true", "[\"user\", \"pid\"]", "4"), "problem",
         "(user, pid): the host or its container", "unshare(2)"},
        {"seccomp", "{\"sandbox\": {\"error\": \"seccomp: no\"}}", "stop", "seccomp: no",
         "CONFIG_SECCOMP_FILTER"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct world *world = world_create();

        find(world, cases[i].found);
        assert_found(world, cases[i].name, cases[i].level, cases[i].text, cases[i].remedy);
    }
}

static void what_forbids_is_named(void **state)
{
    static const struct {
        const char *name;
        struct file file;
        const char *found, *level, *text, *remedy;
    } cases[] = {
        {"namespaces",
         {"/proc/sys/kernel/unprivileged_userns_clone", "0\n"},
         FOUND(KVM_GOOD, "io_uring", "true", "[\"user\"]", "4"),
         "problem",
         "userns_clone is 0",
         "kernel.unprivileged_userns_clone=1"},
        {"namespaces",
         {"/proc/sys/user/max_user_namespaces", "0\n"},
         FOUND(KVM_GOOD, "io_uring", "true", "[\"user\"]", "4"),
         "problem",
         "max_user_namespaces is 0",
         "user.max_user_namespaces=10000"},
        {"namespaces",
         {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"},
         FOUND(KVM_GOOD, "io_uring", "true", "[\"user\"]", "4"),
         "problem",
         "apparmor",
         "restrict_unprivileged_userns=0"},
        {"io",
         {"/proc/sys/kernel/io_uring_disabled", "2\n"},
         FOUND(KVM_GOOD, "epoll", "true", "[]", "4"),
         "note",
         "io_uring_disabled forbids",
         "kernel.io_uring_disabled=0"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct world *world = world_create();

        put(world, &cases[i].file);
        find(world, cases[i].found);
        assert_found(world, cases[i].name, cases[i].level, cases[i].text, cases[i].remedy);
    }
}

static void without_the_program_no_machine_runs(void **state)
{
    static const char *const unknown[] = {"seccomp", "namespaces", "landlock", "io"};

    for (unsigned i = 0; i < G_N_ELEMENTS(unknown); i++) {
        struct world *world = world_create();
        json_t *result;

        find(world, NULL);
        result = doctor_examine(&world->host);
        assert_part(check_of(result, unknown[i]), "level", "note");
        assert_part(check_of(result, unknown[i]), "text", "not known");
        json_decref(result);
        assert_found(world, "program", "stop", "it is not there", "ANIMA_LIBEXEC");
    }
}

static void an_old_kernel_runs_no_machine(void **state)
{
    static const struct {
        const char *release, *level;
    } cases[] = {{"5.4.0-1", "stop"}, {"4.19", "stop"}, {"x", "stop"}, {"5.10.0", "ok"}};

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct world *world = world_create();

        world->host.release = cases[i].release;
        assert_found(world, "kernel", cases[i].level, cases[i].release,
                     cases[i].level[0] == 's' ? "newer kernel" : NULL);
    }
}

static void limits_are_told(void **state)
{
    struct world *world = world_create();

    world->host.descriptors = 100;
    assert_found(world, "limits", "stop", "100 descriptors only", "nofile");
    world = world_create();
    world->host.processes = 100;
    assert_found(world, "limits", "problem", "100 processes and threads", "nproc");
}

static void locked_memory_matters_to_old_kernels(void **state)
{
    static const struct {
        const char *release;
        uid_t uid;
        rlim_t locked;
        const char *level, *text, *remedy;
    } cases[] = {
        {"5.12.0", 77, 0, "ok", "counts nothing", NULL},
        {"6.1.0", 77, 64 << 10, "ok", "counts nothing", NULL},
        {"5.11.22", 77, 64 << 10, "note", "may lock 64 KiB, room for the io_uring of 1 ",
         "memlock 65536"},
        {"5.10.0-1", 77, (1 << 20) - 1, "note", "may lock 1023 KiB", "DefaultLimitMEMLOCK="},
        {"5.10.0-1", 77, 1 << 20, "ok", "there is enough", NULL},
        {"5.10.0-1", 77, RLIM_INFINITY, "ok", "there is enough", NULL},
        {"5.10.0-1", 0, 64 << 10, "ok", "there is enough", NULL},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct world *world = world_create();

        world->host.release = cases[i].release;
        world->host.uid = cases[i].uid;
        world->host.locked = cases[i].locked;
        assert_found(world, "locked-memory", cases[i].level, cases[i].text, cases[i].remedy);
    }
}

static void folders_are_told(void **state)
{
    struct world *world = world_create();

    world->host.data_error = "Permission denied";
    assert_found(world, "machines", "problem", "Permission denied", "ANIMA_DATA_DIR");
    world = world_create();
    world->host.data_kind = "tmpfs";
    assert_found(world, "machines", "note", "gone when the host starts anew", "ANIMA_DATA_DIR");
    world = world_create();
    world->host.data_free = 100 << 20;
    assert_found(world, "machines", "problem", "100 MiB free", "make room");
    world = world_create();
    world->host.runtime_error = "/run/anima: not a folder";
    assert_found(world, "runtime", "stop", "not a folder", "ANIMA_RUNTIME_DIR");
}

static void who_may_use_bridges_is_told(void **state)
{
    struct world *world = world_create();

    assert_found(world, "bridge-helper", "ok", "me may put network cards on br0, br2", NULL);
    world = world_create();
    world->host.bridge_helper = NULL;
    assert_found(world, "bridge-helper", "note", "is not there", "install Anima");
    world = world_create();
    world->host.bridge_capable = false;
    assert_found(world, "bridge-helper", "note", "has not its capability",
                 "setcap cap_net_admin=ep /usr/libexec/anima/anima-bridge");
    world = world_create();
    put(world, &(struct file){"/etc/anima/bridge.conf", "allow br1 you\n"});
    assert_found(world, "bridge-helper", "note", "no bridge is allowed to me",
                 "tee -a /etc/anima/bridge.conf");
    world = world_create();
    world->host.uid = 0;
    put(world, &(struct file){"/etc/anima/bridge.conf", NULL});
    assert_found(world, "bridge-helper", "ok", "any bridge", NULL);
}

static void what_a_build_lacks_is_told(void **state)
{
    struct world *world = world_create();

    world->host.nat = false;
    assert_found(world, "nat", "problem", "has no NAT", "anima-nat");
    world = world_create();
    world->host.osinfo = false;
    assert_found(world, "osinfo", "note", "knows no guests", "libosinfo");
}

/* The device belongs to the test's own group, which has a name there. */
static void the_group_of_a_device_is_named(void **state)
{
    g_autofree char *groups = g_strdup_printf("root:x:0:\nvirt:x:%u:a,b\n", getegid());
    const gid_t mine = getegid();
    struct world *world = world_create();

    if (mine == 0) {
        g_autofree char *device = g_strconcat(world->root, "/dev/kvm", NULL);

        put(world, &(struct file){"/etc/group", "root:x:0:\nvirt:x:5:a,b\n"});
        put(world, &(struct file){"/dev/kvm", "", 0660});
        assert_int_equal(chown(device, 0, 5), 0);
    } else {
        put(world, &(struct file){"/etc/group", groups});
        put(world, &(struct file){"/dev/kvm", "", 0660});
    }
    assert_found(world, "kvm", "problem", "me may not use", "sudo usermod -aG virt me");
    world = world_create();
    put(world, &(struct file){"/dev/kvm", "", 0660});
    world->host.groups = &mine;
    world->host.group_count = 1;
    assert_found(world, "kvm", "ok", "KVM runs in hardware here", NULL);
}

static void root_may_use_everything(void **state)
{
    struct world *world = world_create();

    world->host.uid = 0;
    put(world, &(struct file){"/dev/kvm", "", 0600});
    assert_found(world, "kvm", "ok", "KVM runs in hardware here", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_healthy_host_has_nothing_amiss),
        cmocka_unit_test(what_files_tell_is_found),
        cmocka_unit_test(what_folders_tell_is_found),
        cmocka_unit_test(what_was_tried_is_told),
        cmocka_unit_test(what_forbids_is_named),
        cmocka_unit_test(without_the_program_no_machine_runs),
        cmocka_unit_test(an_old_kernel_runs_no_machine),
        cmocka_unit_test(limits_are_told),
        cmocka_unit_test(locked_memory_matters_to_old_kernels),
        cmocka_unit_test(folders_are_told),
        cmocka_unit_test(who_may_use_bridges_is_told),
        cmocka_unit_test(what_a_build_lacks_is_told),
        cmocka_unit_test(the_group_of_a_device_is_named),
        cmocka_unit_test(root_may_use_everything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
