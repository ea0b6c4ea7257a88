// SPDX-License-Identifier: Apache-2.0
/*
 * anima-difftest: runs cases until the time is up and tells where the interpreter and this
 * processor disagree.
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

static const GOptionEntry entries[] = {
    {"seconds", 0, 0, G_OPTION_ARG_INT, &option_seconds, "how long (20)", "N"},
    {"seed", 0, 0, G_OPTION_ARG_INT64, &option_seed, "of all randomness (1)", "S"},
    {"form", 0, 0, G_OPTION_ARG_STRING, &option_form, "only forms whose name contains this",
     "TEXT"},
    {"case", 0, 0, G_OPTION_ARG_INT64, &option_case, "only this case, and tell all of it", "N"},
    {"shown", 0, 0, G_OPTION_ARG_INT, &option_shown, "mismatches told of each form (3)", "N"},
    {"list", 0, 0, G_OPTION_ARG_NONE, &option_list, "only list the forms", NULL},
    {NULL},
};

struct totals {
    unsigned long cases, faults, mismatches;
    unsigned *of_form, *runs; /* mismatches of each, cases of each */
    unsigned broken;          /* forms with any mismatch */
};

static void print_instruction(const struct diff_case *test)
{
    ZydisFormatter formatter;
    char text[128] = "?";

    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
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

/* Case `number` is of form number modulo their count. */
static void run_case(const GArray *forms, uint64_t number, struct totals *totals)
{
    static struct diff_case test;
    static struct diff_outcome native, interpreted;
    unsigned index = (unsigned)(number % forms->len);
    struct diff_random random;
    char *difference;

    random_seed(&random, (uint64_t)option_seed, number);
    if (!case_build(&g_array_index(forms, struct diff_form, index), &random, &test))
        return;
    if (option_case >= 0) {
        print_instruction(&test);
        print_state(&test);
        fflush(stdout);
    }
    native_run(&test, &native);
    interpreter_run(&test, &interpreted);
    totals->cases++;
    totals->runs[index]++;
    totals->faults += native.vector >= 0;
    difference = outcome_compare(&test, &native, &interpreted);
    if (!difference)
        return;
    totals->mismatches++;
    totals->broken += totals->of_form[index]++ == 0;
    if (totals->of_form[index] <= (unsigned)option_shown) {
        printf("MISMATCH %s: --seed %ld --case %lu%s%s\n", test.form->name, (long)option_seed,
               number, option_form ? " --form " : "", option_form ? option_form : "");
        print_instruction(&test);
        printf("%s", difference);
    }
    g_free(difference);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GOptionContext) context = g_option_context_new("- compare with this processor");
    struct totals totals = {0};
    GArray *forms;
    gint64 end;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "anima-difftest: %s\n", error->message);
        return 2;
    }
    forms = form_list(option_form);
    if (!forms->len) {
        fprintf(stderr, "anima-difftest: no form contains '%s'; --list shows all\n", option_form);
        return 2;
    }
    for (unsigned i = 0; option_list && i < forms->len; i++)
        printf("%s\n", g_array_index(forms, struct diff_form, i).name);
    totals.of_form = g_new0(unsigned, forms->len);
    totals.runs = g_new0(unsigned, forms->len);
    native_init();
    interpreter_init();
    end = g_get_monotonic_time() + option_seconds * G_TIME_SPAN_SECOND;
    if (option_case >= 0)
        run_case(forms, (uint64_t)option_case, &totals);
    else
        for (uint64_t i = 0; !option_list && (i % 256 || g_get_monotonic_time() < end); i++)
            run_case(forms, i, &totals);
    for (unsigned i = 0; option_case < 0 && !option_list && i < forms->len; i++)
        if (!totals.runs[i]) {
            printf("NOT RUN %s: no encoding was found\n",
                   g_array_index(forms, struct diff_form, i).name);
            totals.mismatches++;
        }
    printf("%u forms, %lu cases (%lu of them faults), %lu mismatches in %u forms\n", forms->len,
           totals.cases, totals.faults, totals.mismatches, totals.broken);
    interpreter_finish();
    g_free(totals.of_form);
    g_free(totals.runs);
    g_array_free(forms, TRUE);
    return totals.mismatches ? 1 : 0;
}
