// SPDX-License-Identifier: Apache-2.0
/*
 * The way from this host to a TCP port of a running machine's guest.
 */
#pragma once

#include "cli/cli.h"

/* How far the search came. */
enum way_found {
    WAY_NONE,  /* there is none, and will be none by itself: `remedy` tells what makes one */
    WAY_LATER, /* the guest has not told its address yet */
    WAY_HERE,  /* host and port are set */
};

struct way {
    const char *name;  /* the machine's */
    unsigned port;     /* of the guest */
    char *host, *dial; /* address and port, as text, that this host dials */
    char *mac;         /* the card's that must be behind that address; NULL: no matter */
    char *remedy;
};

void way_finish(struct way *way);

/* Look for the way: a forward of the machine's own, one of its network's, or the guest's address
 * where this host has a cable to it. WAY_NONE with `error` when the machine does not answer. */
enum way_found way_find(struct way *way, struct anima_machine *machine, struct anima_error **error);

/* A connection along the way, on which everything takes up to `seconds`; -1: nobody takes it now,
 * or it is not the machine who does. */
int way_dial(const struct way *way, unsigned seconds);
