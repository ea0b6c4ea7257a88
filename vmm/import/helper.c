// SPDX-License-Identifier: Apache-2.0
/*
 * The worker's end of the package process. What it says is a stranger's word: a line that is no
 * message of package.h ends it.
 */
#include <string.h>
#include <sys/wait.h>

#include "config/schema.h"
#include "vmm/control/peer.h"
#include "vmm/import/package.h"
#include "vmm/monitor/process.h"
#include "vmm/monitor/sandbox.h"

#define ROLE      "package"
#define LINE_MOST 500 /* characters that it can say */

struct helper {
    const struct helper_ops *ops;
    void *opaque;
    struct process *process;
    struct peer *peer;
    char *last; /* what it wrote to its standard error at last, or NULL */
    bool failed;
};

static void fail(struct helper *helper, enum config_error code, const char *text)
{
    g_autoptr(GError) error = NULL;

    if (helper->failed)
        return;
    helper->failed = true;
    g_set_error_literal(&error, CONFIG_ERROR, (int)code, text);
    helper->ops->failed(helper->opaque, error);
}

static void take_progress(struct helper *helper, const json_t *numbers)
{
    json_int_t done = json_integer_value(json_array_get(numbers, 0));
    json_int_t total = json_integer_value(json_array_get(numbers, 1));

    if (done >= 0 && done <= total && total > 0)
        helper->ops->progress(helper->opaque, (uint64_t)done, (uint64_t)total);
}

static void on_line(void *opaque, struct peer *peer, const char *line, size_t length, int *fds,
                    unsigned count)
{
    static const char *const answers[] = {"read", "copied", "written"};
    struct helper *helper = opaque;
    json_t *message = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL), *content;
    const char *text = json_string_value(json_object_get(message, "error"));

    if (helper->failed) {
        json_decref(message);
        return;
    }
    if (text) {
        g_autofree char *shown = text_line(text, LINE_MOST);

        fail(helper,
             json_is_true(json_object_get(message, "usage")) ? CONFIG_ERROR_USAGE
                                                             : CONFIG_ERROR_FAILED,
             shown);
    } else if ((content = json_object_get(message, "progress"))) {
        take_progress(helper, content);
    } else {
        for (unsigned i = 0; i < G_N_ELEMENTS(answers); i++)
            if ((content = json_object_get(message, answers[i]))) {
                helper->ops->answer(helper->opaque, answers[i], content);
                break;
            }
    }
    json_decref(message);
}

static void on_closed(void *opaque, struct peer *peer)
{
    /* Its end is told by the process. */
}

static void on_log(void *opaque, const char *line)
{
    struct helper *helper = opaque;
    bool fatal;
    char *explained = sandbox_explain(ROLE, line, &fatal);

    /* Libraries look for files of their own, and go on without. */
    if (explained && !fatal) {
        g_free(explained);
        return;
    }
    g_free(helper->last);
    helper->last = explained ? explained : g_strdup(line);
}

static void on_ended(void *opaque, int status)
{
    struct helper *helper = opaque;
    g_autofree char *shown = helper->last ? text_line(helper->last, LINE_MOST) : NULL;
    g_autofree char *text =
        g_strdup_printf("the process that reads and writes packages has died (%s %d)%s%s",
                        WIFSIGNALED(status) ? "signal" : "status",
                        WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
                        shown ? ": " : "", shown ? shown : "");

    fail(helper, CONFIG_ERROR_FAILED, text);
}

struct helper *helper_create(const struct helper_ops *ops, void *opaque, GError **error)
{
    static const struct process_ops process_ops = {.log = on_log, .ended = on_ended};
    static const struct peer_ops peer_ops = {.line = on_line, .closed = on_closed};
    struct helper *helper = g_new0(struct helper, 1);
    int link;

    helper->ops = ops;
    helper->opaque = opaque;
    helper->process = process_spawn(ROLE, NULL, &process_ops, helper, &link, error);
    if (helper->process) {
        helper->peer = peer_create(link, &peer_ops, helper);
        return helper;
    }
    g_free(helper);
    return NULL;
}

void helper_destroy(struct helper *helper)
{
    if (!helper)
        return;
    peer_destroy(helper->peer);
    process_destroy(helper->process);
    g_free(helper->last);
    g_free(helper);
}

void helper_send(struct helper *helper, json_t *message, const int *fds, unsigned count)
{
    peer_send(helper->peer, message, fds, count);
}
