// SPDX-License-Identifier: Apache-2.0
/*
 * Commands of GDB's remote protocol (GDB manual, appendix E.2 to E.4).
 *
 * Breakpoints of both kinds are the engine's instruction breakpoints, so that nothing is written
 * into the guest's code. Addresses are linear and go through the selected vCPU's page tables.
 */
#include "vmm/control/gdb_session.h"

#include "vmm/control/gdb_packet.h"
#include "vmm/control/gdb_registers.h"

#include <inttypes.h>
#include <string.h>

#define SIGNAL_INTERRUPT 2
#define SIGNAL_ABORT     6
#define SIGNAL_TRAP      5

#define ERROR_BAD_REQUEST "E01"
#define ERROR_NO_MEMORY   "E0e" /* EFAULT */
#define ERROR_NO_ROOM     "E1c" /* ENOSPC */

/* Bytes of memory in one packet: two digits each, with room for the rest. */
#define MEMORY_MAX ((GDB_PACKET_MAX - 16) / 2)

enum breakpoint_kind {
    BREAKPOINT_SOFTWARE = 0, /* numbers of the Z packet */
    BREAKPOINT_HARDWARE = 1,
};

struct breakpoint {
    enum breakpoint_kind kind;
    uint64_t address;
};

struct gdb_session {
    struct gdb_target target;
    struct gdb_parser parser;
    GString *last; /* the last packet as it went out, for "-" */
    char *description;
    bool acknowledge; /* until QStartNoAckMode */
    bool running;     /* as GDB believes */
    bool over;
    unsigned cpu;      /* of registers and memory: "Hg" */
    unsigned step_cpu; /* of the "s" and "c" packets: "Hc" */
    unsigned stopped_cpu;
    unsigned stop_signal;
    struct breakpoint breakpoints[G_N_ELEMENTS(((struct vcpu_debug *)0)->address)];
    unsigned breakpoint_count;
};

static void send_raw(struct gdb_session *session, const char *data, size_t size)
{
    session->target.send(session->target.opaque, data, size);
}

static void reply_bytes(struct gdb_session *session, const char *data, size_t size)
{
    g_string_truncate(session->last, 0);
    gdb_packet_append(session->last, data, size);
    send_raw(session, session->last->str, session->last->len);
}

static void reply(struct gdb_session *session, const char *text)
{
    reply_bytes(session, text, strlen(text));
}

/* ---- stopping and running ---- */

static const struct breakpoint *breakpoint_at(const struct gdb_session *session, uint64_t address)
{
    for (unsigned i = 0; i < session->breakpoint_count; i++)
        if (session->breakpoints[i].address == address)
            return &session->breakpoints[i];
    return NULL;
}

/* Why it stopped: the signal, the thread, and which kind of breakpoint, if any. */
static void reply_stop(struct gdb_session *session)
{
    g_autofree struct cpu_state *state = g_new(struct cpu_state, 1);
    g_autoptr(GString) text = g_string_new(NULL);
    const struct breakpoint *breakpoint;

    session->target.get_state(session->target.opaque, session->stopped_cpu, state);
    breakpoint = breakpoint_at(session, state->rip);
    g_string_printf(text, "T%02xthread:%x;", session->stop_signal, session->stopped_cpu + 1);
    if (breakpoint && session->stop_signal == SIGNAL_TRAP)
        g_string_append(text, breakpoint->kind == BREAKPOINT_SOFTWARE ? "swbreak:;" : "hwbreak:;");
    reply(session, text->str);
}

static void stopped(struct gdb_session *session, unsigned cpu, unsigned signal)
{
    session->running = false;
    session->stopped_cpu = cpu;
    session->cpu = cpu;
    session->step_cpu = cpu;
    session->stop_signal = signal;
    reply_stop(session);
}

static bool apply_debug(struct gdb_session *session, const bool *step)
{
    bool applied = true;

    for (unsigned cpu = 0; cpu < session->target.cpus; cpu++) {
        struct vcpu_debug debug = {.single_step = step && step[cpu]};

        debug.breakpoints = session->breakpoint_count;
        for (unsigned i = 0; i < session->breakpoint_count; i++)
            debug.address[i] = session->breakpoints[i].address;
        applied &= session->target.set_debug(session->target.opaque, cpu, &debug);
    }
    return applied;
}

