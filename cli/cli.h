// SPDX-License-Identifier: Apache-2.0
/*
 * What the commands of `anima` share: the table of commands, the words of one, and messages.
 *
 * A command returns the program's exit status: 0 good, 1 failed, 2 wrong words; `run` has more.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "anima.h"

enum cli_status { CLI_GOOD = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_CRASHED = 3 };

#define CLI_MANY G_MAXUINT /* positional words: as many as one likes */

/* An option of a command that is not one of a machine's definition. */
struct cli_flag {
    const char *name;     /* without "--"; NULL ends the list */
    const char *argument; /* placeholder, or NULL when it takes none */
    const char *help;
};

/* Whose options a command takes beside its own; CLI_CLOUD: a machine's, and those of one out of a
 * cloud's image. */
enum cli_schema { CLI_NOBODY = false, CLI_MACHINE = true, CLI_NETWORK, CLI_CLOUD };

struct command {
    const char *name;
    const char *words; /* positional words, as usage shows them */
    const char *help;  /* one line */
    const struct cli_flag *flags;
    enum cli_schema definition; /* takes the options of such a definition too */
    unsigned least, most;       /* positional words */
    int (*run)(const struct command *command, int argc, char **argv);
};

/* Every command; ends with a NULL name. */
extern const struct command commands[];
const struct command *command_find(const char *name);
/* The option number `index` from 0 of those that the command takes for a definition; NULL after the
 * last. */
const struct anima_option *command_option_at(const struct command *command, unsigned index);

/* The words of one command, taken apart. */
struct cli_words {
    GPtrArray *plain;    /* of const char *: the positional words */
    GHashTable *flags;   /* flag's name to its value ("" for one that takes none) */
    GPtrArray *settings; /* of const char *: key, value, key, value ... for the definition */
    GPtrArray *cloud;    /* the same for a cloud's image */
};

/* Take the words apart; NULL after a message, or after help was asked for and printed: then *status
 * is what to exit with. */
struct cli_words *cli_words_parse(const struct command *command, int argc, char **argv,
                                  int *status);
void cli_words_free(struct cli_words *words);
typedef struct cli_words cli_words;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(cli_words, cli_words_free)
const char *cli_word(const struct cli_words *words, unsigned index);
/* The flag's value, or NULL when it was not given. */
const char *cli_flag(const struct cli_words *words, const char *name);

/* The value that the words give to the definition's option, the last one counts; or NULL. */
const char *cli_setting(const struct cli_words *words, const char *key);
/* Set in the definition what the words say; false after a message. */
bool cli_define(struct anima_definition *definition, const struct cli_words *words, int *status);

/* Give it what its guest wants, and say what that will miss. */
bool cli_fill(struct anima_definition *definition, struct anima_error **error);

/* Print "anima: MESSAGE" on standard error and return `status`. */
int cli_fail(int status, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* The same from a library's error, which is freed; the status follows from its code. */
int cli_fail_error(struct anima_error *error);
/* ...with the name of the machine, where there may be several, before the message. */
int cli_fail_machine(const char *name, struct anima_error *error);

/* Usage and options of one command, to standard output. */
void cli_print_help(const struct command *command);

/* For the commands that only call one method: connect to the machine of the first word, call, and
 * print the result as JSON if --json was given. */
int cli_call(const struct command *command, int argc, char **argv, const char *method);

/* So for those that show what the method says: `print` does it, or with --json the text as it is.
 */
int cli_show(const struct command *command, int argc, char **argv, const char *method,
             void (*print)(json_t *result));

extern const struct cli_flag cli_json_flag[]; /* only --json */

int command_attach(const struct command *command, int argc, char **argv);
int command_change(const struct command *command, int argc, char **argv);
int command_completion(const struct command *command, int argc, char **argv);
int command_create(const struct command *command, int argc, char **argv);
int command_delete(const struct command *command, int argc, char **argv);
int command_detach(const struct command *command, int argc, char **argv);
int command_doctor(const struct command *command, int argc, char **argv);
int command_edit(const struct command *command, int argc, char **argv);
int command_console(const struct command *command, int argc, char **argv);
int command_events(const struct command *command, int argc, char **argv);
int command_export(const struct command *command, int argc, char **argv);
int command_guest(const struct command *command, int argc, char **argv);
int command_help(const struct command *command, int argc, char **argv);
int command_import(const struct command *command, int argc, char **argv);
int command_kill(const struct command *command, int argc, char **argv);
int command_list(const struct command *command, int argc, char **argv);
int command_metrics(const struct command *command, int argc, char **argv);
int command_network(const struct command *command, int argc, char **argv);
int command_nmi(const struct command *command, int argc, char **argv);
int command_pause(const struct command *command, int argc, char **argv);
int command_query(const struct command *command, int argc, char **argv);
int command_reset(const struct command *command, int argc, char **argv);
int command_resume(const struct command *command, int argc, char **argv);
int command_run(const struct command *command, int argc, char **argv);
int command_show(const struct command *command, int argc, char **argv);
int command_ssh(const struct command *command, int argc, char **argv);
int command_start(const struct command *command, int argc, char **argv);
int command_state(const struct command *command, int argc, char **argv);
int command_stop(const struct command *command, int argc, char **argv);
int command_top(const struct command *command, int argc, char **argv);
int command_upgrade(const struct command *command, int argc, char **argv);
int command_version(const struct command *command, int argc, char **argv);

extern const struct cli_flag attach_flags[];
extern const struct cli_flag change_flags[];
extern const struct cli_flag delete_flags[];
extern const struct cli_flag detach_flags[];
extern const struct cli_flag import_flags[];
extern const struct cli_flag guest_flags[];
extern const struct cli_flag list_flags[];
extern const struct cli_flag show_flags[];
extern const struct cli_flag ssh_flags[];
extern const struct cli_flag start_flags[];
extern const struct cli_flag console_flags[];
extern const struct cli_flag events_flags[];
extern const struct cli_flag metrics_flags[];
extern const struct cli_flag network_flags[];
extern const struct cli_flag stop_flags[];
extern const struct cli_flag top_flags[];
extern const struct cli_flag upgrade_flags[];
extern const struct cli_flag version_flags[];
