// SPDX-License-Identifier: Apache-2.0
/*
 * The switches of engine soft at work, and what its translator writes for those who debug it. The
 * same loop runs under each: it ends the same.
 */
#include "engine_fixture.h"

#include <stdlib.h>
#include <sys/mman.h>

#define CR4_OSFXSR  (1UL << 9)
#define CR4_OSXSAVE (1UL << 18)
#define TURNS       50

/* What a run said. */
static struct {
    char *log, *map;
} said;

static int64_t count_of(const char *name)
{
    uint64_t values[64];

    for (unsigned i = 0; ops->counters[i].name; i++) {
        assert_true(i < G_N_ELEMENTS(values));
        ops->count(fixture.vcpu, values);
        if (strcmp(ops->counters[i].name, name) == 0)
            return (int64_t)values[i];
    }
    fail_msg("no counter is called %s", name);
    return -1;
}

static char *take_text(int fd)
{
    off_t size = lseek(fd, 0, SEEK_END);
    char *text = g_malloc0((size_t)size + 1);

    assert_int_equal(pread(fd, text, (size_t)size, 0), size);
    close(fd);
    return text;
}

/* A loop with an instruction of BMI2, which shifts EBX left, one of AVX, which adds XMM1 and XMM2,
 * and one whose flags are dead at a store. */
static void load_loop(void)
{
    struct cpu_state state;

    /* mov ecx, TURNS; again: shlx eax, ebx, ecx; vpaddd xmm0, xmm1, xmm2; call sub; add edx, edx;
     * mov [2000h], edx; sub ecx, 1; jnz again; kick; sub: ret */
    FLAT(0xb9, TURNS, 0, 0, 0, 0xc4, 0xe2, 0x71, 0xf7, 0xc3, 0xc5, 0xf1, 0xfe, 0xc2, 0xe8, 15, 0, 0,
         0, 0x01, 0xd2, 0x89, 0x15, 0, 0x20, 0, 0, 0x83, 0xe9, 1, 0x75, 0xe5, OUT_KICK, 0xc3);
    state = get();
    state.cr4 |= CR4_OSFXSR | CR4_OSXSAVE;
    state.xcr0 = 7;
    state.gpr[GPR_RBX] = 3;
    for (unsigned i = 0; i < 8; i++) {
        state.vector[1][4 * i] = (uint8_t)i;
        state.vector[2][4 * i] = 100;
    }
    set(&state);
}

/* Run what `load` loads. */
static void run_under(const char *switches, void (*load)(void))
{
    struct engine_debug debug = {.switches = switches,
                                 .log = memfd_create("log", MFD_CLOEXEC),
                                 .perf_map = memfd_create("map", MFD_CLOEXEC)};

    fixture_debug = &debug;
    setup(NULL);
    load();
    run_until_kicked();
    said.log = take_text(debug.log);
    said.map = take_text(debug.perf_map);
}