/* `run` NULL: all run. */
static void hold_others(struct gdb_session *session, const bool *run)
{
    for (unsigned cpu = 0; cpu < session->target.cpus; cpu++)
        session->target.hold(session->target.opaque, cpu, run && !run[cpu]);
}

/* `step` and `chosen` have an entry a vCPU; those that are not chosen stay where they are (NULL:
 * all are). The reply comes when they stop. */
static void run(struct gdb_session *session, const bool *step, const bool *chosen)
{
    hold_others(session, chosen);
    if (!apply_debug(session, step)) {
        reply(session, ERROR_BAD_REQUEST);
        return;
    }
    session->running = true;
    if (!session->target.resume(session->target.opaque))
        stopped(session, session->stopped_cpu, SIGNAL_ABORT);
}

static bool set_rip(struct gdb_session *session, unsigned cpu, uint64_t address)
{
    g_autofree struct cpu_state *state = g_new(struct cpu_state, 1);

    session->target.get_state(session->target.opaque, cpu, state);
    state->rip = address;
    return session->target.set_state(session->target.opaque, cpu, state);
}

/* "c [addr]" and "s [addr]". */
static void run_old(struct gdb_session *session, const char *text, bool step_wanted)
{
    g_autofree bool *step = g_new0(bool, session->target.cpus);
    uint64_t address;

    if (*text && (!gdb_number_take(&text, &address) || *text ||
                  !set_rip(session, session->step_cpu, address))) {
        reply(session, ERROR_BAD_REQUEST);
        return;
    }
    step[session->step_cpu] = step_wanted;
    run(session, step, NULL);
}

static void command_continue(struct gdb_session *session, const char *text)
{
    run_old(session, text, false);
}

static void command_step(struct gdb_session *session, const char *text)
{
    run_old(session, text, true);
}

/* A thread's number, or 0 and -1 for any and all. */
static bool take_thread(struct gdb_session *session, const char **text, unsigned *cpu, bool *all)
{
    uint64_t thread;

    *all = gdb_word_take(text, "-1");
    if (*all)
        return true;
    if (!gdb_number_take(text, &thread) || thread > session->target.cpus)
        return false;
    *cpu = thread ? (unsigned)thread - 1 : session->stopped_cpu;
    return true;
}

/* One action of vCont, "s", "S05", "c" or "C05", and its thread; the first that names a vCPU
 * counts. */
static bool take_action(struct gdb_session *session, const char **text, bool *step, bool *chosen)
{
    char action = **text;
    unsigned cpu = 0;
    bool all = true;
    uint8_t signal;

    if (!action || !strchr("sScC", action))
        return false;
    (*text)++;
    if (g_ascii_isupper(action) && !gdb_hex_take(text, &signal, 1))
        return false;
    if (gdb_word_take(text, ":") && !take_thread(session, text, &cpu, &all))
        return false;
    for (unsigned i = 0; i < session->target.cpus; i++)
        if ((all || i == cpu) && !chosen[i]) {
            chosen[i] = true;
            step[i] = g_ascii_tolower(action) == 's';
        }
    return true;
}

static void command_vcont(struct gdb_session *session, const char *text)
{
    g_autofree bool *step = g_new0(bool, session->target.cpus);
    g_autofree bool *chosen = g_new0(bool, session->target.cpus);
    bool understood = true;

    if (!strcmp(text, "?")) {
        reply(session, "vCont;s;S;c;C");
        return;
    }
    while (understood && *text)
        understood = gdb_word_take(&text, ";") && take_action(session, &text, step, chosen);
    if (understood)
        run(session, step, chosen);
    else
        reply(session, ERROR_BAD_REQUEST);
}

static void command_why(struct gdb_session *session, const char *text)
{
    reply_stop(session);
}

static void remove_breakpoints(struct gdb_session *session)
{
    session->breakpoint_count = 0;
    apply_debug(session, NULL);
    hold_others(session, NULL);
}

static void command_detach(struct gdb_session *session, const char *text)
{
    remove_breakpoints(session);
    reply(session, "OK");
    session->over = true;
    session->target.resume(session->target.opaque);
}

static void command_kill(struct gdb_session *session, const char *text)
{
    session->over = true;
    session->target.kill(session->target.opaque);
}

/* ---- registers ---- */

