// local fake for development; never committed
#include "vmm/machine/machine.h"
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
struct machine {
    struct machine_config c;
    enum machine_state st;
};
static const struct engine_ops soft = {.name = "soft"};
const struct engine_ops *engine_find(const char *name, const char **why, GError **error)
{
    *why = "fake";
    return &soft;
}
static size_t can(void *o)
{
    return 100;
}
static void recv_(void *o, const uint8_t *d, size_t n)
{
    struct machine *m = o;
    chardev_write(m->c.serial[0], d, n);
    if (memchr(d, 'q', n)) {
        m->c.listener.ended(m->c.listener.opaque, MACHINE_END_POWER_OFF, 0, "guest");
    }
    if (memchr(d, 'c', n)) {
        m->c.listener.ended(m->c.listener.opaque, MACHINE_END_CRASH, 0, "triple fault");
    }
    if (memchr(d, 'x', n)) {
        m->c.listener.ended(m->c.listener.opaque, MACHINE_END_EXIT, 43, NULL);
    }
    if (memchr(d, 's', n)) {
        socket(AF_INET, SOCK_STREAM, 0);
    }
    if (memchr(d, 'd', n)) {
        *(volatile int *)0 = 1;
    }
}
struct machine *machine_create(const struct machine_config *config, GError **error)
{
    struct machine *m = g_new0(struct machine, 1);
    m->c = *config;
    struct chardev_handlers h = {.can_receive = can, .receive = recv_, .opaque = m};
    if (config->serial[0]) {
        chardev_set_handlers(config->serial[0], &h);
        chardev_write(config->serial[0], (void *)"hello\r\n", 7);
    }
    return m;
}
void machine_destroy(struct machine *m)
{
    if (!m)
        return;
    if (m->c.serial[0])
        chardev_set_handlers(m->c.serial[0], NULL);
    g_free(m);
}
bool machine_resume(struct machine *m)
{
    m->st = MACHINE_RUNNING;
    m->c.listener.changed(m->c.listener.opaque, m->st, NULL);
    return true;
}
void machine_pause(struct machine *m)
{
    m->st = MACHINE_PAUSED;
    m->c.listener.changed(m->c.listener.opaque, m->st, NULL);
}
bool machine_reset(struct machine *m, const char *r, GError **e)
{
    return true;
}
void machine_press_power_button(struct machine *m)
{
}
void machine_query(struct machine *m, struct machine_status *s)
{
    *s = (struct machine_status){.state = m->st,
                                 .engine = "soft",
                                 .cpu_model = "fake",
                                 .cpus = 1,
                                 .memory_size = m->c.memory_size};
}
const struct engine_ops *machine_engine(struct machine *m)
{
    return &soft;
}
struct vcpu *machine_vcpu(struct machine *m, unsigned i)
{
    return NULL;
}
