// SPDX-License-Identifier: Apache-2.0
/*
 * The host's list of resolvers (resolv.conf(5)), for helpers whose root folder holds nothing but a
 * copy of it: whenever it changes, the copies are written anew. The list is replaced rather than
 * written by the programs that keep it, so its folder is watched (inotify(7)), and that of the file
 * that it may be a link to.
 *
 * Everything runs on the default main context's thread.
 */
#pragma once

/* Keep up the copy that `fd` is open on, which is taken. Returns a number for resolvers_forget. */
unsigned resolvers_follow(int fd);

/* 0 is fine. */
void resolvers_forget(unsigned number);
