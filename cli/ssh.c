// SPDX-License-Identifier: Apache-2.0
/*
 * anima ssh: the host's ssh(1) with a running machine at its other end, once that answers.
 *
 * The way leads through a forward to the guest's port 22. The keys of its host are learned at the
 * first contact and kept in the machine's folder, under the machine's name: another machine behind
 * the same port of the host is no danger, and no false alarm.
 */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli.h"

#define SSH_PORT    22
#define BANNER      "SSH-" /* what a server says first, RFC 4253 section 4.2 */
#define WAIT        120    /* seconds */
#define WAIT_MAX    86400
#define ANSWER_MS   10000 /* of the monitor */
#define TRY_MS      5000  /* for one look at the guest */
#define INTERVAL_US 300000

const struct cli_flag ssh_flags[] = {
    {"user", "NAME", "log in as this user"},
    {"wait", "SECONDS", "for the guest to come up [120]"},
    {"config", NULL, "print what ssh_config(5) needs for scp, rsync and others"},
    {0},
};

/* What ssh is told. */
struct way {
    const char *name; /* the machine's */
    char *host, *port, *user, *identity, *known_hosts;
};

static void way_finish(struct way *way)
{
    g_free(way->host);
    g_free(way->port);
    g_free(way->user);
    g_free(way->identity);
    g_free(way->known_hosts);
}

/* ---- finding it ---- */

/* What the definition says of ssh; the kept one, which may have been edited, before what runs. */
static void read_definition(struct way *way, struct anima_machine *machine)
{
    struct anima_definition *definition = anima_definition_create();
    g_autofree char *folder = NULL;
    bool kept = anima_definition_load_named(definition, way->name, NULL);
    char *text, *path = anima_definition_folder(way->name);
    json_t *object;

    folder = g_strdup(path);
    anima_free(path);
    if (!kept)
        anima_machine_definition(machine, definition, ANSWER_MS, NULL);
    text = anima_definition_json(definition);
    object = json_loads(text, 0, NULL);
    if (!way->user)
        way->user = g_strdup(json_string_value(json_object_get(object, "ssh-user")));
    way->identity = g_strdup(json_string_value(json_object_get(object, "ssh-identity")));
    way->known_hosts = kept ? g_build_filename(folder, "known_hosts", NULL) : g_strdup("/dev/null");
    json_decref(object);
    anima_free(text);
    anima_definition_destroy(definition);
}

/* The forward to the guest's port, of what `query` tells. */
static bool take_forward(struct way *way, const json_t *forwards)
{
    const json_t *forward;
    size_t i;

    json_array_foreach(forwards, i, forward)
    {
        const char *proto = json_string_value(json_object_get(forward, "proto"));
        const char *host = json_string_value(json_object_get(forward, "host"));

        if (!proto || !host || strcmp(proto, "tcp") != 0 ||
            json_integer_value(json_object_get(forward, "guest_port")) != SSH_PORT)
            continue;
        /* Every address of this host's is its own as well. */
        way->host = g_strdup(strcmp(host, "0.0.0.0") == 0 ? "127.0.0.1" : host);
        way->port = g_strdup_printf("%" JSON_INTEGER_FORMAT,
                                    json_integer_value(json_object_get(forward, "host_port")));
        return true;
    }
    return false;
}

static bool find(struct way *way, struct anima_machine *machine, struct anima_error **error)
{
    char *text = anima_machine_call(machine, "query", NULL, -1, ANSWER_MS, error);
    json_t *result = text ? json_loads(text, 0, NULL) : NULL;
    bool found = take_forward(way, json_object_get(result, "forwards"));

    json_decref(result);
    anima_free(text);
    return found;
}

/* ---- waiting for it ---- */

/* A connection to there; -1: none. */
static int dial(const struct way *way)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    struct addrinfo *address = NULL;
    struct timeval limit = {.tv_sec = TRY_MS / 1000};
    int fd = -1;

    if (getaddrinfo(way->host, way->port, &hints, &address) != 0)
        return -1;
    fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    }
    if (fd >= 0 && connect(fd, address->ai_addr, address->ai_addrlen) != 0) {
        close(fd);
        fd = -1;
    }
    freeaddrinfo(address);
    return fd;
}

/* Whether a server of ssh's answers. The NAT takes connections before the guest does. */
static bool answers(const struct way *way)
{
    char greeting[sizeof(BANNER)] = "";
    int fd = dial(way);
    ssize_t got = fd >= 0 ? recv(fd, greeting, strlen(BANNER), MSG_WAITALL) : -1;

    if (fd >= 0)
        close(fd);
    return got == (ssize_t)strlen(BANNER) && memcmp(greeting, BANNER, got) == 0;
}

/* Whether the machine is still there. */
static bool lives(struct anima_machine *machine)
{
    char *text = anima_machine_call(machine, "query", NULL, -1, ANSWER_MS, NULL);

    anima_free(text);
    return text;
}

/* Until it answers, or the time is over: 0, or the status after a message. */
static int await(const struct way *way, struct anima_machine *machine, unsigned seconds)
{
    gint64 end = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;

    while (!answers(way)) {
        if (!lives(machine))
            return cli_fail(CLI_FAILED, "%s: the machine has ended", way->name);
        if (g_get_monotonic_time() >= end)
            return cli_fail(CLI_FAILED,
                            "%s: no ssh server answers in the guest (after %u s); 'anima console "
                            "%s' shows what it does",
                            way->name, seconds, way->name);
        g_usleep(INTERVAL_US);
    }
    return CLI_GOOD;
}

