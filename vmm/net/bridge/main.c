// SPDX-License-Identifier: Apache-2.0
/*
 * anima-bridge BRIDGE: makes a TAP interface (tun(4)), puts it on a bridge of the host's, hands its
 * descriptor over the Unix socket on descriptor 3, and ends. So an ordinary user's machines can be
 * on a bridge that the administrator lets them be on, and nothing else can be done by it.
 *
 * It is installed with the file capability CAP_NET_ADMIN. Whoever runs it chooses the name of a
 * bridge, descriptors and an environment; it takes the first by /etc/anima/bridge.conf, uses of the
 * second only descriptor 3, and the third not at all. Everything but that one capability is given
 * up first.
 *
 * The file, which belongs to root and is written by nobody else, has a line a bridge:
 *
 *     allow br0              for everybody
 *     allow br1 alice bob    for these users
 *
 * What is not allowed is refused; so is everything as long as a line cannot be read. Root needs no
 * line. On failure a sentence goes over the socket in the place of a descriptor.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LINK_FD    3
#define CONFIG     "/etc/anima/bridge.conf"
#define CONFIG_MAX 65536
#define TUN        "/dev/net/tun"
#define NAME_FORM  "anima%d"
/* The first byte of the interface's address: a bridge takes the lowest of its interfaces'. */
#define HIGH_BYTE 0xFE

/* Say why, and end. */
static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    send(LINK_FD, text, strlen(text), MSG_NOSIGNAL);
    exit(1); /* lint: ok, it serves one request */
}

/* ---- rights ---- */

static void keep_one_capability(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct all[2] = {0}, one[2] = {0};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_capget, &header, all) != 0)
        fail("no new privileges: %s", strerror(errno));
    if (!(all[0].permitted & 1U << CAP_NET_ADMIN))
        fail("anima-bridge has not the right for that; as root: setcap cap_net_admin=ep on it");
    one[0].permitted = one[0].effective = 1U << CAP_NET_ADMIN;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 ||
        syscall(SYS_capset, &header, one) != 0)
        fail("giving up rights: %s", strerror(errno));
}

/* ---- what is allowed ---- */

/* The whole file, static; what is not root's alone counts for nothing. */
static char *read_config(void)
{
    static char text[CONFIG_MAX + 1];
    int fd = open(CONFIG, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct stat status;
    ssize_t length;

    if (fd < 0)
        fail("%s: %s; as root write 'allow BRIDGE' there", CONFIG, strerror(errno));
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_uid != 0 ||
        status.st_mode & 022)
        fail("%s: this is no file that root alone can write", CONFIG);
    length = read(fd, text, sizeof(text));
    close(fd);
    if (length < 0 || length > CONFIG_MAX || memchr(text, 0, (size_t)length))
        fail("%s: this is no text of up to %d bytes", CONFIG, CONFIG_MAX);
    text[length] = 0;
    return text;
}

/* Whether the word is who runs this: a name or a number. */
static bool is_user(const char *word)
{
    const struct passwd *user;
    char *end;
    unsigned long number;

    if (isdigit((unsigned char)*word)) {
        number = strtoul(word, &end, 10);
        return !*end && number == getuid();
    }
    user = getpwnam(word);
    return user && user->pw_uid == getuid();
}

/* Whether one line allows the bridge. */
static bool line_allows(char *line, unsigned number, const char *bridge)
{
    char *rest = NULL, *word = strtok_r(line, " \t\r", &rest), *name;
    bool everybody, found = false;

    if (!word || *word == '#')
        return false;
    name = strtok_r(NULL, " \t\r", &rest);
    if (strcmp(word, "allow") != 0 || !name)
        fail("%s:%u: expected 'allow BRIDGE [USER ...]'", CONFIG, number);
    word = strtok_r(NULL, " \t\r", &rest);
    everybody = !word;
    for (; word && *word != '#'; word = strtok_r(NULL, " \t\r", &rest))
        found |= is_user(word);
    return strcmp(name, bridge) == 0 && (everybody || found);
}

