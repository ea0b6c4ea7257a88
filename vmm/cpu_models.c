// SPDX-License-Identifier: Apache-2.0
/*
 * CPU models as a definition names them, so that the library can write down a version without
 * knowing the models. Reads nothing but this host's processor and its KVM.
 */
#include "vmm/cpu_models.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/engine/engine.h"

/* All models as an engine with these features has them. */
static json_t *describe(const uint32_t words[CPU_WORDS])
{
    json_t *models = json_object();

    for (const char *const *name = cpu_model_names(); *name; name++) {
        g_autofree char *pinned = cpu_model_pin(*name, words);

        json_object_set_new(models, *name, json_string(pinned));
    }
    return models;
}

/* What a machine has whichever engine "auto" takes: today's, and the software CPU it may move to.
 */
static void common_features(int kvm, uint32_t common[CPU_WORDS])
{
    const char *why;
    const struct engine_ops *taken = engine_find("auto", kvm, &why, NULL);
    uint32_t words[CPU_WORDS];

    memset(common, 0xff, CPU_WORDS * sizeof(common[0]));
    for (unsigned i = 0; engines[i]; i++) {
        if ((i > 0 && engines[i] != taken) || !engines[i]->features(kvm, words, NULL))
            continue;
        for (unsigned word = 0; word < CPU_WORDS; word++)
            common[word] &= words[word];
    }
}

int cpu_models_main(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    uint32_t words[CPU_WORDS];
    json_t *all = json_object();

    for (unsigned i = 0; engines[i]; i++)
        if (engines[i]->features(kvm, words, NULL))
            json_object_set_new(all, engines[i]->name, describe(words));
    common_features(kvm, words);
    json_object_set_new(all, "auto", describe(words));
    json_dumpf(all, stdout, JSON_COMPACT);
    json_decref(all);
    if (kvm >= 0)
        close(kvm);
    return fflush(stdout) == 0 ? 0 : 1;
}
