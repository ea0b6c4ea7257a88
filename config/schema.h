// SPDX-License-Identifier: Apache-2.0
/*
 * The schema of a machine's definition: one table that describes every option.
 *
 * The parsers of the command line, of vm.yaml and of JSON, the messages, --help, the manual's
 * option section and the shell completion all come from this table. An option is added to options.c
 * and read by its id; nothing else has to change. An option of type GROUP has members, which are
 * described by a table of the same form.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Errors of config/, by who has to act. The command line exits with 2 for USAGE, 1 for FAILED. */
#define CONFIG_ERROR config_error_quark()
GQuark config_error_quark(void);
enum config_error {
    CONFIG_ERROR_USAGE,  /* the words of the definition are wrong */
    CONFIG_ERROR_FAILED, /* they are right, but the host or a file does not play along */
    CONFIG_ERROR_ABSENT, /* there is no such machine */
    CONFIG_ERROR_STATE,  /* not as things are now: it is there already, it has changed meanwhile */
};

enum option_type {
    OPTION_TYPE_STRING, /* any text without control characters */
    OPTION_TYPE_BOOL,   /* true or false */
    OPTION_TYPE_INT,    /* a whole number */
    OPTION_TYPE_SIZE,   /* bytes, with a suffix K, M, G or T (powers of 1024) */
    OPTION_TYPE_ENUM,   /* one of `choices`; a choice that ends in '=' takes a text after it */
    OPTION_TYPE_PATH,   /* a file's name; in vm.yaml relative to that file's folder */
    OPTION_TYPE_GROUP,  /* an entry with `members`: "FILE,readonly,serial=S"; always a list */
};

/* Whether an option can change while the machine runs. */
enum option_live {
    OPTION_LIVE_NEVER, /* the guest, or what runs it, was made with it */
    OPTION_LIVE,       /* it changes what runs */
    OPTION_LIVE_KEPT,  /* what runs does not depend on it: it is looked up in vm.yaml */
};

/* Ids of the options, in the order in which help lists them. */
enum option_id {
    OPTION_MACHINE,
    OPTION_NAME,
    OPTION_OS,
    OPTION_ENGINE,
    OPTION_CPU,
    OPTION_CPUS,
    OPTION_MEMORY,
    OPTION_KERNEL,
    OPTION_INITRD,
    OPTION_MODULE,
    OPTION_APPEND,
    OPTION_DISK,
    OPTION_SERIAL,
    OPTION_CONSOLE,
    OPTION_PORT,
    OPTION_AGENT,
    OPTION_NIC,
    OPTION_DEVICE,
    OPTION_RNG_RATE,
    OPTION_CPU_LIMIT,
    OPTION_CPU_WEIGHT,
    OPTION_MEMORY_LIMIT,
    OPTION_ON_REBOOT,
    OPTION_ON_CRASH,
    OPTION_RESTART,
    OPTION_STOP_TIMEOUT,
    OPTION_AUTOSTART,
    OPTION_START_ORDER,
    OPTION_START_DELAY,
    OPTION_SSH_USER,
    OPTION_SSH_IDENTITY,
    OPTION_STATE,
    OPTION_PAUSED,
    OPTION_GDB,
    OPTION_COUNT,
};

struct option {
    const char *key; /* in vm.yaml and JSON; on the command line with "--" before it */
    enum option_type type;
    bool list;                  /* may be given several times; a sequence in vm.yaml; of texts */
    char separator;             /* of several entries in one text of a list; 0: none */
    const char *argument;       /* placeholder in help: "SIZE" */
    const char *preset;         /* default, as text; NULL: unset */
    uint64_t min, max, align;   /* INT and SIZE; align 0: any */
    const char *const *choices; /* ENUM: NULL-terminated */
    bool choice_is_path;        /* ENUM: what follows '=' is the name of a file, as of a PATH */
    /* GROUP: a table of its own, none of a GROUP, ended by a row without key. The first member's
     * key may be left out on the command line. */
    const struct option *members;
    bool required;         /* of a member: every entry has it */
    enum option_live live; /* of a GROUP: its members say */
    /* A further check of a text; false sets `error` to a phrase that does not name the key. */
    bool (*check)(const char *text, GError **error);
    const char *help;   /* one line */
    const char *manual; /* further sentences for the manual, or NULL */
};

/* The table, indexed by enum option_id and ended by a row without key. */
extern const struct option options[OPTION_COUNT + 1];

/* The rows of a table before the one without key. */
unsigned options_count(const struct option *table);

/* The option called `key`, or NULL. */
const struct option *option_find(const char *key);
/* The row called `key` of a table, or NULL. */
const struct option *option_find_in(const struct option *table, const char *key);

/* Say that `table` has no row called `key`, and which is the nearest. Always false. */
bool option_unknown(const struct option *table, const char *key, GError **error);

/* The known key nearest to `word` by edit distance, or NULL when none is near. Static. */
const char *option_nearest(const char *word);

/* The entry of the NULL-terminated `words` nearest to `word`, or NULL when none is near. */
const char *word_nearest(const char *word, const char *const *words);

/* A value of one entry, by the option's type. */
struct option_value {
    uint64_t number; /* BOOL, INT, SIZE */
    char *text;      /* the others but GROUP; owned */
};

/* Read `text` as one entry of `option`, which is no GROUP. False sets CONFIG_ERROR_USAGE and a
 * phrase that begins after the key: "expected a size such as 512M, not 'much'". */
bool option_parse(const struct option *option, const char *text, struct option_value *value,
                  GError **error);

/* Check a number against the option's range. The same phrases as option_parse. */
bool option_check_number(const struct option *option, uint64_t number, GError **error);

/* What the option wants, for messages: "a size such as 512M". Static. */
const char *option_wants(const struct option *option);

/* `bytes` as people write it: "512M", or "1000 bytes". The caller frees it. */
char *size_format(uint64_t bytes);

/* A user's words for a message: on one line, what cannot be printed as '?', cut when long. The
 * caller frees it. */
char *text_show(const char *text);
/* The same of a sentence, cut behind `most` characters. */
char *text_line(const char *text, unsigned most);
/* Refuse a value: "expected ..., not 'TEXT'", where `expected` is a format. false. */
bool text_refuse(const char *text, GError **error, const char *expected, ...) G_GNUC_PRINTF(3, 4);
