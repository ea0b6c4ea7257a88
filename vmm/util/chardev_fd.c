// SPDX-License-Identifier: Apache-2.0
/*
 * Character device on descriptors.
 *
 * Output lies in a ring; its thread polls and writes what is there, so a guest that sends a byte an
 * exit pays a lock and a copy, and a wake-up only when the ring was empty. The descriptors may be
 * blocking: the thread writes only after poll said so, and little enough at once that a pipe takes
 * it whole.
 */
#include "vmm/util/chardev.h"
#include "vmm/util/fault.h"
#include "vmm/util/thread.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEFAULT_BUFFER (64 * 1024)
#define WRITE_CHUNK    4096 /* PIPE_BUF: what a pipe takes without blocking once poll says so */
#define READ_CHUNK     4096
#define FLUSH_MS       1000
#define REOPEN_MS      100 /* how often a pty without slave is looked at */

struct chardev {
    char name[16];
    int in, out;   /* owned by the thread once it runs, as all up to `wake`; -1 when closed */
    int listener;  /* the next four are of its client */
    bool in_ended; /* it sends nothing more, but may read */
    bool left;     /* it is gone, but some of its input is not */
    bool out_is_socket;
    bool reopens;
    int wake; /* eventfd */
    pthread_t thread;

    GMutex lock; /* everything below */
    GCond idle;  /* output left, a handler ended, or the thread stands still or may move */
    struct chardev_handlers handlers;
    bool in_handler;
    uint8_t *ring;
    size_t size, head, used; /* head: oldest byte */
    bool connected;          /* output goes somewhere */
    bool peer;               /* there is somebody; what `connected` of the front end was told */
    bool starved;            /* a write was not taken whole */
    bool hold, stop;
    bool suspend;      /* the thread shall stand still */
    bool still;        /* it does */
    bool input_wanted; /* the front end may have room */
};

static void wake_thread(struct chardev *chardev)
{
    uint64_t one = 1;

    /* A full counter means that a wake-up is already under way. */
    if (write(chardev->wake, &one, sizeof(one)) < 0)
        return;
}

/* ---- handlers ---- */

/* Begin one or several calls of handlers: copies the table so that it can be used without the
 * lock. */
static struct chardev_handlers begin_handlers(struct chardev *chardev)
{
    g_mutex_lock(&chardev->lock);
    chardev->in_handler = true;
    struct chardev_handlers handlers = chardev->handlers;
    g_mutex_unlock(&chardev->lock);
    return handlers;
}

static void end_handlers(struct chardev *chardev)
{
    g_mutex_lock(&chardev->lock);
    chardev->in_handler = false;
    g_cond_broadcast(&chardev->idle);
    g_mutex_unlock(&chardev->lock);
}

static void call_writable(struct chardev *chardev)
{
    struct chardev_handlers handlers = begin_handlers(chardev);

    if (handlers.writable)
        handlers.writable(handlers.opaque);
    end_handlers(chardev);
}

static void call_connected(struct chardev *chardev, bool connected)
{
    struct chardev_handlers handlers = begin_handlers(chardev);

    if (handlers.connected)
        handlers.connected(handlers.opaque, connected);
    end_handlers(chardev);
}

static bool call_wants_rest(struct chardev *chardev)
{
    struct chardev_handlers handlers = begin_handlers(chardev);
    bool wants = !handlers.wants_rest || handlers.wants_rest(handlers.opaque);

    end_handlers(chardev);
    return wants;
}

void chardev_set_handlers(struct chardev *chardev, const struct chardev_handlers *handlers)
{
    g_mutex_lock(&chardev->lock);
    while (chardev->in_handler)
        g_cond_wait(&chardev->idle, &chardev->lock);
    chardev->handlers = handlers ? *handlers : (struct chardev_handlers){0};
    chardev->input_wanted = true;
    chardev->starved = false;
    g_mutex_unlock(&chardev->lock);
    wake_thread(chardev);
}

/* ---- the thread ---- */

