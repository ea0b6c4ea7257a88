/* SPDX-License-Identifier: Apache-2.0 */
/**
 * libanima: define, start and talk to machines.
 *
 * A definition is what a machine shall be; a machine is a connection to one that runs; a call is a
 * request to it that is under way. Handles are opaque. Machines and calls may be used by several
 * threads at once, other handles by one at a time; who destroys a handle is its last user. The
 * library has no threads of its own.
 *
 * A function that can fail returns NULL, false or a
 * negative number and, where `error` is not NULL, sets *error to a message that the caller frees
 * with anima_error_free. Strings that a function returns as `char *` are freed with anima_free.
 *
 * The library starts processes and never installs signal handlers. Machines that it starts end
 * when their handle is destroyed or the process ends in whatever way.
 */
#ifndef ANIMA_H
#define ANIMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The version of the library that runs, such as "0.1.0". */
const char *anima_version(void);

/* ---- errors ---- */

enum anima_error_code {
    ANIMA_ERROR_FAILED = 1,   /**< the host, a file or the machine did not play along */
    ANIMA_ERROR_USAGE = 2,    /**< the words were wrong */
    ANIMA_ERROR_DENIED = 3,   /**< this user may not */
    ANIMA_ERROR_STATE = 4,    /**< not in the machine's present state */
    ANIMA_ERROR_ABSENT = 5,   /**< there is no such machine, method or option */
    ANIMA_ERROR_TIMEOUT = 6,  /**< no answer came in time */
    ANIMA_ERROR_CANCELLED = 7 /**< it was cancelled */
};

/** What a function that failed tells. */
struct anima_error {
    enum anima_error_code code;
    char *message; /**< one phrase: which object, what is wrong, what to do */
};

/** Free an error. NULL is fine. */
void anima_error_free(struct anima_error *error);

/** Free what the library returned as `char *`. NULL is fine. */
void anima_free(void *memory);

/* ---- the options of a definition ---- */

/** One option of the schema; static. */
struct anima_option;

/** The option number `index` from 0, or NULL after the last. */
const struct anima_option *anima_option_at(unsigned index);
/** The option called `key`, or NULL. */
const struct anima_option *anima_option_find(const char *key);
/** The known key nearest to a misspelt one, or NULL when none is near. */
const char *anima_option_nearest(const char *word);

/** Its key in vm.yaml; on the command line with "--" before it. */
const char *anima_option_key(const struct anima_option *option);
/** What stands for its value in help: "SIZE". */
const char *anima_option_argument(const struct anima_option *option);
/** One line of help. */
const char *anima_option_help(const struct anima_option *option);
/** Its default as text, or NULL. */
const char *anima_option_default(const struct anima_option *option);
/** Its choices, NULL-terminated (one that ends in '=' takes a text after it), or NULL. */
const char *const *anima_option_choices(const struct anima_option *option);
/** Whether its value is the name of a file. */
bool anima_option_is_path(const struct anima_option *option);
/** Whether it is a yes-or-no, so that its name alone means yes. */
bool anima_option_is_bool(const struct anima_option *option);
/** Whether anima_machine_change can change it. */
bool anima_option_is_live(const struct anima_option *option);
/** The member number `index` from 0 of an option whose entries are "FIRST,KEY=VALUE,.."; NULL after
 * the last, and for every other option. What is told of an option is told of a member as well. */
const struct anima_option *anima_option_member(const struct anima_option *option, unsigned index);

/** The option number `index` from 0 of a machine out of a cloud's image (see
 * anima_definition_keep_cloud), or NULL after the last. */
const struct anima_option *anima_cloud_option_at(unsigned index);

/* ---- definitions ---- */

struct anima_definition;

/** A definition where nothing is said yet. */
struct anima_definition *anima_definition_create(void);
/** Free it. NULL is fine. */
void anima_definition_destroy(struct anima_definition *definition);

/** Set one option from text, as on the command line. Lists grow, other values are replaced. */
bool anima_definition_set(struct anima_definition *definition, const char *key, const char *text,
                          struct anima_error **error);
/** Read a vm.yaml. Messages tell its line and column. */
bool anima_definition_load(struct anima_definition *definition, const char *path,
                           struct anima_error **error);
/** Read the kept definition of the machine called `name` (below), and take its name. */
bool anima_definition_load_named(struct anima_definition *definition, const char *name,
                                 struct anima_error **error);
