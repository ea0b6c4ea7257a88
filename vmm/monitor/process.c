// SPDX-License-Identifier: Apache-2.0
/*
 * Starting a role and listening to it. The program is executed anew rather than forked, so that
 * each role has an address space of its own, without what the monitor knows: of the environment too
 * it gets only what it has a use for.
 */
#include "vmm/monitor/process.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/schema.h"
#include "vmm/monitor/sandbox.h"

#define LOG_LINE_MAX 4096
#define SELF         "/proc/self/exe"

struct process {
    pid_t pid;
    const struct process_ops *ops;
    void *opaque;
    guint child_source, log_source;
    int log_fd;
    GString *line; /* not yet ended */
    bool reaped, silent;
    int status;
};

/* What a sandboxed process may know of the environment: how it finds its libraries, and switches
 * for those who debug it. Users keep passwords in theirs. */
static GStrv make_environment(void)
{
    static const char *const prefixes[] = {
        "ANIMA_",        "LD_LIBRARY_PATH=", "ASAN_OPTIONS=", "LSAN_OPTIONS=",  "UBSAN_OPTIONS=",
        "TSAN_OPTIONS=", "G_SLICE=",         "MALLOC_",       "GLIBC_TUNABLES="};
    GPtrArray *kept = g_ptr_array_new();

    for (char **entry = environ; *entry; entry++)
        for (unsigned i = 0; i < G_N_ELEMENTS(prefixes); i++)
            if (g_str_has_prefix(*entry, prefixes[i])) {
                g_ptr_array_add(kept, g_strdup(*entry));
                break;
            }
    g_ptr_array_add(kept, NULL);
    return (GStrv)g_ptr_array_free(kept, FALSE);
}

/* In the child, between fork and exec: only calls that are safe there. Never returns. */
static G_GNUC_NORETURN void become(const char *role, const char *program, char **environment,
                                   int link, int log, pid_t monitor)
{
    const char *slash = program ? strrchr(program, '/') : NULL;
    char *arguments[] = {(char *)(slash ? slash + 1 : "anima-vmm"), (char *)role, NULL};
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* Out of a process namespace the monitor is 0; that it has gone is told by the connection. */
    if ((getppid() != monitor && getppid() != 0) || nothing < 0)
        _exit(1);
    /* Out of the way of the numbers that they will have. */
    link = fcntl(link, F_DUPFD, 10);
    log = fcntl(log, F_DUPFD, 10);
    dup2(nothing, 0);
    dup2(nothing, 1);
    dup2(log, 2);
    dup2(link, PROCESS_LINK_FD);
    close_range(PROCESS_LINK_FD + 1, ~0U, 0);
    execve(program ? program : SELF, arguments, environment);
    _exit(127);
}

static void tell_ended(struct process *process)
{
    if (process->reaped && process->silent)
        process->ops->ended(process->opaque, process->status);
}

static void on_exit_status(GPid pid, gint status, gpointer opaque)
{
    struct process *process = opaque;

    process->child_source = 0;
    process->reaped = true;
    process->status = status;
    tell_ended(process);
}

static void tell_line(struct process *process)
{
    if (process->line->len)
        process->ops->log(process->opaque, process->line->str);
    g_string_truncate(process->line, 0);
}

static gboolean on_log(gint fd, GIOCondition condition, gpointer opaque)
{
    struct process *process = opaque;
    char buffer[4096];
    ssize_t count = read(fd, buffer, sizeof(buffer));

    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    for (ssize_t i = 0; i < count; i++) {
        if (buffer[i] != '\n')
            g_string_append_c(process->line, buffer[i]);
        if (buffer[i] == '\n' || process->line->len == LOG_LINE_MAX)
            tell_line(process);
    }
    if (count > 0)
        return G_SOURCE_CONTINUE;
    tell_line(process);
    process->log_source = 0;
    process->silent = true;
    tell_ended(process);
    return G_SOURCE_REMOVE;
}

struct process *process_spawn(const char *role, const char *program, const struct process_ops *ops,
                              void *opaque, int *link_fd, GError **error)
{
    int link[2] = {-1, -1}, log[2] = {-1, -1};
    g_auto(GStrv) environment = make_environment();
    pid_t monitor = getpid(), pid = -1;
    struct process *process;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, link) == 0 && pipe2(log, O_CLOEXEC) == 0)
        pid = sandbox_fork(role);
    if (pid == 0)
        become(role, program, environment, link[1], log[1], monitor);
    if (pid < 0)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "the %s cannot be started: %s", role,
                    g_strerror(errno));
    for (unsigned i = pid < 0 ? 0 : 1; i < 2; i++) {
        if (link[i] >= 0)
            close(link[i]);
        if (log[i] >= 0)
            close(log[i]);
    }
    if (pid < 0)
        return NULL;
    g_unix_set_fd_nonblocking(log[0], TRUE, NULL);
    process = g_new0(struct process, 1);
    process->pid = pid;
    process->ops = ops;
    process->opaque = opaque;
    process->line = g_string_new(NULL);
    process->log_fd = log[0];
    process->log_source = g_unix_fd_add(log[0], G_IO_IN | G_IO_HUP, on_log, process);
    process->child_source = g_child_watch_add(pid, on_exit_status, process);
    *link_fd = link[0];
    return process;
}

void process_keep_link(int link, int nothing)
{
    link = fcntl(link, F_DUPFD, 10);
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        dup2(nothing, fd);
    dup2(link, PROCESS_LINK_FD);
    close_range(PROCESS_LINK_FD + 1, ~0U, 0);
}

/* In the child: a grandchild becomes the process, so that nobody has to wait for it. Never returns.
 */
static G_GNUC_NORETURN void become_apart(const char *role, int link)
{
    char *arguments[] = {(char *)"anima-vmm", (char *)role, NULL};
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    pid_t pid = nothing < 0 ? -1 : fork();
    sigset_t none;

    if (pid != 0)
        _exit(pid < 0);
    setsid();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    process_keep_link(link, nothing);
    execv(SELF, arguments);
    _exit(127);
}

int process_spawn_apart(const char *role, GError **error)
{
    int link[2], status = 1;
    pid_t pid = -1;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, link) == 0) {
        pid = fork();
        if (pid == 0)
            become_apart(role, link[1]);
        while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
            continue;
        close(link[1]);
        if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
            return link[0];
        close(link[0]);
    }
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "no process for a %s can be made", role);
    return -1;
}

char *process_program(const char *file)
{
    g_autofree char *self = g_file_read_link(SELF, NULL);
    g_autofree char *folder = g_path_get_dirname(self ? self : "");
    char *program = g_build_filename(folder, file, NULL);

    if (access(program, X_OK) == 0)
        return program;
    g_free(program);
    return NULL;
}

pid_t process_pid(const struct process *process)
{
    return process->pid;
}

void process_destroy(struct process *process)
{
    if (!process)
        return;
    if (process->log_source)
        g_source_remove(process->log_source);
    if (process->child_source) {
        g_source_remove(process->child_source);
        kill(process->pid, SIGKILL);
        waitpid(process->pid, NULL, 0);
    }
    close(process->log_fd);
    g_string_free(process->line, TRUE);
    g_free(process);
}

void process_kill(struct process *process)
{
    if (!process->reaped)
        kill(process->pid, SIGKILL);
}
