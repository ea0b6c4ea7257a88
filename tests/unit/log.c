// SPDX-License-Identifier: Apache-2.0
/* The log's writer: what is put where, with standard error replaced by a pipe. */
#include "vmm/util/log.h"

#include <glib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

struct captured {
    int saved, pipe[2];
    char text[256];
};

static void capture_begin(struct captured *captured)
{
    assert_int_equal(pipe(captured->pipe), 0);
    captured->saved = dup(STDERR_FILENO);
    dup2(captured->pipe[1], STDERR_FILENO);
}

static void capture_end(struct captured *captured)
{
    ssize_t count;

    dup2(captured->saved, STDERR_FILENO);
    close(captured->saved);
    close(captured->pipe[1]);
    count = read(captured->pipe[0], captured->text, sizeof(captured->text) - 1);
    close(captured->pipe[0]);
    captured->text[MAX(count, 0)] = 0;
}

static void message_is_one_bare_line(void **state)
{
    struct captured captured;

    capture_begin(&captured);
    g_message("uart: guest error %d: %s", 4, "odd");
    capture_end(&captured);
    assert_string_equal(captured.text, "uart: guest error 4: odd\n");
}

static void warning_says_that_it_is_one(void **state)
{
    struct captured captured;

    capture_begin(&captured);
    g_warning("refused");
    capture_end(&captured);
    assert_string_equal(captured.text, "warning: refused\n");
}

static void debug_output_is_dropped(void **state)
{
    struct captured captured;

    capture_begin(&captured);
    g_debug("detail");
    g_info("more");
    capture_end(&captured);
    assert_string_equal(captured.text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message_is_one_bare_line),
        cmocka_unit_test(warning_says_that_it_is_one),
        cmocka_unit_test(debug_output_is_dropped),
    };

    log_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
