// SPDX-License-Identifier: Apache-2.0
/*
 * GDB's remote protocol: packets, and sessions against a made-up target of two vCPUs.
 */
#include "vmm/control/gdb_packet.h"
#include "vmm/control/gdb_registers.h"
#include "vmm/control/gdb_session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Linear addresses are physical ones plus this, as far as there is memory. */
#define LINEAR_BASE 0xffff800000000000UL

struct fixture {
    struct memory *memory;
    struct gdb_session *session;
    struct cpu_state cpus[2];
    struct vcpu_debug debug[2];
    bool held[2];
    bool running, killed, refuse_debug;
    GString *sent;
};

static void fake_pause(void *opaque)
{
    ((struct fixture *)opaque)->running = false;
}

static bool fake_resume(void *opaque)
{
    return ((struct fixture *)opaque)->running = true;
}

static void fake_hold(void *opaque, unsigned cpu, bool hold)
{
    ((struct fixture *)opaque)->held[cpu] = hold;
}

static void fake_get_state(void *opaque, unsigned cpu, struct cpu_state *state)
{
    struct fixture *fixture = opaque;

    assert_false(fixture->running);
    *state = fixture->cpus[cpu];
}

static bool fake_set_state(void *opaque, unsigned cpu, const struct cpu_state *state)
{
    struct fixture *fixture = opaque;

    assert_false(fixture->running);
    if (state->rip == 0xbad)
        return false;
    fixture->cpus[cpu] = *state;
    return true;
}

static bool fake_set_debug(void *opaque, unsigned cpu, const struct vcpu_debug *debug)
{
    struct fixture *fixture = opaque;

    assert_false(fixture->running);
    fixture->debug[cpu] = *debug;
    return !fixture->refuse_debug;
}

static bool fake_translate(void *opaque, unsigned cpu, uint64_t linear, uint64_t *physical)
{
    *physical = linear - LINEAR_BASE;
    return linear >= LINEAR_BASE;
}

static void fake_kill(void *opaque)
{
    ((struct fixture *)opaque)->killed = true;
}

static void fake_send(void *opaque, const void *data, size_t size)
{
    g_string_append_len(((struct fixture *)opaque)->sent, data, (gssize)size);
}

static int setup(void **state)
{
    struct fixture *fixture = g_new0(struct fixture, 1);
    int fd = memory_memfd("ram", 2 * GUEST_PAGE_SIZE, NULL);
    struct gdb_target target = {
        .cpus = 2,
        .pause = fake_pause,
        .resume = fake_resume,
        .hold = fake_hold,
        .get_state = fake_get_state,
        .set_state = fake_set_state,
        .set_debug = fake_set_debug,
        .translate = fake_translate,
        .kill = fake_kill,
        .send = fake_send,
        .opaque = fixture,
    };

    fixture->memory = memory_create();
    assert_true(
        memory_add(fixture->memory, "ram", MEMORY_RAM, 0, 2 * GUEST_PAGE_SIZE, fd, 0, NULL));
    close(fd);
    fixture->running = true;
    fixture->sent = g_string_new(NULL);
    target.memory = fixture->memory;
    fixture->session = gdb_session_create(&target);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    gdb_session_destroy(fixture->session);
    memory_destroy(fixture->memory);
    g_string_free(fixture->sent, TRUE);
    g_free(fixture);
    return 0;
}

/* What the session answers to one packet, without acknowledgement and frame. */
static char *ask(struct fixture *fixture, const char *packet)
{
    g_autoptr(GString) wire = g_string_new(NULL);
    struct gdb_parser parser;
    char *answer = NULL;

    g_string_truncate(fixture->sent, 0);
    gdb_packet_append(wire, packet, strlen(packet));
    gdb_session_feed(fixture->session, wire->str, wire->len);
    gdb_parser_init(&parser);
    for (gsize i = 0; i < fixture->sent->len; i++)
        if (gdb_parser_feed(&parser, (uint8_t)fixture->sent->str[i]) == GDB_EVENT_PACKET)
            answer = g_strdup(parser.data->str);
    gdb_parser_finish(&parser);
    return answer;
}

static void assert_answer(struct fixture *fixture, const char *packet, const char *expected)
{
    g_autofree char *answer = ask(fixture, packet);

    assert_non_null(answer);
    assert_string_equal(answer, expected);
}