static void set_connected(struct chardev *chardev, bool connected)
{
    bool starved = false;

    g_mutex_lock(&chardev->lock);
    chardev->connected = connected;
    if (!connected) {
        chardev->used = 0;
        starved = chardev->starved;
        chardev->starved = false;
        g_cond_broadcast(&chardev->idle);
    }
    g_mutex_unlock(&chardev->lock);
    if (starved)
        call_writable(chardev);
}

static void set_peer(struct chardev *chardev, bool peer)
{
    g_mutex_lock(&chardev->lock);
    bool news = chardev->peer != peer;
    chardev->peer = peer;
    g_mutex_unlock(&chardev->lock);
    if (news)
        call_connected(chardev, peer);
}

static void close_end(int *end, const int *other)
{
    if (*end >= 0 && *end != *other)
        close(*end);
    *end = -1;
}

/* A client of ours is done with: the next one may come. */
static void drop_client(struct chardev *chardev)
{
    chardev->out = -1;
    close_end(&chardev->in, &chardev->out);
    chardev->in_ended = chardev->left = false;
    set_connected(chardev, false);
    set_peer(chardev, false);
}

/* The client is gone; what it sent before may still be wanted. */
static void lose_client(struct chardev *chardev)
{
    int unread = 0;

    chardev->out = -1;
    set_connected(chardev, false);
    if (ioctl(chardev->in, FIONREAD, &unread) == 0 && unread > 0 && call_wants_rest(chardev))
        chardev->left = true;
    else
        drop_client(chardev);
}

/* The end of input: of a client's, it may be half of the connection only. */
static void end_input(struct chardev *chardev)
{
    struct pollfd poll_in = {chardev->in, 0, 0};

    if (chardev->listener < 0)
        close_end(&chardev->in, &chardev->out);
    else if (chardev->left || poll(&poll_in, 1, 0) != 0)
        drop_client(chardev);
    else
        chardev->in_ended = true;
}

static void close_output(struct chardev *chardev)
{
    if (chardev->listener >= 0) {
        lose_client(chardev);
        return;
    }
    close_end(&chardev->out, &chardev->in);
    set_connected(chardev, false);
    set_peer(chardev, false);
}

static void accept_client(struct chardev *chardev)
{
    int client = accept4(chardev->listener, NULL, NULL, SOCK_CLOEXEC);

    if (client < 0)
        return;
    chardev->in = chardev->out = client;
    chardev->out_is_socket = true;
    set_connected(chardev, true);
    set_peer(chardev, true);
}

