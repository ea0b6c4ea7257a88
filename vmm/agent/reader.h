// SPDX-License-Identifier: Apache-2.0
/*
 * What a guest's agent sends, cut into lines and parsed: JSON, one object a line (the QEMU guest
 * agent's protocol). It is the guest's word, so all of it is bounded before the parser sees it:
 * the bytes of a line, how deep it is nested, how many values it has, and the bytes in which the
 * line that is awaited has to come.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AGENT_LINE_MAX   (8U << 20)        /* bytes, of what a command in the guest wrote */
#define AGENT_ANSWER_MAX (256U << 10)      /* bytes of any other answer */
#define AGENT_DEPTH_MAX  12                /* arrays and objects within each other */
#define AGENT_VALUES_MAX 16384             /* of one line */
#define AGENT_BYTES_MAX  (24U << 20)       /* until an answer is there, old ones included */
#define AGENT_SENTINEL   ((uint8_t)'\xff') /* before an answer: what came so far is void */

struct agent_reader {
    GByteArray *line; /* the one that has begun */
    size_t line_max;
    size_t left;    /* bytes that may still come */
    bool overflow;  /* the line is too long: the rest of it is passed over */
    bool delimited; /* a sentinel has come */
};

enum agent_piece {
    AGENT_PIECE_NONE,     /* all was taken, and no line is whole */
    AGENT_PIECE_LINE,     /* `line` is one, until agent_reader_next */
    AGENT_PIECE_TOO_LONG, /* the end of a line that was too long */
    AGENT_PIECE_TOO_MUCH, /* more came than there may be */
};

void agent_reader_init(struct agent_reader *reader);
void agent_reader_finish(struct agent_reader *reader);

/* Nothing of what has come counts; await a sentinel, and lines of up to `line_max`. */
void agent_reader_reset(struct agent_reader *reader, size_t line_max);

/* Take bytes up to the end of the next line; *data and *size then say what is left. */
enum agent_piece agent_reader_take(struct agent_reader *reader, const uint8_t **data, size_t *size);
/* Go on behind the line. */
void agent_reader_next(struct agent_reader *reader);

/* The object in a line, or NULL where it is none, or more than it may be. */
json_t *agent_parse(const uint8_t *line, size_t size);