static void packets_are_framed_and_escaped(void **state)
{
    g_autoptr(GString) wire = g_string_new(NULL);
    struct gdb_parser parser;
    enum gdb_event event = GDB_EVENT_NONE;

    gdb_packet_append(wire, "a#$}*\0b", 7);
    assert_memory_equal(wire->str, "$a}\x03}\x04}]}\n\0b#", 13);
    gdb_parser_init(&parser);
    for (gsize i = 0; i < wire->len; i++) {
        assert_int_equal(event, GDB_EVENT_NONE);
        event = gdb_parser_feed(&parser, (uint8_t)wire->str[i]);
    }
    assert_int_equal(event, GDB_EVENT_PACKET);
    assert_int_equal(parser.data->len, 7);
    assert_memory_equal(parser.data->str, "a#$}*\0b", 7);
    gdb_parser_finish(&parser);
}

static enum gdb_event feed_all(struct gdb_parser *parser, const char *text)
{
    enum gdb_event event = GDB_EVENT_NONE;

    for (; *text; text++)
        event = gdb_parser_feed(parser, (uint8_t)*text);
    return event;
}

static void damaged_and_endless_packets_are_refused(void **state)
{
    struct gdb_parser parser;

    gdb_parser_init(&parser);
    assert_int_equal(feed_all(&parser, "$g#68"), GDB_EVENT_DAMAGED);
    assert_int_equal(feed_all(&parser, "$g#67"), GDB_EVENT_PACKET);
    assert_int_equal(feed_all(&parser, "noise+"), GDB_EVENT_ACKNOWLEDGED);
    assert_int_equal(feed_all(&parser, "-"), GDB_EVENT_AGAIN);
    assert_int_equal(feed_all(&parser, "\x03"), GDB_EVENT_INTERRUPT);
    feed_all(&parser, "$");
    for (unsigned i = 0; i < 3 * GDB_PACKET_MAX; i++)
        gdb_parser_feed(&parser, 0);
    assert_in_range(parser.data->len, 0, GDB_PACKET_MAX);
    assert_int_equal(feed_all(&parser, "#00"), GDB_EVENT_DAMAGED);
    gdb_parser_finish(&parser);
}

static void a_damaged_packet_is_asked_for_again(void **state)
{
    struct fixture *fixture = *state;

    gdb_session_feed(fixture->session, "$?#00", 5);
    assert_string_equal(fixture->sent->str, "-");
    assert_answer(fixture, "?", "T05thread:1;");
    g_string_truncate(fixture->sent, 0);
    gdb_session_feed(fixture->session, "-", 1);
    assert_string_equal(fixture->sent->str, "$T05thread:1;#d7");
}

static void acknowledgements_can_be_switched_off(void **state)
{
    struct fixture *fixture = *state;

    assert_answer(fixture, "QStartNoAckMode", "OK");
    assert_int_equal(fixture->sent->str[0], '+');
    assert_answer(fixture, "qAttached", "1");
    assert_int_equal(fixture->sent->str[0], '$');
}

static void a_session_begins_with_a_pause(void **state)
{
    struct fixture *fixture = *state;

    assert_false(fixture->running);
    assert_answer(fixture, "?", "T05thread:1;");
    assert_answer(fixture, "vMustReplyEmpty", "");
    assert_answer(fixture, "qCRC:0,10", "");
}

static void the_description_comes_in_parts(void **state)
{
    struct fixture *fixture = *state;
    g_autofree char *whole = gdb_target_description();
    g_autoptr(GString) read = g_string_new(NULL);
    char more = 'm';

    while (more == 'm') {
        g_autofree char *request =
            g_strdup_printf("qXfer:features:read:target.xml:%zx,800", read->len);
        g_autofree char *answer = ask(fixture, request);

        more = answer[0];
        g_string_append(read, answer + 1);
        assert_in_range(read->len, 1, 20000);
    }
    assert_string_equal(read->str, whole);
    assert_answer(fixture, "qXfer:features:read:target.xml:fffff,10", "E01");
}

static void single_registers_are_read_and_written(void **state)
{
    struct fixture *fixture = *state;

    fixture->cpus[0].gpr[GPR_RBX] = 0x1122334455667788;
    fixture->cpus[0].segments[SEG_CS].selector = 0x10;
    assert_answer(fixture, "p1", "8877665544332211");
    assert_answer(fixture, "p12", "10000000");
    assert_answer(fixture, "P0=efbeadde00000000", "OK");
    assert_int_equal(fixture->cpus[0].gpr[GPR_RAX], 0xdeadbeef);
    assert_answer(fixture, "P0=efbe", "E01");
    assert_answer(fixture, "pffff", "E01");
    assert_answer(fixture, "P10=ad0b000000000000", "E01");
}

