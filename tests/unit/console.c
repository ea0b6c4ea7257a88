// SPDX-License-Identifier: Apache-2.0
/*
 * The line on stdio among its viewers: who sees what, who holds the guest back, and who is gone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/monitor/console.h"
#include "vmm/monitor/log_file.h"

struct bench {
    struct console *console;
    int guest;
};

static int set_up(void **state)
{
    struct bench *bench = g_new0(struct bench, 1);

    bench->console = console_create();
    bench->guest = console_plug(bench->console, NULL);
    assert_true(bench->guest >= 0);
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;

    console_destroy(bench->console);
    close(bench->guest);
    g_free(bench);
    return 0;
}

static void settle(void)
{
    while (g_main_context_iteration(NULL, FALSE))
        continue;
}

static int attach(struct bench *bench, struct console_view view)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_true(console_attach(bench->console, ends[0], &view));
    settle();
    return ends[1];
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    settle();
}

static void assert_hears(int fd, const char *text)
{
    char bytes[4096];
    ssize_t count = recv(fd, bytes, sizeof(bytes) - 1, MSG_DONTWAIT);

    bytes[MAX(count, 0)] = 0;
    assert_string_equal(bytes, text);
}

/* All that is there. */
static size_t drain(int fd)
{
    char bytes[65536];
    size_t total = 0;
    ssize_t count;

    while ((count = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
        total += count;
        settle();
    }
    return total;
}

/* As much as the guest can say; 0 once it is held back. */
static size_t babble(int guest, size_t most)
{
    char bytes[8192];
    size_t total = 0;
    ssize_t count = 1;

    memset(bytes, '.', sizeof(bytes));
    while (total < most && count > 0) {
        count = send(guest, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
        total += MAX(count, 0);
        settle();
    }
    return total;
}

static void all_see_and_all_type(void **state)
{
    struct bench *bench = *state;
    int first = attach(bench, (struct console_view){.patient = true});
    int second = attach(bench, (struct console_view){0});

    say(bench->guest, "login: ");
    assert_hears(first, "login: ");
    assert_hears(second, "login: ");
    say(first, "ro");
    say(second, "ot\n");
    assert_hears(bench->guest, "root\n");
    close(first);
    close(second);
    settle();
}

static void who_comes_later_sees_what_was_said(void **state)
{
    struct bench *bench = *state;
    int late, later;

    say(bench->guest, "one two");
    late = attach(bench, (struct console_view){.scrollback = true});
    later = attach(bench, (struct console_view){0});
    say(bench->guest, " three");
    assert_hears(late, "one two three");
    assert_hears(later, " three");
    close(late);
    close(later);
}

static void who_only_looks_types_nothing(void **state)
{
    struct bench *bench = *state;
    int viewer = attach(bench, (struct console_view){.readonly = true});

    say(viewer, "reboot\n");
    assert_hears(bench->guest, "");
    close(viewer);
}

static void one_that_does_not_read_misses_the_oldest(void **state)
{
    struct bench *bench = *state;
    int slow = attach(bench, (struct console_view){0}),
        quick = attach(bench, (struct console_view){0});
    const size_t much = 4U << 20;
    char bytes[65536];
    bool told = false;
    ssize_t count;

    for (size_t said = 0; said < much; said += 65536) {
        assert_true(babble(bench->guest, 65536) >= 65536);
        drain(quick);
    }
    say(bench->guest, "the end");
    while ((count = recv(slow, bytes, sizeof(bytes) - 1, MSG_DONTWAIT)) > 0) {
        bytes[count] = 0;
        told |= strstr(bytes, "bytes are missing here") != NULL;
        settle();
        memmove(bytes, bytes + MAX(count - 7, 0), 8);
    }
    assert_true(told);
    assert_string_equal(bytes, "the end");
    close(slow);
    close(quick);
}

static void a_patient_one_holds_the_guest_back(void **state)
{
    struct bench *bench = *state;
    int patient = attach(bench, (struct console_view){.patient = true});
    size_t said = babble(bench->guest, 64U << 20), heard;

    assert_true(said < 4U << 20);
    heard = drain(patient);
    settle();
    heard += drain(patient);
    assert_int_equal(heard, said);
    /* When it goes, the guest goes on. */
    babble(bench->guest, 64U << 20);
    close(patient);
    settle();
    assert_true(babble(bench->guest, 8U << 20) >= 8U << 20);
}

static void a_half_that_is_closed_still_sees(void **state)
{
    struct bench *bench = *state;
    int viewer = attach(bench, (struct console_view){0});

    say(viewer, "q");
    shutdown(viewer, SHUT_WR);
    settle();
    say(bench->guest, "bye");
    assert_hears(viewer, "bye");
    assert_hears(bench->guest, "q");
    close(viewer);
    settle();
}

static void too_many_are_refused(void **state)
{
    struct bench *bench = *state;
    const struct console_view view = {0};
    int viewers[CONSOLE_VIEWERS_MAX], ends[2];

    for (unsigned i = 0; i < CONSOLE_VIEWERS_MAX; i++)
        viewers[i] = attach(bench, view);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_false(console_attach(bench->console, ends[0], &view));
    close(viewers[3]);
    settle();
    viewers[3] = attach(bench, view);
    for (unsigned i = 0; i < CONSOLE_VIEWERS_MAX; i++)
        close(viewers[i]);
    close(ends[1]);
}

static void another_vmm_takes_the_line(void **state)
{
    struct bench *bench = *state;
    int viewer = attach(bench, (struct console_view){0});

    assert_int_equal(send(bench->guest, "last words", 10, 0), 10);
    close(bench->guest);
    bench->guest = console_plug(bench->console, NULL);
    say(bench->guest, ", first words");
    assert_hears(viewer, "last words, first words");
    say(viewer, "x");
    assert_hears(bench->guest, "x");
    close(viewer);
}

static void a_file_takes_all(void **state)
{
    struct bench *bench = *state;
    g_autofree char *name = NULL;
    const struct console_view view = {.patient = true};
    int file = g_file_open_tmp("console-XXXXXX", &name, NULL);

    assert_true(console_attach(bench->console, dup(file), &view));
    assert_true(babble(bench->guest, 1 << 20) >= 1 << 20);
    assert_true(lseek(file, 0, SEEK_END) >= 1 << 20);
    close(file);
    unlink(name);
}

#define SCENARIO(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* ---- logs ---- */

struct log_bench {
    char folder[64];
    char *path, *aside;
};

static void log_bench_init(struct log_bench *log)
{
    snprintf(log->folder, sizeof(log->folder), "/tmp/anima-console-XXXXXX");
    assert_non_null(mkdtemp(log->folder));
    log->path = g_build_filename(log->folder, "console.log", NULL);
    log->aside = g_strconcat(log->path, ".old", NULL);
}

static void log_bench_finish(struct log_bench *log)
{
    unlink(log->path);
    unlink(log->aside);
    assert_int_equal(rmdir(log->folder), 0);
    g_free(log->path);
    g_free(log->aside);
}

static void attach_log(struct bench *bench, const struct log_bench *log)
{
    int fd = open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_true(console_attach(bench->console, fd,
                               &(struct console_view){.patient = true, .log = log->path}));
}

static off_t size_of(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 ? status.st_size : -1;
}

static void a_log_has_two_generations(void **state)
{
    struct bench *bench = *state;
    struct log_bench log;

    log_bench_init(&log);
    attach_log(bench, &log);
    /* Five times what one file takes; nothing holds the guest back. */
    assert_int_equal(babble(bench->guest, 5 * LOG_FILE_MAX), 5 * LOG_FILE_MAX);
    say(bench->guest, "last words");
    assert_in_range(size_of(log.path), 1, LOG_FILE_MAX);
    assert_in_range(size_of(log.aside), LOG_FILE_MAX / 2, LOG_FILE_MAX);
    log_bench_finish(&log);
}

static void a_log_that_was_renamed_begins_again(void **state)
{
    struct bench *bench = *state;
    g_autofree char *text = NULL;
    struct log_bench log;
    char *other;

    log_bench_init(&log);
    attach_log(bench, &log);
    say(bench->guest, "before");
    other = g_strconcat(log.path, ".1", NULL);
    assert_int_equal(rename(log.path, other), 0);
    g_usleep(1100000); /* it is looked at once a second */
    say(bench->guest, "behind");
    assert_true(g_file_get_contents(log.path, &text, NULL, NULL));
    assert_string_equal(text, "behind");
    assert_int_equal(size_of(other), strlen("before"));
    unlink(other);
    g_free(other);
    log_bench_finish(&log);
}

static void a_file_under_another_name_is_left_alone(void **state)
{
    struct bench *bench = *state;
    struct log_bench log, elsewhere;

    log_bench_init(&log);
    log_bench_init(&elsewhere);
    assert_true(g_file_set_contents(elsewhere.path, "mine", -1, NULL));
    assert_null(log_file_create(bench->guest, elsewhere.path));
    assert_int_equal(size_of(elsewhere.path), 4);
    log_bench_finish(&elsewhere);
    log_bench_finish(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO(all_see_and_all_type),
        SCENARIO(who_comes_later_sees_what_was_said),
        SCENARIO(who_only_looks_types_nothing),
        SCENARIO(one_that_does_not_read_misses_the_oldest),
        SCENARIO(a_patient_one_holds_the_guest_back),
        SCENARIO(a_half_that_is_closed_still_sees),
        SCENARIO(too_many_are_refused),
        SCENARIO(another_vmm_takes_the_line),
        SCENARIO(a_file_takes_all),
        SCENARIO(a_log_has_two_generations),
        SCENARIO(a_log_that_was_renamed_begins_again),
        SCENARIO(a_file_under_another_name_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