/**
 * Read the definition of the machine whose state is in the file (see "state.save"), and let it go
 * on from there. Other options may be set afterwards: where lines lead, or the engine.
 */
bool anima_definition_load_state(struct anima_definition *definition, const char *path,
                                 struct anima_error **error);
/**
 * Give options that were not given what the guest wants that the option "os" names: memory, CPUs
 * and the like. Without "os" nothing happens. Returns what the guest will not be able to use, a
 * line each (an empty text: nothing); NULL on failure.
 */
char *anima_definition_fill(struct anima_definition *definition, struct anima_error **error);
/**
 * Read another hypervisor's description of a machine: libvirt's domain XML, VirtualBox's .vbox or
 * Xen's xl.cfg, told by its content. Packages, which hold disks too, are anima_import's. Returns
 * what could not be carried over, a line each (an empty text: nothing); NULL on failure.
 */
char *anima_definition_import(struct anima_definition *definition, const char *path,
                              struct anima_error **error);
/** Check that the options fit together and fit this host. anima_machine_start does so too. */
bool anima_definition_check(const struct anima_definition *definition, struct anima_error **error);
/** All options with their values, defaults included, as a JSON object. */
char *anima_definition_json(const struct anima_definition *definition);
/** The text of a vm.yaml: what was given, or with `presets` all options that have a value. */
char *anima_definition_yaml(const struct anima_definition *definition, bool presets);

/* ---- kept definitions: a machine is a folder with its vm.yaml ---- */

/**
 * Keep the definition as that of a new machine, under its name. Paths become absolute; what might
 * be another tomorrow (the machine's version, addresses of network cards) is given its value of
 * today, in `definition` too. ANIMA_ERROR_STATE when there is such a machine. It is made whole or
 * not at all.
 */
bool anima_definition_keep(struct anima_definition *definition, struct anima_error **error);

/** A machine in the making, for what lasts. */
struct anima_creation;

/**
 * Keep the definition as that of a new machine whose first disk is a copy of a cloud's image, and
 * whose last one tells cloud-init in there what to do: whom to let in, and what the machine is
 * called. `cloud` is the text of a JSON object of options (anima_cloud_option_at), such as
 * {"cloud-image": "debian.raw", "disk-size": "20G", "user": "me", "ssh-key": "id_ed25519.pub"}.
 * Where `definition` has no network card it gets one on *user*, with a port of the host's for ssh.
 * Call anima_creation_step until the machine is there. NULL when it cannot be begun.
 */
struct anima_creation *anima_definition_keep_cloud(struct anima_definition *definition,
                                                   const char *cloud, struct anima_error **error);
/**
 * Go on for a moment. 1: there is more to do, and `done` of `total` bytes are; 0: the machine is
 * kept; -1: it failed. `done` and `total` may be NULL.
 */
int anima_creation_step(struct anima_creation *creation, uint64_t *done, uint64_t *total,
                        struct anima_error **error);
/** Free it. A machine that is not kept yet will not be, and nothing of it is left. NULL is fine. */
void anima_creation_destroy(struct anima_creation *creation);

/** The text of a machine's vm.yaml; ANIMA_ERROR_ABSENT when there is no such machine. */
char *anima_definition_read(const char *name, struct anima_error **error);
/**
 * Put `text` in the place of a machine's vm.yaml. It is checked first. ANIMA_ERROR_STATE when the
 * present text is not `before`: somebody else was quicker. A machine that runs is the new one when
 * it is started next.
 */
bool anima_definition_replace(const char *name, const char *before, const char *text,
                              struct anima_error **error);
/**
 * Change single options of a machine's vm.yaml; the rest of the text stays as it is. `changes` is a
 * NULL-terminated list of "OPTION=VALUE" (several of one list are its entries, "OPTION=" is the
 * default), "OPTION+=ENTRY" and "OPTION-=ENTRY", made all or not at all.
 */
bool anima_definition_change(const char *name, const char *const *changes,
                             struct anima_error **error);
/**
 * Take the disk or network card called `id` out of a machine's vm.yaml; the others keep their ids.
 * True also when it has none of that id, or there is no such machine: `name` may be that of one
 * that runs without being kept.
 */