static void all_registers_survive_a_round_trip(void **state)
{
    struct fixture *fixture = *state;
    struct cpu_state before;
    g_autofree char *all = NULL;
    g_autofree char *write = NULL;

    for (unsigned i = 0; i < GPR_COUNT; i++)
        fixture->cpus[0].gpr[i] = 0x0101010101010101UL * i;
    fixture->cpus[0].x87.status = 3 << 11;
    fixture->cpus[0].x87.tag = 0x81;
    memset(fixture->cpus[0].x87.registers[7], 0x55, 10);
    memset(fixture->cpus[0].vector[15], 0x66, 64);
    fixture->cpus[0].cr3 = 0x1000;
    before = fixture->cpus[0];
    all = ask(fixture, "g");
    write = g_strconcat("G", all, NULL);
    assert_answer(fixture, write, "OK");
    assert_memory_equal(&fixture->cpus[0], &before, sizeof(before));
    write[strlen(write) - 1] = 0;
    assert_answer(fixture, write, "E01");
}

static void the_x87_stack_is_seen_by_its_top(void **state)
{
    struct fixture *fixture = *state;
    struct cpu_x87 *x87 = &fixture->cpus[0].x87;

    x87->status = 6 << 11;
    x87->tag = 1 << 6 | 1 << 7;
    memcpy(x87->registers[6], "\1\2\3\4\5\6\7\x88\xff\x3f", 10);
    /* st0 is R6, st2 is R0; R7 is zero, the others are empty. */
    assert_answer(fixture, "p18", "0102030405060788ff3f");
    assert_answer(fixture, "p1a", "00000000000000000000");
    assert_answer(fixture, "p22", "ff4f0000");
    assert_answer(fixture, "P22=fcff0000", "OK");
    assert_int_equal(x87->tag, 1);
}

static void memory_is_read_through_the_page_tables(void **state)
{
    struct fixture *fixture = *state;

    memory_write(fixture->memory, 4094, "abcd", 4);
    assert_answer(fixture, "mffff800000000ffe,4", "61626364");
    assert_answer(fixture, "mffff800000001ffe,4", "0000");
    assert_answer(fixture, "mffff800000002000,4", "E0e");
    assert_answer(fixture, "m1000,4", "E0e");
    assert_answer(fixture, "mfffffffffffffffe,8", "E0e");
    assert_answer(fixture, "m,4", "E01");
    assert_answer(fixture, "m1000", "E01");
}

static void memory_is_written_through_the_page_tables(void **state)
{
    struct fixture *fixture = *state;
    char back[4];

    assert_answer(fixture, "Mffff800000000ffe,4:64636261", "OK");
    assert_true(memory_read(fixture->memory, 4094, back, 4));
    assert_memory_equal(back, "dcba", 4);
    assert_answer(fixture, "Mffff800000001ffe,4:64636261", "E0e");
    assert_answer(fixture, "Mffff800000000000,4:6463", "E01");
    assert_answer(fixture, "Mffff800000000000,ffffffff:64", "E01");
}

static void breakpoints_reach_every_vcpu(void **state)
{
    struct fixture *fixture = *state;

    assert_answer(fixture, "Z0,ffff800000000010,1", "OK");
    assert_answer(fixture, "Z0,ffff800000000010,1", "OK");
    assert_answer(fixture, "Z1,ffff800000000020,1", "OK");
    assert_int_equal(fixture->debug[1].breakpoints, 2);
    assert_int_equal(fixture->debug[1].address[1], 0xffff800000000020);
    assert_answer(fixture, "z0,ffff800000000010,1", "OK");
    assert_int_equal(fixture->debug[0].breakpoints, 1);
    assert_int_equal(fixture->debug[0].address[0], 0xffff800000000020);
    assert_answer(fixture, "Z2,1000,4", "");
    assert_answer(fixture, "Z0,xyz", "E01");
}

static void too_many_breakpoints_are_refused(void **state)
{
    struct fixture *fixture = *state;

    for (unsigned i = 0; i < G_N_ELEMENTS(fixture->debug[0].address); i++) {
        g_autofree char *packet = g_strdup_printf("Z0,%x,1", i);

        assert_answer(fixture, packet, "OK");
    }
    assert_answer(fixture, "Z0,1000,1", "E1c");
    assert_int_equal(fixture->debug[0].breakpoints, 32);
}

static void a_met_breakpoint_is_told_with_its_kind(void **state)
{
    struct fixture *fixture = *state;

    assert_answer(fixture, "Z0,1234,1", "OK");
    assert_null(ask(fixture, "vCont;c"));
    assert_true(fixture->running);
    fixture->running = false;
    fixture->cpus[1].rip = 0x1234;
    g_string_truncate(fixture->sent, 0);
    gdb_session_stopped(fixture->session, 1);
    assert_non_null(strstr(fixture->sent->str, "$T05thread:2;swbreak:;#"));
    assert_answer(fixture, "qC", "QC2");
}

