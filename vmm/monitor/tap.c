// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel's answers are few and mean several things, so what can be known before is asked
 * before: whether there is such an interface, and whether it is a TAP (its "tun_flags" in sysfs).
 */
#include "vmm/monitor/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <pwd.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "config/schema.h"

#define TUN_PATH "/dev/net/tun"

static int refuse(const char *name, const char *why, const char *what_to_do, GError **error)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "nic: tap=%s: %s%s%s", name, why,
                what_to_do ? "; " : "", what_to_do ? what_to_do : "");
    return -1;
}

/* How to make such an interface for this user. */
static char *advice(const char *name)
{
    const struct passwd *user = getpwuid(geteuid());
    g_autofree char *number = g_strdup_printf("%u", geteuid());

    return g_strdup_printf("as root: ip tuntap add dev %s mode tap user %s; ip link set %s up",
                           name, user ? user->pw_name : number, name);
}

/* The flags that sysfs tells of the interface; IFF_TAP alone where it tells nothing. */
static unsigned long tun_flags(const char *name, bool *is_tun)
{
    g_autofree char *folder = g_strdup_printf("/sys/class/net/%s", name);
    g_autofree char *path = g_strdup_printf("%s/tun_flags", folder);
    g_autofree char *text = NULL;

    if (g_file_get_contents(path, &text, NULL, NULL))
        return strtoul(text, NULL, 0);
    /* In another network namespace than sysfs is mounted for, it is not to be seen at all. */
    *is_tun = access(folder, F_OK) != 0;
    return IFF_TAP;
}

static int refuse_attach(const char *name, int reason, GError **error)
{
    g_autofree char *how = advice(name);

    switch (reason) {
    case EPERM:
        return refuse(name, "this user may not use the interface", how, error);
    case EBUSY:
        return refuse(name, "another program uses the interface", NULL, error);
    case EINVAL:
        return refuse(name, "this interface is no TAP", NULL, error);
    default:
        return refuse(name, g_strerror(reason), NULL, error);
    }
}

bool tap_set_form(int fd)
{
    int header = sizeof(struct virtio_net_hdr_v1), little = 1;

    return ioctl(fd, TUNSETVNETHDRSZ, &header) == 0 && ioctl(fd, TUNSETVNETLE, &little) == 0 &&
           ioctl(fd, TUNSETOFFLOAD, 0) == 0 && fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) == 0;
}

static int open_device(const char *name, GError **error)
{
    int fd = open(TUN_PATH, O_RDWR | O_CLOEXEC | O_NONBLOCK);

    if (fd >= 0)
        return fd;
    if (errno == ENOENT || errno == ENODEV)
        return refuse(name, TUN_PATH " is missing", "as root: modprobe tun", error);
    return refuse(name, TUN_PATH, g_strerror(errno), error);
}

int tap_open(const char *name, GError **error)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    bool is_tun = true;
    int fd;

    if (!if_nametoindex(name)) {
        g_autofree char *how = advice(name);

        return refuse(name, "there is no such interface", how, error);
    }
    unsigned long flags = tun_flags(name, &is_tun);
    if (!is_tun || !(flags & IFF_TAP))
        return refuse_attach(name, EINVAL, error);
    fd = open_device(name, error);
    if (fd < 0)
        return -1;
    request.ifr_flags |= flags & IFF_MULTI_QUEUE;
    g_strlcpy(request.ifr_name, name, sizeof(request.ifr_name));
    if (ioctl(fd, TUNSETIFF, &request) == 0 && tap_set_form(fd))
        return fd;
    int reason = errno;
    close(fd);
    return refuse_attach(name, reason, error);
}