bool anima_definition_drop_device(const char *name, const char *id, struct anima_error **error);
/** Remove a machine's folder with all that is in it. ANIMA_ERROR_STATE while it runs. */
bool anima_definition_delete(const char *name, struct anima_error **error);
/** The folder of the machine called `name`, whether or not there is one. */
char *anima_definition_folder(const char *name);

/* ---- networks that machines share ---- */

/** The option number `index` from 0 of a network's definition, or NULL after the last. */
const struct anima_option *anima_network_option_at(unsigned index);
/** The option called `key` of a network's definition, or NULL. */
const struct anima_option *anima_network_option_find(const char *key);

/**
 * Define a network. `settings` is a NULL-terminated list of keys and values, one after the other; a
 * network of kind "nat" gets a subnet that collides with none of the host's if it has none.
 * ANIMA_ERROR_STATE when there is such a network.
 */
bool anima_network_create(const char *name, const char *const *settings,
                          struct anima_error **error);
/** The text of a network's definition; ANIMA_ERROR_ABSENT when there is none. */
char *anima_network_read(const char *name, struct anima_error **error);
/** Change single options of a network's definition, as anima_definition_change does of a machine's.
 * What runs is the new one when it is started next. */
bool anima_network_change(const char *name, const char *const *changes, struct anima_error **error);
/**
 * What is known of a network, as a JSON object: "name", the options of its definition, and "state":
 * "running", "off", "faulty" (its definition cannot be read, for a "problem") or "silent". One that
 * runs has what "network.query" tells: its ports, leases and forwards.
 */
char *anima_network_show(const char *name, struct anima_error **error);
/** That of all networks, as a JSON list. */
char *anima_network_list(struct anima_error **error);
/** The names of the machines whose definitions have a card on the network, as a JSON list. */
char *anima_network_machines(const char *name, struct anima_error **error);
/**
 * Add a port forward to a network, or take one away (`add` is false): at once where it runs, and
 * unless `temporary` in its definition.
 */
bool anima_network_forward(const char *name, bool add, const char *forward, bool temporary,
                           struct anima_error **error);
/** Remove a network. ANIMA_ERROR_STATE while machines are on it. */
bool anima_network_delete(const char *name, struct anima_error **error);

/* ---- packages: machines with their disks, as OVF has them ---- */

/**
 * Begin to keep the machine of a package, an OVA or the descriptor (.ovf) of one in several files,
 * as a new one. `settings` is a NULL-terminated list of "OPTION=VALUE", or NULL: what they say
 * counts, and "name=NAME" is its name. Under another name than the package's own, its network cards
 * get addresses of their own unless `keep_macs` is set. The machine is there with its disks when
 * the call is answered, or not at all. The result is an object: "name", and "lost", a list of what
 * could not be carried over. Destroying the call before ends the work and leaves nothing.
 */
struct anima_call *anima_import_begin(const char *path, const char *const *settings, bool keep_macs,
                                      struct anima_error **error);
/** anima_import_begin, and wait for the answer. */
char *anima_import(const char *path, const char *const *settings, bool keep_macs,
                   struct anima_error **error);
/**
 * Begin to write the machine called `name`, which does not run, as a package: an OVA when `path`
 * ends in .ova, several files beside each other when it ends in .ovf. No file is there before all
 * of them are, and none is replaced. The result is an object: "name", and "lost", a list of what
 * other programs, or any, will not find in it.
 */
struct anima_call *anima_export_begin(const char *name, const char *path,
                                      struct anima_error **error);
/** anima_export_begin, and wait for the answer. */
char *anima_export(const char *name, const char *path, struct anima_error **error);

/* ---- machines ---- */

struct anima_machine;

/**
 * Start a machine. It runs (unless defined as paused) when this returns, and belongs to the handle:
 * it is killed when the handle is destroyed. With `serial_fd` not negative, that descriptor (both
 * ways; it is duplicated) is what `serial: stdio` or `console: stdio` leads to.
 */
struct anima_machine *anima_machine_start(const struct anima_definition *definition, int serial_fd,
                                          struct anima_error **error);
/**
 * Begin what anima_machine_start does, which lasts where the gigabytes of a state are read. Call
 * anima_machine_start_step until the machine is there. To give the start up call the method "kill",
 * or destroy the handle.
 */
struct anima_machine *anima_machine_start_begin(const struct anima_definition *definition,
                                                int serial_fd, struct anima_error **error);