static bool is_transient(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

static size_t room_for_input(const struct chardev_handlers *handlers)
{
    return handlers->can_receive ? handlers->can_receive(handlers->opaque) : 0;
}

/* The front end's room; 0 when it will tell of more itself. */
static size_t wait_for_room(struct chardev *chardev, const struct chardev_handlers *handlers)
{
    size_t room = room_for_input(handlers);

    if (room)
        return room;
    g_mutex_lock(&chardev->lock);
    chardev->input_wanted = false;
    g_mutex_unlock(&chardev->lock);
    /* The front end may have drained, and told so, between its answer and this. */
    room = room_for_input(handlers);
    if (room)
        chardev_accept_input(chardev);
    return room;
}

/* What is read is received before the front end can take its handlers away: no byte is lost. The
 * result is that of read(2); EAGAIN also when there is no room. */
static ssize_t move_input(struct chardev *chardev)
{
    struct chardev_handlers handlers = begin_handlers(chardev);
    size_t room = handlers.receive ? wait_for_room(chardev, &handlers) : 0;
    uint8_t buffer[READ_CHUNK];
    ssize_t got = -1;

    errno = EAGAIN;
    if (room)
        got = read(chardev->in, buffer, MIN(room, sizeof(buffer)));
    if (got > 0)
        handlers.receive(handlers.opaque, buffer, got);
    int error = errno;
    end_handlers(chardev);
    errno = error;
    return got;
}

static void read_input(struct chardev *chardev)
{
    ssize_t got = move_input(chardev);

    if (got == 0 || (got < 0 && !is_transient(errno) && !(errno == EIO && chardev->reopens)))
        end_input(chardev);
    else if (got < 0 && chardev->left && !call_wants_rest(chardev))
        drop_client(chardev);
}

static ssize_t send_bytes(const struct chardev *chardev, const uint8_t *data, size_t length)
{
    if (chardev->out_is_socket)
        return send(chardev->out, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    return write(chardev->out, data, length);
}

static void write_output(struct chardev *chardev)
{
    uint8_t chunk[WRITE_CHUNK];
    bool starved = false;

    g_mutex_lock(&chardev->lock);
    size_t length = MIN(chardev->used, sizeof(chunk));
    size_t first = MIN(length, chardev->size - chardev->head);
    memcpy(chunk, chardev->ring + chardev->head, first);
    memcpy(chunk + first, chardev->ring, length - first);
    g_mutex_unlock(&chardev->lock);
    if (!length)
        return;

    ssize_t sent = send_bytes(chardev, chunk, length);
    if (sent < 0) {
        if (!is_transient(errno) && !(errno == EIO && chardev->reopens))
            close_output(chardev);
        return;
    }
    g_mutex_lock(&chardev->lock);
    chardev->head = (chardev->head + sent) % chardev->size;
    chardev->used -= sent;
    /* Half a ring free: not a wake-up for each byte. */
    if (chardev->starved && chardev->used <= chardev->size / 2) {
        chardev->starved = false;
        starved = true;
    }
    if (!chardev->used)
        g_cond_broadcast(&chardev->idle);
    g_mutex_unlock(&chardev->lock);
    if (starved)
        call_writable(chardev);
}

/* Descriptors to poll, in fixed places. */
enum { SLOT_WAKE, SLOT_LISTEN, SLOT_IN, SLOT_OUT, SLOT_COUNT };

static int wait_for_work(struct chardev *chardev, struct pollfd polls[SLOT_COUNT])
{
    g_mutex_lock(&chardev->lock);
    bool writes = chardev->used && !chardev->hold;
    bool reads = chardev->input_wanted && chardev->handlers.receive;
    g_mutex_unlock(&chardev->lock);

    bool waits = chardev->listener >= 0 && chardev->in < 0;
    /* That a client leaves is of interest even if its input is not. */
    bool watches = reads || (chardev->listener >= 0 && !chardev->left);
    polls[SLOT_WAKE] = (struct pollfd){chardev->wake, POLLIN, 0};
    polls[SLOT_LISTEN] = (struct pollfd){waits ? chardev->listener : -1, POLLIN, 0};
    polls[SLOT_IN] =
        (struct pollfd){watches ? chardev->in : -1, reads && !chardev->in_ended ? POLLIN : 0, 0};
    polls[SLOT_OUT] = (struct pollfd){writes ? chardev->out : -1, POLLOUT, 0};
    return poll(polls, SLOT_COUNT, -1);
}

/* A pty without slave reports a hang-up all the time: sleep, unless something else is to do. */
static void wait_for_reopen(struct chardev *chardev)
{
    struct pollfd wake = {chardev->wake, POLLIN, 0};

    poll(&wake, 1, REOPEN_MS);
}

static void serve_input(struct chardev *chardev, const struct pollfd *polled)
{
    bool readable = polled->revents & POLLIN || (polled->events & POLLIN && chardev->left);

    if (!(polled->revents & (POLLIN | POLLHUP | POLLERR)))
        return;
    if (chardev->reopens && !readable)
        wait_for_reopen(chardev);
    else if (readable || chardev->listener < 0)
        read_input(chardev);
    else
        lose_client(chardev);
}

static void serve_output(struct chardev *chardev, const struct pollfd *polled)
{
    /* The input's end may just have closed the output of a client. */
    if (!polled->revents || chardev->out != polled->fd)
        return;
    if (chardev->reopens && !(polled->revents & POLLOUT))
        wait_for_reopen(chardev);
    else
        write_output(chardev);
}

static void serve(struct chardev *chardev, const struct pollfd polls[SLOT_COUNT])
{
    uint64_t count;

    if (polls[SLOT_WAKE].revents && read(chardev->wake, &count, sizeof(count)) < 0)
        return;
    if (polls[SLOT_LISTEN].revents & POLLIN)
        accept_client(chardev);
    serve_input(chardev, &polls[SLOT_IN]);
    serve_output(chardev, &polls[SLOT_OUT]);
    if ((polls[SLOT_IN].revents | polls[SLOT_OUT].revents) & POLLNVAL)
        close_output(chardev);
}

/* Whether to end; stands still first as long as it shall. */
static bool is_stopped(struct chardev *chardev)
{
    g_mutex_lock(&chardev->lock);
    while (chardev->suspend && !chardev->stop) {
        chardev->still = true;
        g_cond_broadcast(&chardev->idle);
        g_cond_wait(&chardev->idle, &chardev->lock);
    }
    chardev->still = false;
    bool stop = chardev->stop;
    g_mutex_unlock(&chardev->lock);
    return stop;
}

static void *run(void *opaque)
{
    struct chardev *chardev = opaque;
    struct pollfd polls[SLOT_COUNT];

    prctl(PR_SET_NAME, chardev->name);
    thread_begin(THREAD_CHARDEV);
    while (!is_stopped(chardev)) {
        if (wait_for_work(chardev, polls) > 0)
            serve(chardev, polls);
    }
    return NULL;
}

/* A thread that takes no signals: those are for the main thread, and SIGPIPE is for nobody. */
static bool start_thread(struct chardev *chardev, GError **error)
{
    sigset_t all, before;

    sigfillset(&all);
    /* A call that the sandbox forbids must reach its handler on whatever thread. */
    sigdelset(&all, SIGSYS);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int failed = pthread_create(&chardev->thread, NULL, run, chardev);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "%s: cannot start a thread: %s",
                    chardev->name, g_strerror(failed));
    return !failed;
}

/* ---- front end ---- */

size_t chardev_write(struct chardev *chardev, const uint8_t *data, size_t length)
{
    g_mutex_lock(&chardev->lock);
    if (!chardev->connected) {
        g_mutex_unlock(&chardev->lock);
        return length;
    }
    bool was_empty = !chardev->used;
    size_t taken = MIN(length, chardev->size - chardev->used);
    size_t tail = (chardev->head + chardev->used) % chardev->size;
    size_t first = MIN(taken, chardev->size - tail);
    memcpy(chardev->ring + tail, data, first);
    memcpy(chardev->ring, data + first, taken - first);
    chardev->used += taken;
    if (taken < length)
        chardev->starved = true;
    g_mutex_unlock(&chardev->lock);
    if (was_empty && taken)
        wake_thread(chardev);
    return taken;
}

bool chardev_is_connected(struct chardev *chardev)
{
    g_mutex_lock(&chardev->lock);
    bool connected = chardev->peer;
    g_mutex_unlock(&chardev->lock);
    return connected;
}

void chardev_accept_input(struct chardev *chardev)
{
    g_mutex_lock(&chardev->lock);
    bool news = !chardev->input_wanted;
    chardev->input_wanted = true;
    g_mutex_unlock(&chardev->lock);
    if (news)
        wake_thread(chardev);
}

void chardev_hold(struct chardev *chardev, bool hold)
{
    g_mutex_lock(&chardev->lock);
    chardev->hold = hold;
    g_mutex_unlock(&chardev->lock);
    wake_thread(chardev);
}

void chardev_suspend(struct chardev *chardev)
{
    g_mutex_lock(&chardev->lock);
    chardev->suspend = true;
    g_mutex_unlock(&chardev->lock);
    wake_thread(chardev);
    g_mutex_lock(&chardev->lock);
    while (!chardev->still)
        g_cond_wait(&chardev->idle, &chardev->lock);
    g_mutex_unlock(&chardev->lock);
}

void chardev_resume(struct chardev *chardev)
{
    g_mutex_lock(&chardev->lock);
    chardev->suspend = false;
    g_cond_broadcast(&chardev->idle);
    g_mutex_unlock(&chardev->lock);
}

int chardev_client(const struct chardev *chardev)
{
    return chardev->listener >= 0 ? chardev->in : -1;
}

GBytes *chardev_pending(struct chardev *chardev)
{
    GByteArray *bytes = g_byte_array_new();

    g_mutex_lock(&chardev->lock);
    size_t first = MIN(chardev->used, chardev->size - chardev->head);
    g_byte_array_append(bytes, chardev->ring + chardev->head, first);
    g_byte_array_append(bytes, chardev->ring, chardev->used - first);
    g_mutex_unlock(&chardev->lock);
    return g_byte_array_free_to_bytes(bytes);
}

bool chardev_adopt_client(struct chardev *chardev, int client)
{
    if (chardev->listener < 0 || chardev->in >= 0)
        return false;
    chardev->in = chardev->out = client;
    chardev->out_is_socket = true;
    g_mutex_lock(&chardev->lock);
    chardev->connected = chardev->peer = true;
    g_mutex_unlock(&chardev->lock);
    return true;
}

bool chardev_flush(struct chardev *chardev, unsigned timeout_ms)
{
    gint64 deadline = g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;

    g_mutex_lock(&chardev->lock);
    while (chardev->used && g_cond_wait_until(&chardev->idle, &chardev->lock, deadline))
        ;
    bool empty = !chardev->used;
    g_mutex_unlock(&chardev->lock);
    return empty;
}

static void free_chardev(struct chardev *chardev)
{
    close_end(&chardev->in, &chardev->out);
    close_end(&chardev->out, &chardev->in);
    if (chardev->listener >= 0)
        close(chardev->listener);
    if (chardev->wake >= 0)
        close(chardev->wake);
    g_cond_clear(&chardev->idle);
    g_mutex_clear(&chardev->lock);
    g_free(chardev->ring);
    g_free(chardev);
}

void chardev_destroy(struct chardev *chardev)
{
    if (!chardev)
        return;
    g_mutex_lock(&chardev->lock);
    bool held = chardev->hold || chardev->suspend;
    g_mutex_unlock(&chardev->lock);
    if (!held)
        chardev_flush(chardev, FLUSH_MS);

    g_mutex_lock(&chardev->lock);
    chardev->stop = true;
    g_cond_broadcast(&chardev->idle);
    g_mutex_unlock(&chardev->lock);
    wake_thread(chardev);
    pthread_join(chardev->thread, NULL);
    free_chardev(chardev);
}

struct chardev *chardev_fd_create(const struct chardev_fd_config *config, GError **error)
{
    struct chardev *chardev = g_new0(struct chardev, 1);
    int type;
    socklen_t length = sizeof(type);

    g_strlcpy(chardev->name, config->name, sizeof(chardev->name));
    chardev->listener = config->listen ? config->in : -1;
    chardev->in = config->listen ? -1 : config->in;
    chardev->out = config->listen ? -1 : config->out;
    chardev->out_is_socket =
        chardev->out >= 0 && !getsockopt(chardev->out, SOL_SOCKET, SO_TYPE, &type, &length);
    chardev->reopens = config->reopens;
    chardev->connected = chardev->peer = chardev->out >= 0;
    chardev->input_wanted = true;
    chardev->suspend = config->suspended;
    chardev->size = config->buffer ? config->buffer : DEFAULT_BUFFER;
    g_mutex_init(&chardev->lock);
    g_cond_init(&chardev->idle);
    chardev->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    chardev->ring = g_try_malloc(chardev->size);
    if (chardev->wake < 0 || !chardev->ring) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "%s: no memory or descriptors left",
                    chardev->name);
        free_chardev(chardev);
        return NULL;
    }
    if (!start_thread(chardev, error)) {
        free_chardev(chardev);
        return NULL;
    }
    return chardev;
}