static void command_read_all(struct gdb_session *session, const char *text)
{
    g_autofree struct cpu_state *state = g_new(struct cpu_state, 1);
    g_autoptr(GString) out = g_string_new(NULL);

    session->target.get_state(session->target.opaque, session->cpu, state);
    for (unsigned i = 0; i < gdb_register_count(); i++)
        gdb_register_append(out, state, i);
    reply(session, out->str);
}

static void command_write_all(struct gdb_session *session, const char *text)
{
    g_autofree struct cpu_state *state = g_new(struct cpu_state, 1);
    bool taken = true;

    session->target.get_state(session->target.opaque, session->cpu, state);
    for (unsigned i = 0; taken && i < gdb_register_count(); i++)
        taken = gdb_register_take(&text, state, i);
    taken = taken && session->target.set_state(session->target.opaque, session->cpu, state);
    reply(session, taken ? "OK" : ERROR_BAD_REQUEST);
}

static void command_read_one(struct gdb_session *session, const char *text)
{
    g_autofree struct cpu_state *state = g_new(struct cpu_state, 1);
    g_autoptr(GString) out = g_string_new(NULL);
    uint64_t number;

    session->target.get_state(session->target.opaque, session->cpu, state);
    if (gdb_number_take(&text, &number) && number < gdb_register_count() &&
        gdb_register_append(out, state, (unsigned)number))
        reply(session, out->str);
    else
        reply(session, ERROR_BAD_REQUEST);
}

static void command_write_one(struct gdb_session *session, const char *text)
{
    g_autofree struct cpu_state *state = g_new(struct cpu_state, 1);
    uint64_t number;
    bool taken;

    session->target.get_state(session->target.opaque, session->cpu, state);
    taken = gdb_number_take(&text, &number) && number < gdb_register_count() &&
            gdb_word_take(&text, "=") && gdb_register_take(&text, state, (unsigned)number) &&
            session->target.set_state(session->target.opaque, session->cpu, state);
    reply(session, taken ? "OK" : ERROR_BAD_REQUEST);
}

/* ---- memory ---- */

/* Copy up to the first byte that is not there; returns how many went. ROM is written, too: a
 * debugger may. */
static size_t copy_linear(struct gdb_session *session, uint64_t linear, uint8_t *buffer,
                          size_t size, bool write)
{
    size_t done = 0;

    while (done < size) {
        size_t piece = MIN(size - done, GUEST_PAGE_SIZE - (linear & ~GUEST_PAGE_MASK));
        uint64_t physical;

        if (!session->target.translate(session->target.opaque, session->cpu, linear, &physical))
            break;
        if (write ? !memory_load(session->target.memory, physical, buffer + done, piece)
                  : !memory_read(session->target.memory, physical, buffer + done, piece))
            break;
        done += piece;
        linear += piece;
    }
    return done;
}

/* "addr,length" in front of memory commands. */
static bool take_range(const char **text, uint64_t *address, uint64_t *length)
{
    return gdb_number_take(text, address) && gdb_word_take(text, ",") &&
           gdb_number_take(text, length);
}

static void command_read_memory(struct gdb_session *session, const char *text)
{
    uint8_t buffer[MEMORY_MAX];
    g_autoptr(GString) out = g_string_new(NULL);
    uint64_t address, length;
    size_t done;

    if (!take_range(&text, &address, &length)) {
        reply(session, ERROR_BAD_REQUEST);
        return;
    }
    length = MIN(length, MEMORY_MAX);
    done = copy_linear(session, address, buffer, length, false);
    gdb_hex_append(out, buffer, done);
    reply(session, done || !length ? out->str : ERROR_NO_MEMORY);
}

static void command_write_memory(struct gdb_session *session, const char *text)
{
    uint8_t buffer[MEMORY_MAX];
    uint64_t address, length;

    if (!take_range(&text, &address, &length) || length > MEMORY_MAX ||
        !gdb_word_take(&text, ":") || !gdb_hex_take(&text, buffer, length)) {
        reply(session, ERROR_BAD_REQUEST);
        return;
    }
    reply(session,
          copy_linear(session, address, buffer, length, true) == length ? "OK" : ERROR_NO_MEMORY);
}

/* ---- breakpoints ---- */

/* "type,addr,kind"; only the two kinds of instruction breakpoints. An empty reply says that
 * others are not offered. */
static bool take_breakpoint(struct gdb_session *session, const char *text,
                            struct breakpoint *breakpoint)
{
    uint64_t kind, length;

