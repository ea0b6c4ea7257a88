// SPDX-License-Identifier: Apache-2.0
/*
 * anima-difftest: runs cases until the time is up and tells where the interpreter or the translator
 * and this processor disagree.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/diff/diff.h"

static int option_seconds = 20;
static gint64 option_seed = 1, option_case = -1;
static char *option_form;
static int option_shown = 3;
static gboolean option_list;
static char *option_switches;

static const GOptionEntry entries[] = {
    {"seconds", 0, 0, G_OPTION_ARG_INT, &option_seconds, "how long (20)", "N"},
    {"seed", 0, 0, G_OPTION_ARG_INT64, &option_seed, "of all randomness (1)", "S"},
    {"form", 0, 0, G_OPTION_ARG_STRING, &option_form, "only forms whose name contains this",
     "TEXT"},
    {"case", 0, 0, G_OPTION_ARG_INT64, &option_case, "only this case, and tell all of it", "N"},
    {"shown", 0, 0, G_OPTION_ARG_INT, &option_shown, "mismatches told of each form (3)", "N"},
    {"switches", 0, 0, G_OPTION_ARG_STRING, &option_switches,
     "of the translator, as ANIMA_SOFT has them (eager,exact)", "LIST"},
    {"list", 0, 0, G_OPTION_ARG_NONE, &option_list, "only list the forms", NULL},
    {NULL},
};

struct totals {
    struct diff_forms forms;
    unsigned long cases, faults, invalid, translated, mismatches;
    unsigned *of_form, *runs; /* mismatches and cases of each valid form */
};

static void print_instruction(const struct diff_case *test)
{
    ZydisFormatter formatter;
    char text[128] = "?";

    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    if (!test->form->invalid)
        ZydisFormatterFormatInstruction(&formatter, &test->instruction, test->operands,
                                        test->instruction.operand_count_visible, text, sizeof(text),
                                        test->state.rip, NULL);
    printf("  %s  (", text);
    for (unsigned i = 0; i < test->instruction.length; i++)
        printf("%s%02x", i ? " " : "", test->bytes[i]);
    printf(")\n");
}

static void print_state(const struct diff_case *test)
{
    const struct diff_state *state = &test->state;

    for (unsigned i = 0; i < 16; i++)
        printf("  r%-2u %016lx%s", i, state->gpr[i], i % 4 == 3 ? "\n" : "");
    printf("  rflags %lx\n", state->rflags);
    for (unsigned i = 0; i < 16; i++) {
        printf("  ymm%-2u ", i);
        for (unsigned j = 16; j-- > 0;)
            printf("%02x", state->ymm_high[i][j]);
        for (unsigned j = 16; j-- > 0;)
            printf("%02x", state->fxsave[160 + i * 16 + j]);
        printf("\n");
    }
    for (unsigned i = 0; i < 8; i++) {
        printf("  st%u ", i);
        for (unsigned j = 10; j-- > 0;)
            printf("%02x", state->fxsave[32 + i * 16 + j]);
        printf("\n");
    }
    printf("  fcw %02x%02x fsw %02x%02x ftw %02x mxcsr %02x%02x\n", state->fxsave[1],
           state->fxsave[0], state->fxsave[3], state->fxsave[2], state->fxsave[4],
           state->fxsave[25], state->fxsave[24]);
}

#define BATCH 128 /* cases that run natively before they are compared */

/* Turns that each form has at least, however long that takes: not each one finds an encoding. */
#define LEAST_TURNS 16

/* One case of eight is an encoding that is no instruction. */
#define INVALID_PERIOD 8

/* The form of a case: each in its turn. `*index` is its number among the valid ones, or -1. */
static const struct diff_form *choose_form(const struct diff_forms *forms, uint64_t number,
                                           int *index)
{
    if (!forms->valid->len || (forms->invalid->len && number % INVALID_PERIOD == 0)) {
        *index = -1;
        number /= forms->valid->len ? INVALID_PERIOD : 1;
        return &g_array_index(forms->invalid, struct diff_form, number % forms->invalid->len);
    }
    if (forms->invalid->len)
        number -= number / INVALID_PERIOD + 1;
    *index = (int)(number % forms->valid->len);
    return &g_array_index(forms->valid, struct diff_form, *index);
}

/* Count a mismatch; whether to tell of it. */
static bool count_mismatch(struct totals *totals, int index)
{
    totals->mismatches++;
    if (index < 0)
        return totals->mismatches <= 100;
    return totals->of_form[index]++ < (unsigned)option_shown;
}

/* A case that ran natively. */
struct run {
    uint64_t number;
    int index; /* of its form, or -1 */
    struct diff_case test;
    struct diff_outcome native;
};

static void compare(const struct run *run, struct totals *totals, const char *side,
                    const struct diff_outcome *other)
{
    char *difference = outcome_compare(&run->test, &run->native, other);

    if (difference && count_mismatch(totals, run->index)) {
        printf("MISMATCH %s, %s: --seed %ld --case %lu%s%s\n", run->test.form->name, side,
               (long)option_seed, run->number, option_form ? " --form " : "",
               option_form ? option_form : "");
        print_instruction(&run->test);
        printf("%s", difference);
    }
    g_free(difference);
}

