// SPDX-License-Identifier: Apache-2.0
/*
 * Asking the helper for an interface: it gets one end of a pair of sockets, over which the
 * descriptor comes, or a sentence.
 */
#include "vmm/monitor/bridge.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/schema.h"
#include "vmm/monitor/process.h"
#include "vmm/monitor/tap.h"

#define PROGRAM          "anima-bridge"
#define PATIENCE_SECONDS 5
#define TEXT_MAX         1024

static int refuse(const char *name, const char *why, GError **error)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "nic: bridge=%s: %s", name, why);
    return -1;
}

/* In the child: only calls that are safe there. Never returns. */
static G_GNUC_NORETURN void become(const char *program, const char *name, int link)
{
    char *arguments[] = {(char *)PROGRAM, (char *)name, NULL}, *environment[] = {NULL};
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    process_keep_link(link, nothing);
    execve(program, arguments, environment);
    _exit(127); /* lint: ok, it has no role yet */
}

/* The descriptor that came; or -1, with what was said instead in `text`. */
static int receive(int link, char text[TEXT_MAX])
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec vector = {text, TEXT_MAX - 1};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    ssize_t length;
    int fd;

    do
        length = recvmsg(link, &message, MSG_CMSG_CLOEXEC);
    while (length < 0 && errno == EINTR);
    text[MAX(length, 0)] = 0;
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
        header->cmsg_len != CMSG_LEN(sizeof(fd)))
        return -1;
    memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    return fd;
}

/* Run the helper; the child is waited for. */
static int run(const char *program, const char *name, char text[TEXT_MAX])
{
    const struct timeval patience = {PATIENCE_SECONDS, 0};
    int link[2], fd = -1;
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, link) != 0)
        return -1;
    pid = fork();
    if (pid == 0)
        become(program, name, link[1]);
    close(link[1]);
    setsockopt(link[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (pid > 0) {
        fd = receive(link[0], text);
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    close(link[0]);
    return fd;
}

int bridge_open(const char *name, GError **error)
{
    g_autofree char *program = process_program(PROGRAM), *said = NULL;
    char text[TEXT_MAX] = "";
    int fd;

    if (!program)
        return refuse(name, PROGRAM " is not there", error);
    fd = run(program, name, text);
    if (fd < 0) {
        said = g_utf8_make_valid(*text ? text : PROGRAM " said nothing", -1);
        return refuse(name, said, error);
    }
    if (tap_set_form(fd))
        return fd;
    close(fd);
    return refuse(name, "what came is no TAP", error);
}
