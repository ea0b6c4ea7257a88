// SPDX-License-Identifier: Apache-2.0
/*
 * A user's day in a program, by libanima: what day.sh does on the command line.
 */
#define _GNU_SOURCE
#include <anima.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 120000

static struct anima_error *error;

static void check(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "day: %s: %s\n", what, error ? error->message : "it is not so");
    exit(1);
}

/* A text that lives to the program's end. */
static char *text(const char *format, ...)
{
    char *result = NULL;
    va_list arguments;

    va_start(arguments, format);
    check(vasprintf(&result, format, arguments) >= 0, "memory");
    va_end(arguments);
    return result;
}

/* ---- the machine ---- */

static void define(void)
{
    const char *const options[][2] = {
        {"name", "day"},
        {"memory", "768M"},
        {"kernel", getenv("KERNEL")},
        {"initrd", getenv("INITRD")},
        {"append", "root=/dev/vda1 console=ttyS0 quiet"},
        {"engine", getenv("ENGINE")},
    };
    struct anima_definition *definition = anima_definition_create();
    struct anima_creation *creation;
    json_t *cloud = json_pack("{s:s, s:s, s:s, s:s}", "cloud-image", getenv("IMAGE"), "disk-size",
                              "3G", "user", "me", "ssh-key", text("%s.pub", getenv("KEY")));
    int more;

    for (unsigned i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        check(anima_definition_set(definition, options[i][0], options[i][1], &error),
              options[i][0]);
    creation = anima_definition_keep_cloud(definition, json_dumps(cloud, 0), &error);
    check(creation, "create");
    do
        more = anima_creation_step(creation, NULL, NULL, &error);
    while (more > 0);
    check(more == 0, "create");
    anima_creation_destroy(creation);
    anima_definition_destroy(definition);
    json_decref(cloud);
}

static struct anima_machine *start(const char *name)
{
    struct anima_machine *machine = anima_machine_start_named(name, &error);

    check(machine, "start");
    return machine;
}

static void stop(struct anima_machine *machine)
{
    struct anima_end end = {0};

    check(anima_machine_call(machine, "stop", "{\"timeout\": 60}", -1, PATIENCE_MS, &error),
          "stop");
    check(anima_machine_wait(machine, PATIENCE_MS, &end, &error) == 1, "wait");
    check(strcmp(end.cause, "power-off") == 0, end.cause);
    anima_machine_destroy(machine);
}

/* libanima knows where; who logs in there is ssh. */
static void ssh(const char *name, const char *command, const char *input)
{
    char *line = text("anima ssh %s -- -i %s '%s' <%s", name, getenv("KEY"), command, input);

    check(system(line) == 0, command); /* lint: ok: the words are ours */
}

/* ---- its guest ---- */

/* What the script in the guest says to up to two words, in Base64: enough to compare. */
static const char *in_guest(struct anima_machine *machine, const char *word, const char *more)
{
    json_t *params = json_pack("{s:[s, s, s*]}", "argv", "/usr/local/bin/in-guest", word, more);
    char *said =
        anima_machine_call(machine, "guest.exec", json_dumps(params, 0), -1, PATIENCE_MS, &error);
    json_t *result;

    check(said, word);
    result = json_loads(said, 0, NULL);
    check(json_integer_value(json_object_get(result, "status")) == 0, said);
    json_decref(params);
    anima_free(said);
    return json_string_value(json_object_get(result, "stdout"));
}

/* From NAT to the switch and back, while the guest fetches pages. */
static void elsewhere_and_back(struct anima_machine *machine)
{
    static const char *const there[] = {"network=switch=lan", "forward=", NULL};
    static const char *const back[] = {"network=user", "forward=tcp:0:22", NULL};
    const char *first = in_guest(machine, "curl", NULL), *second;

    check(anima_machine_change(machine, "nic0", there, false, &error), "change");
    second = in_guest(machine, "curl", NULL);
    check(strcmp(first, second) != 0, "the guest has another network");
    check(anima_machine_change(machine, "nic0", back, false, &error), "change");
    check(strcmp(first, in_guest(machine, "curl", NULL)) == 0, "the guest has its network again");
}

/* A disk, while the guest writes to the other. */
static void come_and_go(struct anima_machine *machine)
{
    for (unsigned i = 0; i < 2; i++) {
        const char *serial = text("round%u", i);
        const char *entry = text("%s,id=data,serial=%s", getenv("DISK"), serial);

        check(anima_machine_attach_device(machine, "disk", entry, false, PATIENCE_MS, &error),
              "attach");
        in_guest(machine, "use", serial);
        check(anima_machine_detach_device(machine, "data", false, 60, &error), "detach");
    }
}

/* Under another name. */
static void carry_over(void)
{
    const char *const settings[] = {"name=other", NULL};
    const char *package = text("%s/day.ova", getenv("FOLDER"));

    check(anima_export("day", package, &error), "export");
    check(anima_import(package, settings, false, &error), "import");
}

int main(void)
{
    const char *const kind[] = {"kind", "nat", NULL};
    struct anima_machine *machine;

    check(anima_network_create("lan", kind, &error), "network");
    define();
    machine = start("day");
    ssh("day",
        "sudo tee /usr/local/bin/in-guest >/dev/null && "
        "sudo chmod +x /usr/local/bin/in-guest",
        getenv("SCRIPT"));
    in_guest(machine, "begin", getenv("PORT"));
    elsewhere_and_back(machine);
    come_and_go(machine);
    in_guest(machine, "end", NULL);
    ssh("day", "echo kept | sudo tee /etc/kept && sync", "/dev/null");
    stop(machine);

    carry_over();
    machine = start("other");
    ssh("other", "grep -qx kept /etc/kept", "/dev/null");
    stop(machine);
    check(anima_definition_delete("day", &error), "delete");
    check(anima_definition_delete("other", &error), "delete");
    check(anima_network_delete("lan", &error), "delete");
    check(strcmp(anima_inventory(&error), "[]") == 0, "nothing is left");
    return 0;
}
