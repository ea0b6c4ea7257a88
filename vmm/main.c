// SPDX-License-Identifier: Apache-2.0
/*
 * anima-vmm: one program, several roles. It is started by libanima and by its own monitor, never
 * by hand.
 */
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "vmm/cpu_models.h"
#include "vmm/dump.h"
#include "vmm/examine.h"
#include "vmm/monitor/monitor.h"
#include "vmm/monitor/network.h"
#include "vmm/util/log.h"
#include "vmm/vmm.h"

static const struct {
    const char *name;
    int (*main)(void);
    const char *purpose;
} roles[] = {
    {"monitor", monitor_main, "hold a machine's name, open its files, start its vmm"},
    {"network", network_main, "hold a network's name, start the helper that carries its frames"},
    {"vmm", vmm_main, "run a guest on the descriptors that the monitor hands over"},
    {"state-dump", dump_main, "print the state stream on standard input"},
    {"cpu-models", cpu_models_main, "print the CPU models by engine, with their versions"},
    {"examine", examine_main, "print what is found of the host, for anima doctor"},
    {"state-definition", dump_definition_main, "print only the definition that it begins with"},
};

int main(int argc, char **argv)
{
    const char *role = argc == 2 ? argv[1] : "";

    /* A role is started by way of /proc/self/exe, which would be its name in process lists. */
    prctl(PR_SET_NAME, "anima-vmm");
    log_start();
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
        if (strcmp(role, roles[i].name) == 0)
            return roles[i].main();
    fprintf(stderr, "anima-vmm is started by libanima; see anima(1). Its roles:\n");
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
        fprintf(stderr, "  %-16s %s\n", roles[i].name, roles[i].purpose);
    return 2;
}
