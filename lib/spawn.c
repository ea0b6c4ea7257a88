// SPDX-License-Identifier: Apache-2.0
/*
 * Starting programs of Anima that serve a connection: anima-vmm as a monitor, and others.
 */
#include "lib/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/fault.h"

#define LINK_FD 3 /* where they expect their owner's connection */

/* In the child: descriptors 0 to 2 stay, LINK_FD is the connection. Nobody waits for the server:
 * it is the grandchild, so that the program's own children are left alone. Never returns. */
static G_GNUC_NORETURN void become(const char *path, const char *role, int link)
{
    const char *slash = strrchr(path, '/');
    char *arguments[] = {(char *)(slash ? slash + 1 : path), (char *)role, NULL};
    sigset_t nothing;
    pid_t pid = fork();

    if (pid != 0)
        _exit(pid < 0);
    sigemptyset(&nothing);
    sigprocmask(SIG_SETMASK, &nothing, NULL);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    if (link == LINK_FD)
        fcntl(link, F_SETFD, 0);
    else
        dup2(link, LINK_FD);
    close_range(LINK_FD + 1, ~0U, 0);
    execv(path, arguments);
    dprintf(LINK_FD,
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32000,"
            "\"message\":\"%s cannot be started (error %d)\"}}\n",
            arguments[0], errno);
    _exit(127);
}

int spawn_server(const char *path, const char *role, struct anima_error **error)
{
    int link[2], status;
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, link) != 0) {
        error_set(error, ANIMA_ERROR_FAILED, "no connection to a process: %s", strerror(errno));
        return -1;
    }
    pid = fork();
    if (pid == 0)
        become(path, role, link[1]);
    close(link[1]);
    if (pid > 0)
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            continue;
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return link[0];
    error_set(error, ANIMA_ERROR_FAILED, "no process for %s can be made", path);
    close(link[0]);
    return -1;
}
