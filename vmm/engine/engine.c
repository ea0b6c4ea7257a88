// SPDX-License-Identifier: Apache-2.0
/*
 * The engines there are, and the choice among them. "auto" takes KVM only where it runs kernels in
 * hardware: some hosts have a /dev/kvm that interprets ring 0.
 */
#include "vmm/engine/engine.h"

#include <string.h>

#include "vmm/engine/engines.h"

const struct engine_ops *const engines[] = {&soft_engine_ops, &kvm_engine_ops, NULL};

bool engine_define_cpu(const struct engine_config *config, const uint32_t words[CPU_WORDS],
                       bool tsc_scales, struct cpu_definition *out, GError **error)
{
    uint64_t khz;

    if (config->cpu && tsc_scales)
        clock_set_tsc_khz(config->clock, config->cpu->tsc_khz);
    khz = clock_tsc_khz(config->clock);

    if (config->cpu)
        return cpu_model_adopt(config->cpu, words, config->cpus, khz, out, error);
    return cpu_model_resolve(config->cpu_model, words, config->cpus, khz, out, error);
}

const char *const engine_exit_names[ENGINE_EXITS] = {
    [ENGINE_EXIT_PIO] = "pio",     [ENGINE_EXIT_MMIO] = "mmio",     [ENGINE_EXIT_MSR] = "msr",
    [ENGINE_EXIT_EOI] = "eoi",     [ENGINE_EXIT_WINDOW] = "window", [ENGINE_EXIT_SIGNAL] = "signal",
    [ENGINE_EXIT_DIRTY] = "dirty", [ENGINE_EXIT_OTHER] = "other",
};

const struct engine_ops *engine_find(const char *name, int kvm_fd, const char **why, GError **error)
{
    *why = "as asked for";
    if (strcmp(name, "auto") == 0) {
        return kvm_probe(kvm_fd, why) ? &kvm_engine_ops : &soft_engine_ops;
    }
    for (unsigned i = 0; engines[i]; i++) {
        if (strcmp(name, engines[i]->name) == 0)
            return engines[i];
    }
    GString *names = g_string_new("auto");
    for (unsigned i = 0; engines[i]; i++)
        g_string_append_printf(names, ", %s", engines[i]->name);
    g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                "engine '%s' is not known; there are %s", name, names->str);
    g_string_free(names, TRUE);
    return NULL;
}
