// SPDX-License-Identifier: Apache-2.0
/*
 * Each thing is tried as a machine's processes would, and the sandbox last, since there is no way
 * out of it.
 */
#include "vmm/examine.h"

#include <fcntl.h>
#include <glib.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/engine/engine.h"
#include "vmm/monitor/sandbox.h"
#include "vmm/util/loop.h"

static json_t *examine_kvm(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    const char *why;
    bool usable = strcmp(engine_find("auto", fd, &why, NULL)->name, "kvm") == 0;

    if (fd >= 0)
        close(fd);
    return json_pack("{s:b, s:s}", "usable", usable, "why", why);
}

static json_t *examine_io(void)
{
    struct loop *loop = loop_create("io", NULL);
    json_t *name = json_string(loop ? loop_backend(loop) : "none");

    loop_destroy(loop);
    return name;
}

/* Of faults that the kernel itself has, as when it runs a guest. */
static bool has_userfaultfd(void)
{
    long fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    int device = fd < 0 ? open("/dev/userfaultfd", O_RDWR | O_CLOEXEC) : -1;
    bool has = fd >= 0 || device >= 0;

    if (fd >= 0)
        close((int)fd);
    if (device >= 0)
        close(device);
    return has;
}

static json_t *name_namespaces(unsigned set)
{
    g_autofree const char **names = sandbox_namespace_names(set);
    json_t *list = json_array();

    for (unsigned i = 0; names[i]; i++)
        json_array_append_new(list, json_string(names[i]));
    return list;
}

/* Closes it. */
static json_t *examine_sandbox(void)
{
    struct sandbox_report report = {0};
    g_autoptr(GError) error = NULL;

    if (!sandbox_enter(SANDBOX_DUMP, false, &report, &error))
        return json_pack("{s:s}", "error", error->message);
    return json_pack("{s:o, s:o, s:i, s:b}", "namespaces", name_namespaces(report.namespaces),
                     "missing", name_namespaces(report.missing), "landlock", report.landlock,
                     "seccomp", report.seccomp);
}

int examine_main(void)
{
    json_t *found;

    json_object_seed(0);
    found = json_object();
    json_object_set_new(found, "kvm", examine_kvm());
    json_object_set_new(found, "io", examine_io());
    json_object_set_new(found, "userfaultfd", json_boolean(has_userfaultfd()));
    json_object_set_new(found, "sandbox", examine_sandbox());
    json_dumpf(found, stdout, JSON_COMPACT);
    fflush(stdout);
    json_decref(found);
    return 0;
}