/* ---- ssh ---- */

/* A value as ssh_config(5) reads it: in quotes, with its own marks doubled. */
static char *quote(const char *text)
{
    GString *quoted = g_string_new("\"");

    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            g_string_append_c(quoted, '\\');
        if (*text == '%')
            g_string_append_c(quoted, '%');
        g_string_append_c(quoted, *text);
    }
    g_string_append_c(quoted, '"');
    return g_string_free(quoted, FALSE);
}

/* Key, value, key, value ... of the configuration; the values are the caller's. */
static GPtrArray *configure(const struct way *way)
{
    const struct {
        const char *key, *value;
        bool is_path;
    } rows[] = {
        {"HostName", way->host, false},
        {"Port", way->port, false},
        {"User", way->user, false},
        {"IdentityFile", way->identity, true},
        {"HostKeyAlias", way->name, false},
        {"UserKnownHostsFile", way->known_hosts, true},
        {"GlobalKnownHostsFile", "/dev/null", false},
        {"StrictHostKeyChecking", "accept-new", false},
        {"CheckHostIP", "no", false},
    };
    GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (!rows[i].value)
            continue;
        g_ptr_array_add(lines, g_strdup(rows[i].key));
        g_ptr_array_add(lines, rows[i].is_path ? quote(rows[i].value) : g_strdup(rows[i].value));
    }
    return lines;
}

static int print_config(const struct way *way)
{
    g_autoptr(GPtrArray) lines = configure(way);

    printf("Host %s\n", way->name);
    for (unsigned i = 0; i < lines->len; i += 2)
        printf("    %s %s\n", (char *)lines->pdata[i], (char *)lines->pdata[i + 1]);
    return CLI_GOOD;
}

/* Become ssh. */
static int become(const struct way *way, const struct cli_words *words)
{
    g_autoptr(GPtrArray) lines = configure(way);
    g_autoptr(GPtrArray) arguments = g_ptr_array_new();

    g_ptr_array_add(arguments, (char *)"ssh");
    for (unsigned i = 0; i < lines->len; i += 2) {
        g_ptr_array_add(arguments, (char *)"-o");
        g_ptr_array_add(arguments, g_strdup_printf("%s=%s", (char *)lines->pdata[i],
                                                   (char *)lines->pdata[i + 1]));
    }
    g_ptr_array_add(arguments, way->host);
    for (unsigned i = 1; cli_word(words, i); i++)
        g_ptr_array_add(arguments, (char *)cli_word(words, i));
    g_ptr_array_add(arguments, NULL);
    execvp("ssh", (char *const *)arguments->pdata);
    return cli_fail(CLI_FAILED, "ssh: %s%s", g_strerror(errno),
                    errno == ENOENT ? "; install openssh-client" : "");
}

/* ---- the command ---- */

/* The seconds to wait; false after a message. */
static bool read_wait(const struct cli_words *words, unsigned *seconds)
{
    const char *text = cli_flag(words, "wait");
    guint64 number = WAIT;

    if (text && !g_ascii_string_to_unsigned(text, 10, 0, WAIT_MAX, &number, NULL))
        return cli_fail(false, "--wait: expected seconds up to %d, not '%s'", WAIT_MAX, text);
    *seconds = (unsigned)number;
    return true;
}

static int no_way(const struct way *way, struct anima_error *error)
{
    if (error)
        return cli_fail_machine(way->name, error);
    return cli_fail(CLI_FAILED,
                    "%s: no port of this host leads to the guest's port 22; 'anima change %s nic0 "
                    "forward+=tcp:0:22' makes one, where that card is on 'user'",
                    way->name, way->name);
}

/* Find the way and wait; 0, or the status after a message. */
static int reach(struct way *way, unsigned seconds)
{
    struct anima_error *error = NULL;
    struct anima_machine *machine = anima_machine_connect(way->name, &error);
    int status;

    if (!machine)
        return cli_fail_error(error);
    read_definition(way, machine);
    status = find(way, machine, &error) ? await(way, machine, seconds) : no_way(way, error);
    anima_machine_destroy(machine);
    return status;
}

int command_ssh(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct way way = {0};
    unsigned seconds = 0;

    if (!words)
        return status;
    if (!read_wait(words, &seconds))
        return CLI_USAGE;
    if (cli_flag(words, "config") && cli_word(words, 1))
        return cli_fail(CLI_USAGE, "--config: prints, and runs nothing; leave out '%s'",
                        cli_word(words, 1));
    way.name = cli_word(words, 0);
    way.user = g_strdup(cli_flag(words, "user"));
    if (way.user && (!*way.user || *way.user == '-'))
        status = cli_fail(CLI_USAGE, "--user: expected the name of a user, not '%s'", way.user);
    else
        status = reach(&way, seconds);
    if (status == CLI_GOOD)
        status = cli_flag(words, "config") ? print_config(&way) : become(&way, words);
    way_finish(&way);
    return status;
}
