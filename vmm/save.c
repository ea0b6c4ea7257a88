// SPDX-License-Identifier: Apache-2.0
/*
 * Writing a machine's state to a client's descriptor, which may be a pipe that nobody reads: a
 * thread of its own writes, so that questions are answered meanwhile. The machine stands still
 * until it is done, and goes on then if it ran.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/internal.h"
#include "vmm/machine/machine_stream.h"

struct vmm_save {
    struct vmm *vmm;
    struct control_call *call;
    struct machine_saver *saver;
    int fd;
    bool resumes; /* the machine ran */
    GThread *thread;
    bool good; /* the thread's, as is `error`, until it has ended */
    GError *error;
};

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

    save->good = machine_saver_write(save->saver, save->fd, &save->error);
    g_idle_add(finish, save);
    return NULL;
}

static bool start(struct vmm_save *save, GError **error)
{
    char *definition = vmm_effective_definition(save->vmm);

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
