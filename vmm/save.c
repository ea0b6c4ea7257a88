// SPDX-License-Identifier: Apache-2.0
/*
 * Writing a machine's state to a client's descriptor, which may be a pipe that nobody reads: a
 * thread of its own writes, so that questions are answered meanwhile. The machine stands still
 * until it is done, and goes on then if it ran.
 *
 * A timer tells how far it is. To cancel, a flag is set that the thread looks at between two
 * writes, and a signal takes it out of one that waits. The signal is sent until the thread has
 * ended, since one that comes between the look and the write is lost.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/internal.h"
#include "vmm/machine/machine_stream.h"
#include "vmm/util/thread.h"

#define TELL_MS       100
#define INTERRUPT_MS  10
#define CANCEL_SIGNAL SIGUSR1

struct vmm_save {
    struct vmm *vmm;
    struct control_call *call;
    struct machine_saver *saver;
    int fd;
    bool resumes; /* the machine ran */
    GThread *thread;
    pthread_t self; /* the thread's own name, once `begun` */
    _Atomic bool begun;
    guint timer;   /* tells of progress, or interrupts */
    uint64_t told; /* bytes done that were told of */
    struct stream_progress progress;
    bool good; /* the thread's, as is `error`, until it has ended */
    GError *error;
};

static void on_cancel_signal(int number)
{
}

void vmm_save_prepare(void)
{
    struct sigaction action = {.sa_handler = on_cancel_signal}; /* no SA_RESTART: writes return */

    sigaction(CANCEL_SIGNAL, &action, NULL);
}

static gboolean tell(gpointer opaque)
{
    struct vmm_save *save = opaque;
    uint64_t done = atomic_load(&save->progress.done);

    if (done != save->told)
        control_progress(save->call, done, atomic_load(&save->progress.total));
    save->told = done;
    return G_SOURCE_CONTINUE;
}

static gboolean interrupt(gpointer opaque)
{
    struct vmm_save *save = opaque;

    if (atomic_load(&save->begun))
        pthread_kill(save->self, CANCEL_SIGNAL);
    return G_SOURCE_CONTINUE;
}

/* A debugger that came meanwhile would find the machine going on under its hands. */
static void admit_debugger(struct vmm *vmm, bool admit)
{
    if (vmm->debugger)
        gdb_server_admit(vmm->debugger, admit);
}

/* On the main thread, after the last byte. */
static gboolean finish(gpointer opaque)
{
    struct vmm_save *save = opaque;

    tell(save);
    g_source_remove(save->timer);
    g_thread_join(save->thread);
    machine_saver_destroy(save->saver);
    save->vmm->save = NULL;
    admit_debugger(save->vmm, true);
    if (save->resumes)
        machine_resume(save->vmm->machine);
    if (save->good)
        control_reply(save->call, NULL);
    else
        control_fail_error(save->call, save->error);
    close(save->fd);
    g_free(save);
    return G_SOURCE_REMOVE;
}

static void *write_all(void *opaque)
{
    struct vmm_save *save = opaque;

    thread_begin(THREAD_SAVE);
    save->self = pthread_self();
    atomic_store(&save->begun, true);
    save->good = machine_saver_write(save->saver, save->fd, &save->progress, &save->error);
    g_idle_add(finish, save);
    return NULL;
}

static bool start(struct vmm_save *save, GError **error)
{
    struct attachments *attachments = &save->vmm->attachments;
    /* The state is of no use without what the disks hold in memory. */
    bool good = attachments_deactivate_disks(attachments, error);
    char *definition;

    if (!attachments_activate_disks(attachments, good ? error : NULL) || !good)
        return false;
    definition = vmm_effective_definition(save->vmm);
    save->saver = machine_saver_create(save->vmm->machine, definition, error);
    free(definition);
    if (!save->saver)
        return false;
    save->thread = g_thread_try_new("save", write_all, save, error);
    return save->thread;
}

void vmm_handle_save(void *opaque, struct control_call *call)
{
    struct vmm *vmm = opaque;
    struct vmm_save *save = g_new0(struct vmm_save, 1);
    struct machine_status status;
    GError *error = NULL;

    machine_query(vmm->machine, &status);
    machine_pause(vmm->machine);
    *save = (struct vmm_save){
        .vmm = vmm, .call = call, .fd = call->fds[0], .resumes = status.state == MACHINE_RUNNING};
    call->fds[0] = -1;
    if (start(save, &error)) {
        vmm->save = save;
        save->timer = g_timeout_add(TELL_MS, tell, save);
        admit_debugger(vmm, false);
        return;
    }
    machine_saver_destroy(save->saver);
    if (save->resumes)
        machine_resume(vmm->machine);
    close(save->fd);
    g_free(save);
    control_fail_error(call, error);
}

void vmm_handle_cancel(void *opaque, struct control_call *call)
{
    struct vmm *vmm = opaque;
    struct vmm_save *save = vmm->save;
    const json_t *id = json_object_get(call->params, "call");

    if (guest_cancel(vmm->guest, id)) {
        control_reply(call, NULL);
        return;
    }
    if (!save || !json_equal(save->call->id, id)) {
        control_fail(call, RPC_ERROR_STATE, "it has ended already");
        return;
    }
    if (!atomic_exchange(&save->progress.cancelled, true)) {
        g_source_remove(save->timer);
        save->timer = g_timeout_add(INTERRUPT_MS, interrupt, save);
    }
    control_reply(call, NULL);
}