static void run_loop(const char *switches)
{
    struct cpu_state state;

    run_under(switches, load_loop);
    state = get();
    assert_int_equal(state.gpr[GPR_RAX], 3 << 1);
    assert_int_equal(state.gpr[GPR_RCX], 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(state.vector[0][4 * i], 100 + i);
    assert_int_equal(state.vector[1][28], 7);
}

/* A loop with a branch that is taken once in 64 turns, and one that is taken else. */
static void load_branches(void)
{
    struct cpu_state state;

    /* mov ecx, 200; again: mov eax, ecx; and eax, 63; jz seldom; add edx, 1; jmp on;
     * seldom: add ebx, 1; on: sub ecx, 1; jnz again; kick */
    FLAT(0xb9, 200, 0, 0, 0, 0x89, 0xc8, 0x83, 0xe0, 63, 0x74, 5, 0x83, 0xc2, 1, 0xeb, 3, 0x83,
         0xc3, 1, 0x83, 0xe9, 1, 0x75, 0xec, OUT_KICK);
    state = get();
    state.gpr[GPR_RBX] = state.gpr[GPR_RDX] = 0;
    set(&state);
}

static int forget(void **state)
{
    fixture_debug = NULL;
    g_free(said.log);
    g_free(said.map);
    return teardown(state);
}

/* Whether a line of the host's code, or of the guest's, is this instruction. */
static bool shows(const char *mnemonic, bool host)
{
    g_autofree char *pattern = g_strdup_printf(
        host ? "(?m)^        [0-9a-f]{12}  %s " : "(?m)^  [0-9a-f]{16}  %s ", mnemonic);

    return g_regex_match_simple(pattern, said.log, 0, 0);
}

static void a_hot_loop_is_translated_and_linked(void **state)
{
    run_loop(NULL);
    assert_true(count_of("blocks_translated") > 0);
    assert_true(count_of("chains") > 0);
    assert_string_equal(said.map, "");
    assert_true(shows("shlx", false) && shows("shlx", true));
    assert_true(shows("vpaddd", false) && shows("vpaddd", true));
}

/* Whether one translation has both instructions of the guest. */
static bool has_both(const char *translation, const char *one, const char *other)
{
    g_autofree char *first = g_strdup_printf("(?m)^  [0-9a-f]{16}  %s ", one);
    g_autofree char *second = g_strdup_printf("(?m)^  [0-9a-f]{16}  %s ", other);

    return g_regex_match_simple(first, translation, 0, 0) &&
           g_regex_match_simple(second, translation, 0, 0);
}

static void a_translation_goes_on_over_branches(void **state)
{
    g_auto(GStrv) translations = NULL;
    struct cpu_state end;
    unsigned traces = 0;

    run_under(NULL, load_branches);
    end = get();
    assert_int_equal(end.gpr[GPR_RDX], 197);
    assert_int_equal(end.gpr[GPR_RBX], 3);
    translations = g_strsplit(said.log, "\nblock ", -1);
    for (unsigned i = 0; translations[i]; i++)
        traces += has_both(translations[i], "jz", "jnz");
    assert_int_equal(traces, 1);
}

static void interp_translates_nothing(void **state)
{
    run_loop("interp");
    assert_true(count_of("blocks_decoded") > 0);
    assert_int_equal(count_of("blocks_translated"), 0);
    assert_string_equal(said.log, "");
}

static void nochain_comes_out_of_each_block(void **state)
{
    run_loop("nochain,eager");
    assert_int_equal(count_of("chains"), 0);
    assert_true(count_of("exits_unlinked") > TURNS);
    assert_true(count_of("exits_indirect") >= TURNS - 1);
}

static void linked_blocks_seldom_come_out(void **state)
{
    run_loop("eager");
    assert_in_range(count_of("exits"), 1, TURNS / 2);
}

static void eager_translates_at_first_sight(void **state)
{
    run_loop("eager");
    /* The loop before its first turn is a block of its own, with the first instruction. */
    assert_non_null(strstr(said.log, "mov ecx, 0x32"));
}

static void nobmi2_hides_bmi2(void **state)
{
    run_loop("nobmi2");
    assert_true(shows("shlx", false) && !shows("shlx", true));
    assert_true(shows("vpaddd", true));
    assert_true(count_of("interpreted") >= TURNS / 2);
}

static void noavx_hides_avx(void **state)
{
    run_loop("noavx");
    assert_true(shows("vpaddd", false) && !shows("v[a-z]+", true));
    assert_true(shows("shlx", true));
    assert_true(count_of("interpreted") >= TURNS / 2);
}

static void both_can_be_hidden(void **state)
{
    run_loop("nobmi2,noavx");
    assert_false(shows("shlx", true) || shows("v[a-z]+", true));
}

static void exact_keeps_dead_flags(void **state)
{
    int64_t size;

    run_loop("eager");
    size = count_of("bytes_translated");
    forget(state);
    run_loop("eager,exact");
    assert_true(count_of("bytes_translated") > size);
}

static void perf_names_each_translation(void **state)
{
    g_auto(GStrv) lines = NULL;

    run_loop("perf");
    lines = g_strsplit(g_strchomp(said.map), "\n", -1);
    /* Each has cold code too: a request leads out. */
    assert_int_equal(g_strv_length(lines), 2 * count_of("blocks_translated") + 1);
    assert_true(g_regex_match_simple("^[0-9a-f]+ [0-9a-f]+ anima:glue 0x0$", lines[0], 0, 0));
    for (unsigned i = 1; lines[i]; i++)
        assert_true(g_regex_match_simple("^[0-9a-f]+ [0-9a-f]+ anima:(block|cold) 0x10[0-9a-f]+$",
                                         lines[i], 0, 0));
}

static void an_unknown_switch_makes_no_engine(void **state)
{
    struct engine_debug debug = {.switches = "fast", .log = -1, .perf_map = -1};
    const struct engine_config config = {
        .exits = &exits, .cpus = 1, .cpu_model = "default", .debug = &debug};
    GError *error = NULL;

    assert_null(ops->create(&config, &error));
    assert_non_null(strstr(error->message, "'fast'"));
    g_error_free(error);
}

#define DEBUG_TEST(name) cmocka_unit_test_teardown(name, forget)

int main(void)
{
    /* Last what holds for the whole process. */
    const struct CMUnitTest tests[] = {
        DEBUG_TEST(a_hot_loop_is_translated_and_linked),
        DEBUG_TEST(a_translation_goes_on_over_branches),
        DEBUG_TEST(interp_translates_nothing),
        DEBUG_TEST(nochain_comes_out_of_each_block),
        DEBUG_TEST(linked_blocks_seldom_come_out),
        DEBUG_TEST(eager_translates_at_first_sight),
        DEBUG_TEST(exact_keeps_dead_flags),
        DEBUG_TEST(perf_names_each_translation),
        DEBUG_TEST(nobmi2_hides_bmi2),
        DEBUG_TEST(noavx_hides_avx),
        DEBUG_TEST(both_can_be_hidden),
        cmocka_unit_test(an_unknown_switch_makes_no_engine),
    };

    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2")) {
        printf("SKIP: this host has no AVX2 or BMI2\n");
        return 77;
    }
    ops = engines[0];
    kvm_fd = -1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
