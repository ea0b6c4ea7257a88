// SPDX-License-Identifier: Apache-2.0
/*
 * anima ssh: the host's ssh(1) with a running machine at its other end, once that answers.
 *
 * The keys of the guest's sshd are learned at the first contact and kept in the machine's folder,
 * under the machine's name: another machine behind the same port of the host is no danger, and no
 * false alarm.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/way.h"

#define SSH_PORT    22
#define BANNER      "SSH-" /* what a server says first, RFC 4253 section 4.2 */
#define WAIT        120    /* seconds */
#define WAIT_MAX    86400
#define ANSWER_MS   10000 /* of the monitor */
#define TRY_S       5     /* for one look at the guest */
#define INTERVAL_US 300000

const struct cli_flag ssh_flags[] = {
    {"user", "NAME", "log in as this user"},
    {"wait", "SECONDS", "for the guest to come up [120]"},
    {"config", NULL, "print what ssh_config(5) needs for scp, rsync and others"},
    {0},
};

/* What ssh is told. */
struct session {
    struct way way;
    char *user, *identity, *known_hosts;
};

static void session_finish(struct session *session)
{
    way_finish(&session->way);
    g_free(session->user);
    g_free(session->identity);
    g_free(session->known_hosts);
}

/* ---- finding it ---- */

/* What the definition says of ssh; the kept one, which may have been edited, before what runs. */
static void read_definition(struct session *session, struct anima_machine *machine)
{
    struct anima_definition *definition = anima_definition_create();
    const char *name = session->way.name;
    bool kept = anima_definition_load_named(definition, name, NULL);
    char *text, *folder = anima_definition_folder(name);
    json_t *object;

    if (!kept)
        anima_machine_definition(machine, definition, ANSWER_MS, NULL);
    text = anima_definition_json(definition);
    object = json_loads(text, 0, NULL);
    if (!session->user)
        session->user = g_strdup(json_string_value(json_object_get(object, "ssh-user")));
    session->identity = g_strdup(json_string_value(json_object_get(object, "ssh-identity")));
    session->known_hosts =
        kept ? g_build_filename(folder, "known_hosts", NULL) : g_strdup("/dev/null");
    json_decref(object);
    anima_free(text);
    anima_free(folder);
    anima_definition_destroy(definition);
}

/* ---- waiting for it ---- */

/* Whether a server of ssh's answers. The NAT takes connections before the guest does. */
static bool answers(const struct way *way, unsigned seconds)
{
    char greeting[sizeof(BANNER)] = "";
    int fd = way_dial(way, seconds);
    ssize_t got = fd >= 0 ? recv(fd, greeting, strlen(BANNER), MSG_WAITALL) : -1;

    if (fd >= 0)
        close(fd);
    return got == (ssize_t)strlen(BANNER) && memcmp(greeting, BANNER, got) == 0;
}

static int no_way(const struct way *way, struct anima_error *error)
{
    if (error && error->code == ANIMA_ERROR_TIMEOUT)
        return cli_fail_machine(way->name, error);
    if (error) {
        anima_error_free(error);
        return cli_fail(CLI_FAILED, "%s: the machine has ended", way->name);
    }
    return cli_fail(CLI_FAILED, "%s: there is no way from this host to the guest's port %u: %s",
                    way->name, way->port, way->remedy);
}

static int no_answer(const struct way *way, enum way_found found, unsigned seconds)
{
    if (found != WAY_HERE)
        return no_way(way, NULL);
    return cli_fail(CLI_FAILED,
                    "%s: no ssh server answers in the guest (after %u s); 'anima console %s' shows "
                    "what it does",
                    way->name, seconds, way->name);
}

/* Until there is a way and it answers, or the time is over: 0, or the status after a message. */
static int await(struct way *way, struct anima_machine *machine, unsigned seconds)
{
    gint64 end = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;
    unsigned patience = CLAMP(seconds, 1, TRY_S);

    while (true) {
        struct anima_error *error = NULL;
        enum way_found found = way_find(way, machine, &error);

        if (found == WAY_NONE)
            return no_way(way, error);
        if (found == WAY_HERE && answers(way, patience))
            return CLI_GOOD;
        if (g_get_monotonic_time() >= end)
            return no_answer(way, found, seconds);
        g_usleep(INTERVAL_US);
    }
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
static GPtrArray *configure(const struct session *session)
{
    const struct {
        const char *key, *value;
        bool is_path;
    } rows[] = {
        {"HostName", session->way.host, false},
        {"Port", session->way.dial, false},
        {"User", session->user, false},
        {"IdentityFile", session->identity, true},
        {"HostKeyAlias", session->way.name, false},
        {"UserKnownHostsFile", session->known_hosts, true},
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

static int print_config(const struct session *session)
{
    g_autoptr(GPtrArray) lines = configure(session);

    printf("Host %s\n", session->way.name);
    for (unsigned i = 0; i < lines->len; i += 2)
        printf("    %s %s\n", (char *)lines->pdata[i], (char *)lines->pdata[i + 1]);
    return CLI_GOOD;
}

/* Become ssh. */
static int become(const struct session *session, const struct cli_words *words)
{
    g_autoptr(GPtrArray) lines = configure(session);
    g_autoptr(GPtrArray) arguments = g_ptr_array_new();

    g_ptr_array_add(arguments, (char *)"ssh");
    for (unsigned i = 0; i < lines->len; i += 2) {
        g_ptr_array_add(arguments, (char *)"-o");
        g_ptr_array_add(arguments, g_strdup_printf("%s=%s", (char *)lines->pdata[i],
                                                   (char *)lines->pdata[i + 1]));
    }
    g_ptr_array_add(arguments, session->way.host);
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

/* Find the way and wait; 0, or the status after a message. */
static int reach(struct session *session, unsigned seconds)
{
    struct anima_error *error = NULL;
    struct anima_machine *machine = anima_machine_connect(session->way.name, &error);
    int status;

    if (!machine)
        return cli_fail_error(error);
    read_definition(session, machine);
    status = await(&session->way, machine, seconds);
    anima_machine_destroy(machine);
    return status;
}

int command_ssh(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct session session = {.way.port = SSH_PORT};
    unsigned seconds = 0;

    if (!words)
        return status;
    if (!read_wait(words, &seconds))
        return CLI_USAGE;
    if (cli_flag(words, "config") && cli_word(words, 1))
        return cli_fail(CLI_USAGE, "--config: prints, and runs nothing; leave out '%s'",
                        cli_word(words, 1));
    session.way.name = cli_word(words, 0);
    session.user = g_strdup(cli_flag(words, "user"));
    if (session.user && (!*session.user || *session.user == '-'))
        status = cli_fail(CLI_USAGE, "--user: expected the name of a user, not '%s'", session.user);
    else
        status = reach(&session, seconds);
    if (status == CLI_GOOD)
        status = cli_flag(words, "config") ? print_config(&session) : become(&session, words);
    session_finish(&session);
    return status;
}