/**
 * Wait for a machine whose start was begun. 1: it is not there yet after `timeout_ms` (negative:
 * wait for ever), and `done` of `total` bytes of its state are read (total 0: that is not known);
 * 0: it is; -1: it failed. `done` and `total` may be NULL. For one thread at a time.
 */
int anima_machine_start_step(struct anima_machine *machine, int timeout_ms, uint64_t *done,
                             uint64_t *total, struct anima_error **error);

/**
 * Let a machine that this handle started live on when the handle is destroyed. With `log_fd` not
 * negative, messages about it are appended to that file.
 */
bool anima_machine_detach(struct anima_machine *machine, int log_fd, struct anima_error **error);

/**
 * Start the machine whose definition is kept as `name`, and let it live on without this process.
 * What it tells is in the file "log" in its folder; where its definition leads a line to `stdio`,
 * that is the file "console.log". Returns a connection to it.
 */
struct anima_machine *anima_machine_start_named(const char *name, struct anima_error **error);
/**
 * Begin what anima_machine_start_named does; call anima_machine_start_step. The machine belongs to
 * the handle until that has told that it is there.
 */
struct anima_machine *anima_machine_start_named_begin(const char *name, struct anima_error **error);

/**
 * Read into `definition` what the running machine is now, with the ids and addresses of its
 * devices: what it was started with, and what has changed since. Fails after `timeout_ms` without
 * an answer (negative: wait for ever).
 */
bool anima_machine_definition(struct anima_machine *machine, struct anima_definition *definition,
                              int timeout_ms, struct anima_error **error);

/**
 * Put a disk or a network card into the running machine, behind a root port: `kind` is "disk" or
 * "nic", `entry` what stands behind --disk or --nic on the command line. Unless `temporary`, it
 * comes into the kept definition of the machine's name as well, if there is one; a failure leaves
 * neither. Returns the JSON object {"id": ID, "address": ADDRESS}; NULL on failure, or when there
 * was no answer in `timeout_ms` (negative: wait for ever).
 */
char *anima_machine_attach_device(struct anima_machine *machine, const char *kind,
                                  const char *entry, bool temporary, int timeout_ms,
                                  struct anima_error **error);

/**
 * Ask the guest to let go of a disk or a network card that is behind a root port, and take it out
 * of the running machine; unless `temporary`, of its kept definition as well. The guest has
 * `timeout_seconds` (0: for ever); when it does not let go in that time, the device stays. To be
 * able to cancel it, begin "device.detach" by anima_machine_begin, and call
 * anima_definition_drop_device behind it.
 */
bool anima_machine_detach_device(struct anima_machine *machine, const char *id, bool temporary,
                                 int timeout_seconds, struct anima_error **error);

/** Connect to the running machine of this user called `name`. */
struct anima_machine *anima_machine_connect(const char *name, struct anima_error **error);

/** Close the connection. A machine that this handle started is killed. NULL is fine. */
void anima_machine_destroy(struct anima_machine *machine);

/**
 * A descriptor to poll for reading: it is readable as long as anima_machine_event or
 * anima_machine_answered has something, or may have once it has looked. It belongs to the handle,
 * and is for nothing but polling.
 */
int anima_machine_fd(const struct anima_machine *machine);

/**
 * Call a method of the control protocol, anima-protocol(7), and wait for its answer. `params` is
 * the text of a JSON object, or NULL; `fd` goes along unless it is negative. Returns the result as
 * JSON text; NULL when the method failed, or when no answer came in `timeout_ms` (negative: wait
 * for ever). Events that come meanwhile are kept for anima_machine_event.
 */
char *anima_machine_call(struct anima_machine *machine, const char *method, const char *params,
                         int fd, int timeout_ms, struct anima_error **error);

/**
 * The next event as JSON text, {"seq": N, "type": TYPE, ...}, waiting up to `timeout_ms` (negative:
 * for ever). NULL without an error when there was none. A connected (not started) machine sends
 * events after a call of "events.subscribe". When the connection has closed, NULL with an error.
 * Events that are not taken are kept up to a bound; what was lost beyond it is told by an event of
 * type "missed".
 */
char *anima_machine_event(struct anima_machine *machine, int timeout_ms,
                          struct anima_error **error);

