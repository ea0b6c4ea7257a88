// SPDX-License-Identifier: Apache-2.0
/*
 * The definition of a machine's processors as state: a machine that goes on elsewhere (another
 * engine, another host) has to find the very processors that it left, since its software has looked
 * at them once. So a stream has the definition bit by bit, beside the model's name, and whoever
 * loads it gives just that or refuses.
 */
#include <string.h>

#include "vmm/engine/cpu_model_table.h"
#include "vmm/util/fault.h"

/* A guest has measured its counter once and counts on that. What two measurements of one counter,
 * or two crystals, differ by is within what clocks are corrected for (KVM has the same limit). */
#define TSC_TOLERANCE_PPM 250

struct xsave_component {
    uint32_t offset, size;
};
_Static_assert(sizeof(struct xsave_component) == sizeof(((struct cpu_definition *)0)->xsave[0]),
               "the table reads the definition's own");

static const struct state_field xsave_fields[] = {
    STATE_RANGE(struct xsave_component, offset, 0, 0xffff),
    STATE_RANGE(struct xsave_component, size, 0, 0xffff),
};
static const struct state_table xsave_table =
    STATE_TABLE("xsave-component", 1, struct xsave_component, xsave_fields);

static const struct state_field definition_fields[] = {
    STATE_RAW(struct cpu_definition, name),
    STATE_RANGE(struct cpu_definition, vendor, CPU_VENDOR_INTEL, CPU_VENDOR_AMD),
    STATE_U(struct cpu_definition, signature),
    STATE_RAW(struct cpu_definition, brand),
    STATE_ARRAY(struct cpu_definition, words),
    STATE_RANGE(struct cpu_definition, physical_bits, 36, 52),
    STATE_RANGE(struct cpu_definition, linear_bits, 48, 48),
    STATE_U(struct cpu_definition, xcr0_mask),
    STATE_NESTED_ARRAY(struct cpu_definition, xsave, &xsave_table),
    STATE_RANGE(struct cpu_definition, cpus, 1, 255),
    STATE_RANGE(struct cpu_definition, tsc_khz, 1000, 100000000),
};

static bool is_text(const char *text, size_t size)
{
    return memchr(text, 0, size) && g_str_is_ascii(text);
}

static bool check_loaded(const void *state, GError **error)
{
    const struct cpu_definition *cpu = state;

    if (is_text(cpu->name, sizeof(cpu->name)) && is_text(cpu->brand, sizeof(cpu->brand)))
        return true;
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "CPU model: its name or brand is no text");
    return false;
}

const struct state_table cpu_definition_table = {
    .name = "cpu-model",
    .version = 1,
    .size = sizeof(struct cpu_definition),
    .fields = definition_fields,
    .count = G_N_ELEMENTS(definition_fields),
    .check = check_loaded,
};

static bool refuse(const struct cpu_definition *saved, GError **error, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

static bool refuse(const struct cpu_definition *saved, GError **error, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, VMM_ERROR, VMM_ERROR_NOT_SUPPORTED, "CPU model '%s' of the state %s",
                saved->name, what);
    return false;
}

/* Bits of leaf 80000001 EDX that AMD's processors repeat there: they follow from leaf 1. */
#define REPEATED (0x0183f3ffU & ~(1U << 11))

/* Every feature of the saved processors is one that the engine gives. */
static bool check_features(const struct cpu_definition *saved, const struct cpu_definition *mine,
                           GError **error)
{
    uint32_t missing[CPU_WORDS], any = 0;

    for (unsigned word = 0; word < CPU_WORDS; word++) {
        missing[word] = saved->words[word] & ~mine->words[word];
        if (word == CPU_80000001_EDX)
            missing[word] &= ~REPEATED;
        any |= missing[word];
    }
    if (!any)
        return true;
    g_autofree char *list = cpu_feature_list(missing);
    return refuse(saved, error, "has %s, which this engine cannot give on this host", list);
}

/* Guests store XSAVE's standard form: components may not move. */
static bool check_xsave(const struct cpu_definition *saved, const struct cpu_definition *mine,
                        GError **error)
{
    if (saved->xcr0_mask & ~mine->xcr0_mask)
        return refuse(saved, error,
                      "has registers (XCR0 0x%" G_GINT64_MODIFIER "x) that this host "
                      "lacks",
                      saved->xcr0_mask & ~mine->xcr0_mask);
    for (unsigned i = 0; i < CPU_XSAVE_COMPONENTS; i++) {
        bool there = saved->xcr0_mask >> i & 1;

        if (saved->xsave[i].offset != (there ? mine->xsave[i].offset : 0) ||
            saved->xsave[i].size != (there ? mine->xsave[i].size : 0))
            return refuse(saved, error, "lays out XSAVE component %u as this host's CPU does not",
                          i);
    }
    return true;
}

static bool check_tsc(const struct cpu_definition *saved, const struct cpu_definition *mine,
                      GError **error)
{
    uint64_t distance = saved->tsc_khz > mine->tsc_khz ? saved->tsc_khz - mine->tsc_khz
                                                       : mine->tsc_khz - saved->tsc_khz;

    return distance * 1000000 <= saved->tsc_khz * TSC_TOLERANCE_PPM ||
           refuse(saved, error,
                  "counts time stamps at %" G_GUINT64_FORMAT " kHz, this host at %" G_GUINT64_FORMAT
                  " kHz",
                  saved->tsc_khz, mine->tsc_khz);
}

bool cpu_model_adopt(const struct cpu_definition *saved, const uint32_t engine_words[CPU_WORDS],
                     unsigned cpus, uint64_t tsc_khz, struct cpu_definition *out, GError **error)
{
    struct cpu_definition mine = {.vendor = saved->vendor};

    /* All that the engine has to give, in the saved vendor's form. */
    memcpy(mine.words, engine_words, sizeof(mine.words));
    cpu_model_settle(&mine, cpus, tsc_khz);
    if (saved->cpus != cpus)
        return refuse(saved, error, "is one of %u CPUs, the machine has %u", saved->cpus, cpus);
    if (saved->physical_bits > cpu_host_physical_bits())
        return refuse(saved, error, "has addresses of %u bits, this host of %u",
                      saved->physical_bits, cpu_host_physical_bits());
    if (!check_features(saved, &mine, error) || !check_xsave(saved, &mine, error) ||
        !check_tsc(saved, &mine, error))
        return false;
    *out = *saved;
    return true;
}