static bool run_natively(uint64_t number, struct totals *totals, struct run *run)
{
    const struct diff_form *form = choose_form(&totals->forms, number, &run->index);
    struct diff_random random;

    run->number = number;
    random_seed(&random, (uint64_t)option_seed, number);
    if (!case_build(form, &random, &run->test))
        return false;
    if (option_case >= 0) {
        print_instruction(&run->test);
        print_state(&run->test);
        fflush(stdout);
    }
    native_run(&run->test, &run->native);
    totals->cases++;
    if (run->index < 0)
        totals->invalid++;
    else
        totals->runs[run->index]++;
    totals->faults += run->native.vector >= 0;
    return true;
}

static void run_emulated(const struct run *run, struct totals *totals)
{
    static struct diff_outcome out;

    interpreter_run(&run->test, &out);
    compare(run, totals, "interpreted", &out);
    if (!translator_takes(&run->test))
        return;
    totals->translated++;
    translator_run(&run->test, &out);
    compare(run, totals, "translated", &out);
}

/* Cases from `first` on. The translator is hidden while they run natively. */
static void run_batch(uint64_t first, unsigned count, struct totals *totals)
{
    static struct run runs[BATCH];
    unsigned ran = 0;

    translator_hide();
    for (unsigned i = 0; i < count; i++)
        ran += run_natively(first + i, totals, &runs[ran]);
    translator_show();
    for (unsigned i = 0; i < ran; i++)
        run_emulated(&runs[i], totals);
}

/* The number of a form's case in its turn; the reverse of choose_form. */
static uint64_t case_of(const struct diff_forms *forms, unsigned index, unsigned turn)
{
    uint64_t number = index + (uint64_t)turn * forms->valid->len;

    return forms->invalid->len ? number + number / (INVALID_PERIOD - 1) + 1 : number;
}

/* What had no turn, or none that found an encoding. */
static void run_missing(struct totals *totals)
{
    for (unsigned i = 0; i < totals->forms.valid->len; i++)
        for (unsigned turn = 0; turn < LEAST_TURNS && !totals->runs[i]; turn++)
            run_batch(case_of(&totals->forms, i, turn), 1, totals);
}

/* Forms of which no case could be made count as mismatches. */
static unsigned count_broken(struct totals *totals)
{
    unsigned broken = 0;

    for (unsigned i = 0; i < totals->forms.valid->len; i++) {
        if (!totals->runs[i]) {
            printf("NOT RUN %s: no encoding was found\n",
                   g_array_index(totals->forms.valid, struct diff_form, i).name);
            totals->mismatches++;
        }
        broken += totals->of_form[i] || !totals->runs[i];
    }
    return broken;
}

static void run_cases(struct totals *totals)
{
    gint64 end = g_get_monotonic_time() + option_seconds * G_TIME_SPAN_SECOND;
    unsigned broken;

    interpreter_init();
    translator_init(option_switches ? option_switches : "eager,exact");
    if (option_case >= 0) {
        run_batch((uint64_t)option_case, 1, totals);
    } else {
        for (uint64_t i = 0; g_get_monotonic_time() < end; i += BATCH)
            run_batch(i, BATCH, totals);
        run_missing(totals);
        broken = count_broken(totals);
        printf("%u forms, %lu cases (%lu faults; %lu invalid encodings; %lu translated too), %lu "
               "mismatches in %u forms\n",
               totals->forms.valid->len, totals->cases, totals->faults, totals->invalid,
               totals->translated, totals->mismatches, broken);
    }
    translator_finish();
    interpreter_finish();
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GOptionContext) context = g_option_context_new("- compare with this processor");
    struct totals totals = {0};
    unsigned least_size;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "anima-difftest: %s\n", error->message);
        return 2;
    }
    least_size = native_init();
    if (least_size > 2)
        printf("16-bit code is left out: this system has no LDT\n");
    totals.forms = form_list(option_form, least_size, diff_has_avx512());
    if (!totals.forms.valid->len && !totals.forms.invalid->len) {
        fprintf(stderr, "anima-difftest: no form contains '%s'; --list shows all\n", option_form);
        return 2;
    }
    totals.of_form = g_new0(unsigned, totals.forms.valid->len);
    totals.runs = g_new0(unsigned, totals.forms.valid->len);
    for (unsigned i = 0; option_list && i < totals.forms.valid->len; i++)
        printf("%s\n", g_array_index(totals.forms.valid, struct diff_form, i).name);
    if (!option_list)
        run_cases(&totals);
    g_free(totals.of_form);
    g_free(totals.runs);
    g_array_free(totals.forms.valid, TRUE);
    g_array_free(totals.forms.invalid, TRUE);
    return totals.mismatches ? 1 : 0;
}