/**
 * Change options of a machine that runs (`id` is NULL), or members of its disk or network card
 * `id`. `changes` is a list as for anima_definition_change. What cannot change while it runs is
 * refused before anything is touched. Where the machine's definition is kept, that changes with it,
 * unless the change is `temporary`.
 */
bool anima_machine_change(struct anima_machine *machine, const char *id, const char *const *changes,
                          bool temporary, struct anima_error **error);

/** How a machine ended. */
struct anima_end {
    int status;    /**< exit status for a command, as anima(1) lists them */
    char *cause;   /**< a word: "power-off", "exit", "crash", "killed", "failed" ... */
    char *message; /**< one phrase, or NULL */
};

/**
 * Wait for the machine's end; events before it are dropped. 1: ended, and *end is set (free cause
 * and message with anima_free); 0: not within `timeout_ms`; -1: the connection broke.
 */
int anima_machine_wait(struct anima_machine *machine, int timeout_ms, struct anima_end *end,
                       struct anima_error **error);

/** The running machines of this user, as a JSON list of their names. */
char *anima_machine_list(struct anima_error **error);

/**
 * All machines of this user, as a JSON list of objects in the order of their names. Each has
 * "name", "defined" (whether its definition is kept) and "state". One that runs has what its
 * "query" tells, or the state "silent" when it did not answer, or "restarting" when it has ended
 * and will be started again; the others are "off", or "faulty": then they have a "problem", since
 * their definition cannot be read. A defined one that is not faulty has what its definition says as
 * "cpus", "memory", "autostart", "start_order", "start_delay" and "stop_timeout".
 */
char *anima_inventory(struct anima_error **error);

/* ---- calls that are under way ---- */

struct anima_call;

/**
 * Call a method like anima_machine_call, but do not wait for the answer. NULL when it cannot be
 * sent. What does not fit into the connection now goes out when the library is next asked for
 * anything, for which anima_machine_fd becomes readable.
 */
struct anima_call *anima_machine_begin(struct anima_machine *machine, const char *method,
                                       const char *params, int fd, struct anima_error **error);

/**
 * A call begun on the machine that has been answered since; each is told of once. NULL when there
 * is none now. Never waits.
 */
struct anima_call *anima_machine_answered(struct anima_machine *machine);

/**
 * A descriptor to poll for reading: it is readable when anima_call_wait may find the answer, or
 * anima_call_progress something new, once it has looked. It belongs to the call.
 */
int anima_call_fd(const struct anima_call *call);

/** Wait up to `timeout_ms` (negative: for ever) for the answer; whether it has come. */
bool anima_call_wait(struct anima_call *call, int timeout_ms);

/** The result as JSON text. NULL when the method failed, and ANIMA_ERROR_STATE before the answer.
 */
char *anima_call_result(struct anima_call *call, struct anima_error **error);

/**
 * How far work that lasts is: `done` of `total` bytes or steps, never more. False when that is not
 * known (yet). Never waits.
 */
bool anima_call_progress(struct anima_call *call, uint64_t *done, uint64_t *total);

/**
 * Stop work that lasts; the call is then answered with ANIMA_ERROR_CANCELLED. False when it is
 * nothing that can be cancelled, or not any more, or when the machine did not answer in
 * `timeout_ms` (negative: wait for ever).
 */
bool anima_call_cancel(struct anima_call *call, int timeout_ms, struct anima_error **error);

/**
 * Forget the call, whose answer nobody wants (any more); the machine goes on with it. It may be
 * destroyed after its machine's handle. NULL is fine.
 */
void anima_call_destroy(struct anima_call *call);

/* ---- the host ---- */

/**
 * Examine this host: what machines need and what makes them faster or safer. Returns a JSON object:
 * "checks", a list of objects with "name", "about" (what is looked at), "level", "text" (how it is,
 * and what that means) and, where something can be done, "remedy" (a command, or what to write
 * where); and "runs", whether machines can run. The levels are "ok", "note" (machines do without
 * it), "problem" (something does not work) and "stop" (no machine runs).
 */
char *anima_doctor(struct anima_error **error);

/* ---- the program ---- */

/**
 * The path of anima-vmm: $ANIMA_LIBEXEC, where it was built, or where it was installed. For tools
 * that run one of its other roles.
 */
char *anima_vmm_path(struct anima_error **error);

#ifdef __cplusplus
}
#endif

#endif