static void a_step_is_of_one_vcpu(void **state)
{
    struct fixture *fixture = *state;

    assert_null(ask(fixture, "vCont;s:2;c"));
    assert_false(fixture->debug[0].single_step);
    assert_true(fixture->debug[1].single_step);
    assert_false(fixture->held[0]);
    fixture->running = false;
    gdb_session_stopped(fixture->session, 1);
    assert_null(ask(fixture, "vCont;s:2"));
    assert_true(fixture->held[0]);
    assert_false(fixture->held[1]);
    fixture->running = false;
    gdb_session_stopped(fixture->session, 1);
    assert_null(ask(fixture, "vCont;c"));
    assert_false(fixture->held[0]);
    assert_false(fixture->debug[1].single_step);
    fixture->running = false;
    gdb_session_stopped(fixture->session, 0);
    assert_null(ask(fixture, "s5000"));
    assert_true(fixture->debug[0].single_step);
    assert_int_equal(fixture->cpus[0].rip, 0x5000);
    fixture->running = false;
    gdb_session_stopped(fixture->session, 0);
    assert_answer(fixture, "vCont;x", "E01");
    assert_answer(fixture, "vCont;s:77", "E01");
    assert_false(fixture->running);
}

static void the_interrupt_key_stops(void **state)
{
    struct fixture *fixture = *state;

    gdb_session_feed(fixture->session, "\x03", 1);
    assert_string_equal(fixture->sent->str, "");
    assert_null(ask(fixture, "c"));
    g_string_truncate(fixture->sent, 0);
    gdb_session_feed(fixture->session, "\x03", 1);
    assert_false(fixture->running);
    assert_non_null(strstr(fixture->sent->str, "T02thread:1;"));
}

static void vcpus_are_threads(void **state)
{
    struct fixture *fixture = *state;

    assert_answer(fixture, "qfThreadInfo", "m1,2");
    assert_answer(fixture, "qsThreadInfo", "l");
    assert_answer(fixture, "qThreadExtraInfo,2", "766370752f31");
    assert_answer(fixture, "T2", "OK");
    assert_answer(fixture, "T3", "E01");
    assert_answer(fixture, "Hg2", "OK");
    fixture->cpus[1].gpr[GPR_RAX] = 0x77;
    assert_answer(fixture, "p0", "7700000000000000");
    assert_answer(fixture, "Hg3", "E01");
    assert_answer(fixture, "Hc-1", "OK");
    assert_answer(fixture, "H", "E01");
}

static void detaching_takes_breakpoints_away_and_goes_on(void **state)
{
    struct fixture *fixture = *state;

    assert_answer(fixture, "Z0,1234,1", "OK");
    assert_answer(fixture, "D", "OK");
    assert_int_equal(fixture->debug[0].breakpoints, 0);
    assert_true(fixture->running);
    assert_false(gdb_session_feed(fixture->session, "$?#3f", 5));
}

static void a_lost_debugger_leaves_nothing_behind(void **state)
{
    struct fixture *fixture = *state;

    assert_answer(fixture, "Z0,1234,1", "OK");
    gdb_session_leave(fixture->session);
    assert_int_equal(fixture->debug[1].breakpoints, 0);
    assert_true(fixture->running);
}

static void killing_ends_the_machine(void **state)
{
    struct fixture *fixture = *state;

    assert_null(ask(fixture, "k"));
    assert_true(fixture->killed);
}

static void an_engine_that_refuses_breakpoints_is_told(void **state)
{
    struct fixture *fixture = *state;

    fixture->refuse_debug = true;
    assert_answer(fixture, "Z0,1234,1", "E1c");
    assert_answer(fixture, "c", "E01");
    assert_false(fixture->running);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packets_are_framed_and_escaped),
        cmocka_unit_test(damaged_and_endless_packets_are_refused),
        TEST(a_damaged_packet_is_asked_for_again),
        TEST(acknowledgements_can_be_switched_off),
        TEST(a_session_begins_with_a_pause),
        TEST(the_description_comes_in_parts),
        TEST(single_registers_are_read_and_written),
        TEST(all_registers_survive_a_round_trip),
        TEST(the_x87_stack_is_seen_by_its_top),
        TEST(memory_is_read_through_the_page_tables),
        TEST(memory_is_written_through_the_page_tables),
        TEST(breakpoints_reach_every_vcpu),
        TEST(too_many_breakpoints_are_refused),
        TEST(a_met_breakpoint_is_told_with_its_kind),
        TEST(a_step_is_of_one_vcpu),
        TEST(the_interrupt_key_stops),
        TEST(vcpus_are_threads),
        TEST(detaching_takes_breakpoints_away_and_goes_on),
        TEST(a_lost_debugger_leaves_nothing_behind),
        TEST(killing_ends_the_machine),
        TEST(an_engine_that_refuses_breakpoints_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
