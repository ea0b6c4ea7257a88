// SPDX-License-Identifier: Apache-2.0
/*
 * anima-lockstep: random programs by the interpreter and by the translator, until the time is up.
 */
#define _GNU_SOURCE 1
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "tests/lockstep/lockstep.h"
#include "vmm/engine/soft/counters.h"
#include "vmm/engine/soft/soft.h"

static int option_seconds = 10;
static gint64 option_seed = 1, option_case = -1, option_first;
static int option_shown = 10;
static char *option_switches;
static gboolean option_whole, option_avx512;

static const GOptionEntry entries[] = {
    {"seconds", 0, 0, G_OPTION_ARG_INT, &option_seconds, "how long (10)", "N"},
    {"seed", 0, 0, G_OPTION_ARG_INT64, &option_seed, "of all randomness (1)", "S"},
    {"first", 0, 0, G_OPTION_ARG_INT64, &option_first, "number of the first program (0)", "N"},
    {"case", 0, 0, G_OPTION_ARG_INT64, &option_case, "only this program", "N"},
    {"shown", 0, 0, G_OPTION_ARG_INT, &option_shown, "mismatches after which it gives up (10)",
     "N"},
    {"switches", 0, 0, G_OPTION_ARG_STRING, &option_switches,
     "of the translator, as ANIMA_SOFT has them, in place of all variants", "LIST"},
    {"avx512", 0, 0, G_OPTION_ARG_NONE, &option_avx512, "programs with instructions of AVX-512",
     NULL},
    {"whole", 0, 0, G_OPTION_ARG_NONE, &option_whole, "show programs as they are, not minimized",
     NULL},
    {NULL},
};

/* How the translator is run, in turns. `noavx` is for all of a process. */
#define VARIANTS 6
static const char *variants[VARIANTS] = {
    "eager,exact", "eager", "", "eager,nochain,nobmi2", "eager,nowindows", "eager,noclones",
};

static volatile uint64_t current_case;

struct test {
    struct side *interpreter, *witness, *translators[VARIANTS];
    struct diff_forms forms;
    unsigned long programs, endless, unstable, mismatches, returns, shutdowns;
    unsigned long vectors[256]; /* exceptions and calls that were logged */
};

static struct side *translator(const struct test *test, const struct program *program)
{
    return test->translators[program->variant];
}

#define ENOUGH 100 /* programs of a variant, for something to be cloned */
#define TRIES  40  /* of a program that is kicked at random */

/* Run both sides until they differ. */
static bool run_both(struct test *test, const struct program *program, struct outcome *interpreted,
                     struct outcome *translated)
{
    side_run(test->interpreter, program, program->asynchronous, interpreted);
    if (!interpreted->finished)
        return false;
    for (unsigned i = 0; i < (program->asynchronous ? TRIES : 1); i++) {
        side_run(translator(test, program), program, program->asynchronous, translated);
        if (!outcomes_agree(program, interpreted, translated))
            return true;
    }
    return false;
}

static bool differs(const struct program *program, void *opaque)
{
    struct outcome interpreted, translated;

    return run_both(opaque, program, &interpreted, &translated);
}

/* What the guest can tell from chance is no mismatch. */
static bool stable(struct test *test, const struct program *program)
{
    struct outcome first, second;

    side_run(test->interpreter, program, program->asynchronous, &first);
    side_run(test->witness, program, program->asynchronous, &second);
    return outcomes_agree(program, &first, &second);
}

static void report(struct test *test, struct program *program, struct outcome *interpreted,
                   struct outcome *translated)
{
    printf("MISMATCH --seed %ld --case %ld, translator with '%s'%s\n", (long)program->seed,
           (long)program->number, variants[program->variant],
           program->asynchronous ? ", kicked" : "");
    if (!option_whole && differs(program, test)) {
        program_minimize(program, differs, test);
        run_both(test, program, interpreted, translated);
    }
    program_print(program);
    outcomes_print(program, interpreted, translated);
    fflush(stdout);
}

static void count_vectors(struct test *test, const struct outcome *outcome)
{
    for (unsigned i = 0; i < LOG_SIZE; i += LOG_ENTRY) {
        const uint8_t *entry = outcome->kernel + KERNEL_LOG + i;

        if (entry[18 * 8] | entry[19 * 8]) /* rip and cs: not empty */
            test->vectors[entry[16 * 8]]++;
    }
}

