// SPDX-License-Identifier: Apache-2.0
/*
 * From a model's name to the definition of a machine's processors.
 *
 * The features of the model that the engine cannot give are all named at once, since a user who
 * gets them one by one tries for an afternoon.
 */
#include "vmm/engine/cpu_model.h"

#include <cpuid.h>
#include <string.h>

#include "vmm/engine/cpu_model_table.h"

#define XSAVE_HEADER_END 576

static uint32_t host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    if (!__get_cpuid_count(leaf, subleaf, &out[0], &out[1], &out[2], &out[3]))
        memset(out, 0, 4 * sizeof(out[0]));
    return out[0];
}

void cpu_host_words(uint32_t words[CPU_WORDS])
{
    uint32_t r[4];

    memset(words, 0, CPU_WORDS * sizeof(words[0]));
    host_cpuid(1, 0, r);
    words[CPU_1_ECX] = r[2];
    words[CPU_1_EDX] = r[3];
    uint32_t subleaves = host_cpuid(7, 0, r);
    words[CPU_7_EBX] = r[1];
    words[CPU_7_ECX] = r[2];
    words[CPU_7_EDX] = r[3];
    if (subleaves >= 1)
        words[CPU_7_1_EAX] = host_cpuid(7, 1, r);
    words[CPU_6_EAX] = host_cpuid(6, 0, r);
    words[CPU_D_1_EAX] = host_cpuid(0xd, 1, r);
    host_cpuid(0x80000001, 0, r);
    words[CPU_80000001_ECX] = r[2];
    words[CPU_80000001_EDX] = r[3];
    host_cpuid(0x80000007, 0, r);
    words[CPU_80000007_EDX] = r[3];
    host_cpuid(0x80000008, 0, r);
    words[CPU_80000008_EBX] = r[1];
    words[CPU_80000021_EAX] = host_cpuid(0x80000021, 0, r);
    words[CPU_80000021_ECX] = r[2];
}

static enum cpu_vendor host_vendor(void)
{
    uint32_t r[4];

    host_cpuid(0, 0, r);
    /* "Auth", "Hygo"; everybody else follows Intel. */
    return r[1] == 0x68747541 || r[1] == 0x6f677948 ? CPU_VENDOR_AMD : CPU_VENDOR_INTEL;
}

static void host_brand(char brand[49])
{
    uint32_t r[4];

    for (unsigned i = 0; i < 3; i++) {
        host_cpuid(0x80000002 + i, 0, r);
        memcpy(brand + 16 * i, r, sizeof(r));
    }
    brand[48] = '\0';
}

uint8_t cpu_host_physical_bits(void)
{
    uint32_t r[4];

    host_cpuid(0x80000008, 0, r);
    return (r[0] & 0xff) >= 36 && (r[0] & 0xff) <= 52 ? r[0] & 0xff : 36;
}

const char *const *cpu_model_names(void)
{
    static const char *names[16] = {"default", "host"};
    static gsize ready;

    if (g_once_init_enter(&ready)) {
        unsigned count = 2;

        for (unsigned i = 0; i < cpu_models_count && count < G_N_ELEMENTS(names) - 1; i++) {
            if (strcmp(names[count - 1], cpu_models[i].name) != 0)
                names[count++] = cpu_models[i].name;
        }
        g_once_init_leave(&ready, 1);
    }
    return names;
}

static const struct cpu_model *find_model(const char *name)
{
    for (unsigned i = 0; i < cpu_models_count; i++) {
        const struct cpu_model *model = &cpu_models[i];
        g_autofree char *versioned = g_strdup_printf("%s-%u", model->name, model->version);

        if (strcmp(name, model->name) == 0 || strcmp(name, versioned) == 0)
            return model;
    }
    return NULL;
}

char *cpu_feature_list(const uint32_t missing[CPU_WORDS])
{
    GString *list = g_string_new(NULL);

    for (unsigned word = 0; word < CPU_WORDS; word++) {
        for (unsigned bit = 0; bit < 32; bit++) {
            const char *name = cpu_feature_names[word][bit];

            if (!(missing[word] >> bit & 1))
                continue;
            if (list->len)
                g_string_append(list, ", ");
            if (name)
                g_string_append(list, name);
            else
                g_string_append_printf(list, "word %u bit %u", word, bit);
        }
    }
    return g_string_free(list, FALSE);
}

static bool missing_features(const struct cpu_model *model, const uint32_t engine[CPU_WORDS],
                             uint32_t missing[CPU_WORDS])
{
    uint32_t any = 0;

    for (unsigned word = 0; word < CPU_WORDS; word++) {
        missing[word] = model->required[word] & ~engine[word];
        any |= missing[word];
    }
    return any != 0;
}

static void set_name(struct cpu_definition *out, const char *name, unsigned version)
{
    g_snprintf(out->name, sizeof(out->name), "%s-%u", name, version);
}

