// SPDX-License-Identifier: Apache-2.0
/*
 * What a guest's agent sends: cut into lines in pieces of any size, it stays within its bounds;
 * what is reported of an answer is as the control protocol describes it; and a request that an
 * agent has answered so far that it is sent the command ends once, whatever follows.
 */
#include <sys/socket.h>

#include "tests/fuzz/fuzz.h"

#include "vmm/agent/agent.h"
#include "vmm/agent/reader.h"
#include "vmm/agent/report.h"
#include "vmm/control/protocol.h"

#define SHORT_LINE 512

/* Takes the report. */
static void check_report(const char *method, json_t *report)
{
    fuzz_require(control_fields_check(control_method_find(method)->result, report, NULL, NULL));
    json_decref(report);
}

static void check_answer(const json_t *answer)
{
    json_t *info = report_info(answer);

    report_add_os(info, answer);
    report_add_hostname(info, answer);
    report_add_frozen(info, json_object_get(answer, "return"));
    check_report("guest.info", info);
    check_report("guest.addresses", report_addresses(json_object_get(answer, "return")));
    check_report("guest.exec", report_exec(answer));
}

static void read_lines(struct fuzz_input input)
{
    struct agent_reader reader;
    enum agent_piece piece;

    agent_reader_init(&reader);
    agent_reader_reset(&reader, SHORT_LINE);
    while (input.size) {
        size_t size = 1U + fuzz_byte(&input);
        const uint8_t *data = input.data;

        size = MIN(size, input.size);
        input.data += size;
        input.size -= size;
        while ((piece = agent_reader_take(&reader, &data, &size)) != AGENT_PIECE_NONE) {
            json_t *answer = agent_parse(reader.line->data, reader.line->len);

            fuzz_require(piece == AGENT_PIECE_LINE || reader.overflow);
            fuzz_require(reader.line->len <= SHORT_LINE);
            if (answer)
                check_answer(answer);
            json_decref(answer);
            agent_reader_next(&reader);
        }
        fuzz_require(size == 0);
    }
    agent_reader_finish(&reader);
}

static void on_answer(void *opaque, const json_t *result, const GError *error)
{
    unsigned *answers = opaque;

    fuzz_require(!result != !error);
    if (result)
        check_report("guest.addresses", report_addresses(result));
    ++*answers;
}

static void turn(void)
{
    while (g_main_context_iteration(NULL, FALSE))
        continue;
}

/* The number of the sync that is asked for. */
static json_int_t hear_sync(int fd)
{
    char line[256] = "";
    json_t *message, *arguments;
    json_int_t number;

    fuzz_require(recv(fd, line, sizeof(line) - 1, MSG_DONTWAIT) > 1);
    message = json_loads(line + 1, 0, NULL);
    arguments = json_object_get(message, "arguments");
    fuzz_require(json_is_integer(json_object_get(arguments, "id")));
    number = json_integer_value(json_object_get(arguments, "id"));
    json_decref(message);
    return number;
}

static void exchange(const struct fuzz_input *input)
{
    struct agent_config config = {.sync_ms = 60000, .answer_ms = 60000, .silence_ms = 60000};
    g_autofree char *synced = NULL;
    unsigned answers = 0;
    struct agent *agent;
    int ends[2];

    fuzz_require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    config.fd = ends[0];
    config.far = dup(ends[1]);
    agent = agent_create(&config);
    agent_set_running(agent, true);
    agent_ask(agent, &(struct agent_command){.name = "guest-network-get-interfaces"}, on_answer,
              &answers);
    turn();
    synced = g_strdup_printf("\xff{\"return\": %" JSON_INTEGER_FORMAT "}\n", hear_sync(ends[1]));
    fuzz_require(send(ends[1], synced, strlen(synced), 0) == (ssize_t)strlen(synced));
    turn();
    fuzz_require(send(ends[1], input->data, input->size, 0) == (ssize_t)input->size);
    turn();
    fuzz_require(answers + agent_backlog(agent) == 1);
    agent_abandon(agent, "the end");
    fuzz_require(answers == 1);
    agent_destroy(agent);
    close(ends[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};

    read_lines(input);
    if (size)
        exchange(&input);
    return 0;
}