static void check_allowed(const char *bridge)
{
    char *text = read_config(), *rest = NULL;
    unsigned number = 0;
    bool allowed = false;

    /* strsep keeps empty lines, so that numbers are right. */
    rest = text;
    for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n"))
        allowed |= line_allows(line, ++number, bridge);
    if (!allowed)
        fail("this user may not use the bridge; as root write 'allow %s' into %s", bridge, CONFIG);
}

/* ---- the interface ---- */

static void check_name(const char *name)
{
    size_t length = strlen(name);

    if (!length || length >= IFNAMSIZ || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        fail("no interface can have such a name");
    for (const char *at = name; *at; at++)
        if (!isgraph((unsigned char)*at) || strchr("/%:,", *at))
            fail("no interface can have such a name");
}

static int make_tap(char name[IFNAMSIZ])
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open(TUN, O_RDWR | O_CLOEXEC);

    if (fd < 0)
        fail("%s: %s", TUN, strerror(errno));
    memcpy(request.ifr_name, NAME_FORM, sizeof(NAME_FORM));
    if (ioctl(fd, TUNSETIFF, &request) != 0)
        fail("an interface cannot be made: %s", strerror(errno));
    memcpy(name, request.ifr_name, IFNAMSIZ);
    return fd;
}

static struct ifreq request_of(const char *name)
{
    struct ifreq request = {0};

    memcpy(request.ifr_name, name, strlen(name));
    return request;
}

/* As large packets as the bridge has, and an address that does not become the bridge's. */
static void adapt(int control, const char *tap, const char *bridge)
{
    struct ifreq of_bridge = request_of(bridge), of_tap = request_of(tap);

    if (ioctl(control, SIOCGIFMTU, &of_bridge) == 0) {
        of_tap.ifr_mtu = of_bridge.ifr_mtu;
        ioctl(control, SIOCSIFMTU, &of_tap);
    }
    of_tap = request_of(tap);
    if (ioctl(control, SIOCGIFHWADDR, &of_tap) != 0)
        return;
    of_tap.ifr_hwaddr.sa_data[0] = (char)HIGH_BYTE;
    ioctl(control, SIOCSIFHWADDR, &of_tap);
}

static void join(int control, const char *tap, const char *bridge)
{
    struct ifreq of_bridge = request_of(bridge), of_tap = request_of(tap);

    of_bridge.ifr_ifindex = (int)if_nametoindex(tap);
    if (ioctl(control, SIOCBRADDIF, &of_bridge) != 0)
        fail("%s", errno == ENODEV       ? "there is no such interface"
                   : errno == EOPNOTSUPP ? "this interface is no bridge"
                                         : strerror(errno));
    if (ioctl(control, SIOCGIFFLAGS, &of_tap) == 0) {
        of_tap.ifr_flags |= IFF_UP;
        if (ioctl(control, SIOCSIFFLAGS, &of_tap) == 0)
            return;
    }
    fail("%s: %s", tap, strerror(errno));
}

static void hand_over(int fd)
{
    char control[CMSG_SPACE(sizeof(fd))] = {0};
    struct iovec vector = {(char *)"\n", 1};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(fd));
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    if (sendmsg(LINK_FD, &message, MSG_NOSIGNAL) < 0)
        fail("the interface cannot be handed over: %s", strerror(errno));
}

int main(int argc, char **argv)
{
    char tap[IFNAMSIZ];
    struct stat status;
    int fd, control;

    if (argc != 2 || fstat(LINK_FD, &status) != 0 || !S_ISSOCK(status.st_mode)) {
        fprintf(stderr, "anima-bridge is started by a machine's monitor; see anima(1).\n");
        return 2;
    }
    clearenv();
    keep_one_capability();
    check_name(argv[1]);
    if (getuid() != 0)
        check_allowed(argv[1]);
    control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    fd = make_tap(tap);
    adapt(control, tap, argv[1]);
    join(control, tap, argv[1]);
    hand_over(fd);
    return 0;
}