/* Bits that are one vendor's only, or follow from others. */
static void settle_words(struct cpu_definition *out)
{
    const uint32_t repeated = 0x0183f3ff; /* of leaf 1 EDX, that AMD repeats in 80000001 EDX */

    out->words[CPU_1_ECX] &= ~(1U << 27);                  /* osxsave mirrors CR4 */
    out->words[CPU_7_ECX] &= ~(1U << 4);                   /* ospke mirrors CR4 */
    out->words[CPU_1_EDX] &= ~(1U << 28);                  /* ht: whether there are several */
    out->words[CPU_80000001_ECX] &= ~(1U << 1 | 1U << 22); /* cmp_legacy, topoext */
    if (out->cpus > 1)
        out->words[CPU_1_EDX] |= 1U << 28;
    out->words[CPU_80000001_EDX] &= ~repeated | 1U << 11;
    if (out->vendor == CPU_VENDOR_AMD) {
        out->words[CPU_80000001_EDX] |= out->words[CPU_1_EDX] & repeated & ~(1U << 11);
        out->words[CPU_80000001_ECX] |= 1U << 22;
        if (out->cpus > 1)
            out->words[CPU_80000001_ECX] |= 1U << 1;
        out->words[CPU_7_EDX] &= ~(1U << 26 | 1U << 29);
        out->words[CPU_ARCH_CAPABILITIES] = 0;
    } else {
        out->words[CPU_80000001_ECX] &= ~(1U << 4);
        out->words[CPU_80000008_EBX] = 0;
        out->words[CPU_80000021_EAX] = 0;
        out->words[CPU_80000021_ECX] = 0;
        if (!cpu_has_feature(out, CPU_HAS_ARCH_CAPABILITIES))
            out->words[CPU_ARCH_CAPABILITIES] = 0;
    }
}

/* XSAVE components by feature, laid out as the host's own XSAVE does: guests on kvm execute it. */
static void settle_xsave(struct cpu_definition *out)
{
    uint32_t r[4];

    if (!cpu_has_feature(out, CPU_XSAVE)) {
        out->words[CPU_D_1_EAX] = 0;
        return;
    }
    out->xcr0_mask = 3;
    if (cpu_has_feature(out, CPU_AVX))
        out->xcr0_mask |= 1 << 2;
    if (cpu_has_feature(out, CPU_AVX512F))
        out->xcr0_mask |= 7 << 5;
    if (cpu_has_feature(out, CPU_PKU))
        out->xcr0_mask |= 1 << 9;
    out->xsave[2].offset = XSAVE_HEADER_END;
    out->xsave[2].size = 256;
    for (unsigned i = 2; i < CPU_XSAVE_COMPONENTS; i++) {
        if (!(out->xcr0_mask >> i & 1)) {
            out->xsave[i].offset = out->xsave[i].size = 0;
            continue;
        }
        if (host_cpuid(0xd, i, r)) {
            out->xsave[i].size = r[0];
            out->xsave[i].offset = r[1];
        }
    }
}

void cpu_model_settle(struct cpu_definition *out, unsigned cpus, uint64_t tsc_khz)
{
    out->linear_bits = 48;
    out->cpus = cpus;
    out->tsc_khz = tsc_khz;
    settle_words(out);
    settle_xsave(out);
}

static void define_host(struct cpu_definition *out, const uint32_t engine[CPU_WORDS])
{
    uint32_t r[4];

    set_name(out, "host", 1);
    out->vendor = host_vendor();
    out->signature = host_cpuid(1, 0, r);
    host_brand(out->brand);
    out->physical_bits = cpu_host_physical_bits();
    memcpy(out->words, engine, sizeof(out->words));
}

static void define_model(struct cpu_definition *out, const struct cpu_model *model,
                         const uint32_t engine[CPU_WORDS])
{
    set_name(out, model->name, model->version);
    out->vendor = model->vendor < 0 ? host_vendor() : (enum cpu_vendor)model->vendor;
    out->signature = model->signature[out->vendor];
    g_strlcpy(out->brand, model->brand, sizeof(out->brand));
    out->physical_bits = MIN(model->physical_bits, cpu_host_physical_bits());
    for (unsigned word = 0; word < CPU_WORDS; word++)
        out->words[word] = model->required[word] |
                           ((model->optional[word] | cpu_system_features[word]) & engine[word]);
}

/* The last generic level in the table that the engine gives; the first one if none. */
static const struct cpu_model *best_level(const uint32_t engine[CPU_WORDS])
{
    const struct cpu_model *best = &cpu_models[0];
    uint32_t missing[CPU_WORDS];

    for (unsigned i = 0; i < cpu_models_count; i++) {
        if (cpu_models[i].vendor < 0 && !missing_features(&cpu_models[i], engine, missing))
            best = &cpu_models[i];
    }
    return best;
}

/* The model called `name`, "host" apart; NULL: there is none. */
static const struct cpu_model *choose(const char *name, const uint32_t engine[CPU_WORDS])
{
    return strcmp(name, "default") == 0 ? best_level(engine) : find_model(name);
}

static bool is_host(const char *name)
{
    return strcmp(name, "host") == 0 || strcmp(name, "host-1") == 0;
}

char *cpu_model_pin(const char *name, const uint32_t engine_words[CPU_WORDS])
{
    const struct cpu_model *model = choose(name, engine_words);

    if (is_host(name))
        return g_strdup("host-1");
    return model ? g_strdup_printf("%s-%u", model->name, model->version) : NULL;
}

bool cpu_model_resolve(const char *name, const uint32_t engine_words[CPU_WORDS], unsigned cpus,
                       uint64_t tsc_khz, struct cpu_definition *out, GError **error)
{
    uint32_t missing[CPU_WORDS];

    memset(out, 0, sizeof(*out));
    if (is_host(name)) {
        define_host(out, engine_words);
        cpu_model_settle(out, cpus, tsc_khz);
        return true;
    }
    const struct cpu_model *model = choose(name, engine_words);
    if (!model) {
        g_autofree char *names = g_strjoinv(", ", (char **)cpu_model_names());
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "cpu: model '%s' is not known; there are %s", name, names);
        return false;
    }
    if (missing_features(model, engine_words, missing)) {
        g_autofree char *list = cpu_feature_list(missing);
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "cpu: model '%s' needs %s, which this engine cannot give on this host; choose "
                    "a lower level or 'default'",
                    name, list);
        return false;
    }
    define_model(out, model, engine_words);
    cpu_model_settle(out, cpus, tsc_khz);
    return true;
}
