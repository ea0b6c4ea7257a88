// SPDX-License-Identifier: Apache-2.0
/*
 * A server for guests without one, linked statically: what comes to TCP or UDP port 7 goes back
 * (RFC 862), for thousands of connections at once. What a peer does not read yet is not read from
 * it either.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT    7
#define BUFFER  65536
#define BACKLOG 4096

struct connection {
    int fd;
    size_t head, tail; /* of what waits to go back */
    char buffer[BUFFER];
};

static int epoll;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int server_open(int type)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
    int fd = socket(AF_INET6, type | SOCK_NONBLOCK, 0), one = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        bind(fd, (struct sockaddr *)&any, sizeof(any)) != 0)
        fail("bind");
    if (type == SOCK_STREAM && listen(fd, BACKLOG) != 0)
        fail("listen");
    return fd;
}

static void watch(int operation, int fd, unsigned events, void *data)
{
    struct epoll_event event = {.events = events, .data.ptr = data};

    if (epoll_ctl(epoll, operation, fd, &event) != 0)
        fail("epoll_ctl");
}

static void take(int server)
{
    struct connection *connection;
    int fd;

    while ((fd = accept4(server, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        connection = malloc(sizeof(*connection));
        if (!connection)
            fail("malloc");
        connection->fd = fd;
        connection->head = connection->tail = 0;
        watch(EPOLL_CTL_ADD, fd, EPOLLIN, connection);
    }
}

static void end(struct connection *connection)
{
    close(connection->fd);
    free(connection);
}

static void serve(struct connection *connection)
{
    ssize_t count;

    if (connection->head == connection->tail) {
        count = read(connection->fd, connection->buffer, BUFFER);
        if (count <= 0) {
            if (count == 0 || errno != EAGAIN)
                end(connection);
            return;
        }
        connection->head = 0;
        connection->tail = (size_t)count;
    }
    count = write(connection->fd, connection->buffer + connection->head,
                  connection->tail - connection->head);
    if (count < 0 && errno != EAGAIN) {
        end(connection);
        return;
    }
    connection->head += count > 0 ? (size_t)count : 0;
    watch(EPOLL_CTL_MOD, connection->fd, connection->head == connection->tail ? EPOLLIN : EPOLLOUT,
          connection);
}

static void serve_datagrams(int fd)
{
    static char buffer[BUFFER];
    struct sockaddr_in6 peer;
    socklen_t length = sizeof(peer);
    ssize_t count;

    while ((count = recvfrom(fd, buffer, BUFFER, 0, (struct sockaddr *)&peer, &length)) >= 0)
        sendto(fd, buffer, (size_t)count, 0, (struct sockaddr *)&peer, length);
}

int main(void)
{
    const struct rlimit many = {65536, 65536};
    int tcp = server_open(SOCK_STREAM), udp = server_open(SOCK_DGRAM);
    struct epoll_event events[64];

    setrlimit(RLIMIT_NOFILE, &many);
    epoll = epoll_create1(0);
    watch(EPOLL_CTL_ADD, tcp, EPOLLIN, &tcp);
    watch(EPOLL_CTL_ADD, udp, EPOLLIN, &udp);
    for (;;) {
        int count = epoll_wait(epoll, events, 64, -1);

        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &tcp)
                take(tcp);
            else if (events[i].data.ptr == &udp)
                serve_datagrams(udp);
            else
                serve(events[i].data.ptr);
        }
    }
}