    if (!gdb_number_take(&text, &kind) || kind > BREAKPOINT_HARDWARE) {
        reply(session, "");
        return false;
    }
    if (!gdb_word_take(&text, ",") || !take_range(&text, &breakpoint->address, &length)) {
        reply(session, ERROR_BAD_REQUEST);
        return false;
    }
    breakpoint->kind = (enum breakpoint_kind)kind;
    return true;
}

static int find_breakpoint(const struct gdb_session *session, const struct breakpoint *wanted)
{
    for (unsigned i = 0; i < session->breakpoint_count; i++)
        if (session->breakpoints[i].address == wanted->address &&
            session->breakpoints[i].kind == wanted->kind)
            return (int)i;
    return -1;
}

static void command_insert(struct gdb_session *session, const char *text)
{
    struct breakpoint breakpoint;

    if (!take_breakpoint(session, text, &breakpoint))
        return;
    if (find_breakpoint(session, &breakpoint) < 0) {
        if (session->breakpoint_count == G_N_ELEMENTS(session->breakpoints)) {
            reply(session, ERROR_NO_ROOM);
            return;
        }
        session->breakpoints[session->breakpoint_count++] = breakpoint;
    }
    reply(session, apply_debug(session, NULL) ? "OK" : ERROR_NO_ROOM);
}

static void command_remove(struct gdb_session *session, const char *text)
{
    struct breakpoint breakpoint;
    int index;

    if (!take_breakpoint(session, text, &breakpoint))
        return;
    index = find_breakpoint(session, &breakpoint);
    if (index >= 0)
        session->breakpoints[index] = session->breakpoints[--session->breakpoint_count];
    reply(session, apply_debug(session, NULL) ? "OK" : ERROR_BAD_REQUEST);
}

/* ---- threads ---- */

static void command_select(struct gdb_session *session, const char *text)
{
    char operation = *text ? *text++ : 0;
    unsigned cpu = session->stopped_cpu;
    bool all;

    if ((operation != 'g' && operation != 'c') || !take_thread(session, &text, &cpu, &all)) {
        reply(session, ERROR_BAD_REQUEST);
        return;
    }
    if (operation == 'g')
        session->cpu = cpu;
    else
        session->step_cpu = cpu;
    reply(session, "OK");
}

static void command_alive(struct gdb_session *session, const char *text)
{
    uint64_t thread;
    bool alive = gdb_number_take(&text, &thread) && thread >= 1 && thread <= session->target.cpus;

    reply(session, alive ? "OK" : ERROR_BAD_REQUEST);
}

static void query_threads(struct gdb_session *session, const char *text)
{
    g_autoptr(GString) out = g_string_new("m");

    for (unsigned cpu = 0; cpu < session->target.cpus; cpu++)
        g_string_append_printf(out, "%s%x", cpu ? "," : "", cpu + 1);
    reply(session, out->str);
}

static void query_threads_end(struct gdb_session *session, const char *text)
{
    reply(session, "l");
}

static void query_current_thread(struct gdb_session *session, const char *text)
{
    g_autofree char *out = g_strdup_printf("QC%x", session->cpu + 1);

    /* Other queries begin alike. */
    reply(session, *text ? "" : out);
}

static void query_thread_name(struct gdb_session *session, const char *text)
{
    g_autoptr(GString) out = g_string_new(NULL);
    g_autofree char *name = NULL;
    uint64_t thread;

    if (!gdb_number_take(&text, &thread) || thread < 1 || thread > session->target.cpus) {
        reply(session, ERROR_BAD_REQUEST);
        return;
    }
    name = g_strdup_printf("vcpu/%u", (unsigned)thread - 1);
    gdb_hex_append(out, name, strlen(name));
    reply(session, out->str);
}

/* ---- queries ---- */

static void query_supported(struct gdb_session *session, const char *text)
{
    g_autofree char *out = g_strdup_printf("PacketSize=%x;qXfer:features:read+;vContSupported+;"
                                           "QStartNoAckMode+;swbreak+;hwbreak+",
                                           GDB_PACKET_MAX);

    reply(session, out);
}