static void run_program(struct test *test, uint64_t number)
{
    static struct program program;
    struct outcome interpreted, translated;

    current_case = number;
    program.variant = number % VARIANTS;
    program.exact = strstr(variants[program.variant], "exact");
    program_make(&program, &test->forms, (uint64_t)option_seed, number);
    test->programs++;
    side_run(test->interpreter, &program, program.asynchronous, &interpreted);
    if (!interpreted.finished) {
        test->endless++;
        return;
    }
    test->shutdowns += interpreted.shut_down;
    count_vectors(test, &interpreted);
    side_run(translator(test, &program), &program, program.asynchronous, &translated);
    test->returns += translated.returns;
    if (outcomes_agree(&program, &interpreted, &translated))
        return;
    if (!stable(test, &program)) {
        test->unstable++;
        return;
    }
    test->mismatches++;
    report(test, &program, &interpreted, &translated);
}

/* ---- crashes ---- */

/* Of the engine's C, or of translated code where no fault was expected. */
static void on_crash(int number, siginfo_t *info, void *context)
{
    const ucontext_t *user = context;
    const uint8_t *at = (const uint8_t *)user->uc_mcontext.gregs[REG_RIP];

    dprintf(STDOUT_FILENO, "CRASH --seed %ld --case %lu: signal %d at %p, address %p, main at %p\n",
            (long)option_seed, current_case, number, (const void *)at, info->si_addr,
            (void *)(uintptr_t)run_program);
    for (unsigned i = 0; i < NGREG; i++)
        dprintf(STDOUT_FILENO, "  %016llx%s", user->uc_mcontext.gregs[i], i % 4 == 3 ? "\n" : "");
    for (unsigned i = 0; i < 48; i++)
        dprintf(STDOUT_FILENO, i == 32 ? " | %02x" : " %02x", at[(int)i - 32]);
    dprintf(STDOUT_FILENO, "\n");
    _exit(1);
}

/* The engine hands on what is not its own. */
static void catch_crashes(void)
{
    struct sigaction action = {.sa_sigaction = on_crash,
                               .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESETHAND};

    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    sigaction(SIGTRAP, &action, NULL);
}

static void print_counters(const struct test *test)
{
    for (unsigned i = 0; i < VARIANTS; i++) {
        const struct soft_counters *counters = side_counters(test->translators[i]);

        printf("'%s'", variants[i]);
#define PRINT_COUNTER(name, description) \
    if (counters->name)                  \
        printf(" %s:%lu", #name, (unsigned long)counters->name);
        SOFT_COUNTERS(PRINT_COUNTER)
#undef PRINT_COUNTER
        printf("\n");
    }
}

/* A test of nothing is none. */
static void check_translators(struct test *test)
{
    for (unsigned i = 0; i < VARIANTS && test->programs >= VARIANTS; i++) {
        const struct soft_counters *counters = side_counters(test->translators[i]);
        bool clones = strstr(variants[i], "eager") && !strstr(variants[i], "noclones");

        if (!counters->blocks_translated) {
            printf("NOTHING TRANSLATED with '%s'\n", variants[i]);
            test->mismatches++;
        }
        if (clones && !counters->clones && test->programs >= VARIANTS * ENOUGH) {
            printf("NOTHING CLONED with '%s'\n", variants[i]);
            test->mismatches++;
        }
    }
}

static void run_all(struct test *test)
{
    gint64 end = g_get_monotonic_time() + option_seconds * G_TIME_SPAN_SECOND;

    if (option_case >= 0) {
        run_program(test, (uint64_t)option_case);
        return;
    }
    for (uint64_t i = (uint64_t)option_first;
         g_get_monotonic_time() < end && test->mismatches < (unsigned)option_shown; i++)
        run_program(test, i);
    check_translators(test);
    printf("%lu programs (%lu left out as endless, %lu as unstable; %lu triple faults, %lu "
           "returns), %lu mismatches\n",
           test->programs, test->endless, test->unstable, test->shutdowns, test->returns,
           test->mismatches);
    print_counters(test);
    printf("logged");
    for (unsigned i = 0; i < 256; i++)
        if (test->vectors[i])
            printf(" %u:%lu", i, test->vectors[i]);
    printf("\n");
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GOptionContext) context =
        g_option_context_new("- compare the translator with the interpreter");
    struct test test = {0};

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "anima-lockstep: %s\n", error->message);
        return 2;
    }
    if (option_avx512 && !soft_host_has_avx512()) {
        printf("SKIP: this host has no AVX-512\n");
        return 77;
    }
    catch_crashes();
    test.forms = form_list(NULL, 4, option_avx512);
    test.interpreter = side_create("interp");
    test.witness = side_create("interp");
    for (unsigned i = 0; i < VARIANTS; i++) {
        if (option_switches)
            variants[i] = option_switches;
        test.translators[i] = side_create(variants[i]);
    }
    run_all(&test);
    for (unsigned i = 0; i < VARIANTS; i++)
        side_destroy(test.translators[i]);
    side_destroy(test.witness);
    side_destroy(test.interpreter);
    g_array_free(test.forms.valid, TRUE);
    g_array_free(test.forms.invalid, TRUE);
    return test.mismatches ? 1 : 0;
}