/* "offset,length" of the target description; "m" before a part, "l" before the last one. */
static void query_features(struct gdb_session *session, const char *text)
{
    size_t size = strlen(session->description);
    g_autoptr(GString) out = NULL;
    uint64_t offset, length;

    if (!take_range(&text, &offset, &length) || offset > size) {
        reply(session, ERROR_BAD_REQUEST);
        return;
    }
    length = MIN(MIN(length, size - offset), GDB_PACKET_MAX / 2);
    out = g_string_new(offset + length < size ? "m" : "l");
    g_string_append_len(out, session->description + offset, (gssize)length);
    reply_bytes(session, out->str, out->len);
}

static void query_attached(struct gdb_session *session, const char *text)
{
    reply(session, "1");
}

static void command_no_acknowledge(struct gdb_session *session, const char *text)
{
    session->acknowledge = false;
    reply(session, "OK");
}

/* The first entry whose text begins the packet. */
static const struct {
    const char *text;
    void (*handle)(struct gdb_session *session, const char *rest);
} commands[] = {
    {"qSupported", query_supported},
    {"qXfer:features:read:target.xml:", query_features},
    {"qfThreadInfo", query_threads},
    {"qsThreadInfo", query_threads_end},
    {"qThreadExtraInfo,", query_thread_name},
    {"qAttached", query_attached},
    {"qC", query_current_thread},
    {"QStartNoAckMode", command_no_acknowledge},
    {"vCont", command_vcont},
    {"vKill", command_kill},
    {"?", command_why},
    {"g", command_read_all},
    {"G", command_write_all},
    {"p", command_read_one},
    {"P", command_write_one},
    {"m", command_read_memory},
    {"M", command_write_memory},
    {"Z", command_insert},
    {"z", command_remove},
    {"c", command_continue},
    {"s", command_step},
    {"H", command_select},
    {"T", command_alive},
    {"D", command_detach},
    {"k", command_kill},
};

/* What is not in the table gets the empty reply: not offered. The vCPUs are parked for each, even
 * if somebody else let them run. */
static void handle_packet(struct gdb_session *session, const char *text)
{
    session->target.pause(session->target.opaque);
    session->running = false;
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++)
        if (gdb_word_take(&text, commands[i].text)) {
            commands[i].handle(session, text);
            return;
        }
    reply(session, "");
}

static void interrupt(struct gdb_session *session)
{
    if (!session->running)
        return;
    session->target.pause(session->target.opaque);
    stopped(session, session->stopped_cpu, SIGNAL_INTERRUPT);
}

static void handle_event(struct gdb_session *session, enum gdb_event event)
{
    switch (event) {
    case GDB_EVENT_PACKET:
        if (session->acknowledge)
            send_raw(session, "+", 1);
        handle_packet(session, session->parser.data->str);
        break;
    case GDB_EVENT_DAMAGED:
        if (session->acknowledge)
            send_raw(session, "-", 1);
        break;
    case GDB_EVENT_INTERRUPT:
        interrupt(session);
        break;
    case GDB_EVENT_AGAIN:
        if (session->acknowledge)
            send_raw(session, session->last->str, session->last->len);
        break;
    case GDB_EVENT_ACKNOWLEDGED:
    case GDB_EVENT_NONE:
        break;
    }
}

struct gdb_session *gdb_session_create(const struct gdb_target *target)
{
    struct gdb_session *session = g_new0(struct gdb_session, 1);

    session->target = *target;
    session->acknowledge = true;
    session->stop_signal = SIGNAL_TRAP;
    session->last = g_string_new(NULL);
    session->description = gdb_target_description();
    gdb_parser_init(&session->parser);
    target->pause(target->opaque);
    return session;
}

void gdb_session_destroy(struct gdb_session *session)
{
    if (!session)
        return;
    gdb_parser_finish(&session->parser);
    g_string_free(session->last, TRUE);
    g_free(session->description);
    g_free(session);
}

bool gdb_session_feed(struct gdb_session *session, const void *data, size_t size)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < size && !session->over; i++)
        handle_event(session, gdb_parser_feed(&session->parser, bytes[i]));
    return !session->over;
}

void gdb_session_leave(struct gdb_session *session)
{
    session->target.pause(session->target.opaque);
    remove_breakpoints(session);
    session->target.resume(session->target.opaque);
}

void gdb_session_stopped(struct gdb_session *session, unsigned cpu)
{
    if (session->running)
        stopped(session, cpu, SIGNAL_TRAP);
}

void gdb_session_ended(struct gdb_session *session, int status)
{
    g_autofree char *text = g_strdup_printf("W%02x", status & 0xff);

    session->over = true;
    reply(session, text);
}
