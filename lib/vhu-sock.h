/*
 * Copyright (c) 2026 The ovs-vhostuser Authors.
 *
 * Licensed under the Apache License, Version 2.0 (the "License");
 * you may not use this file except in compliance with the License.
 * You may obtain a copy of the License at:
 *
 *     http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS,
 * WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
 * See the License for the specific language governing permissions and
 * limitations under the License.
 */

#ifndef VHU_SOCK_H
#define VHU_SOCK_H 1

/* Unix domain sockets in the file system
 * ======================================
 *
 * What vhu-conn needs of the operating system: to connect to a socket and to
 * listen at one, at a path of any length, without ever waiting, and to say
 * in words why that did not work.
 *
 *
 * Reasons
 * -------
 *
 * A function that fails stores a phrase for an operator in '*reasonp', which
 * the caller must free.  It names the file or directory that is to blame with
 * its mode and owner.
 *
 *
 * Threads
 * -------
 *
 * Each object belongs to one thread. */

#include <stdbool.h>
#include <sys/types.h>

struct vhu_listener;

/* Connects to the stream socket at 'path'.  Returns 0 and stores a
 * nonblocking file descriptor in '*fdp', or returns a positive errno and
 * stores the reason in '*reasonp'. */
int vhu_sock_connect(const char *path, int *fdp, char **reasonp);

/* Listens at 'path'.  The socket appears there at once with permissions
 * 'mode' (by default, if 0, those that the umask gives) and owner 'uid' and
 * 'gid' (-1 to leave them).
 *
 * What is at 'path' already is replaced only if it is a socket that nobody
 * has open.  To find out does not disturb whoever has.
 *
 * Returns 0 and stores the new object in '*listenerp', or returns a positive
 * errno and stores the reason in '*reasonp'. */
int vhu_listener_open(const char *path, mode_t mode, uid_t uid, gid_t gid,
                      struct vhu_listener **listenerp, char **reasonp);

/* Gives the socket of 'listener' other permissions and another owner, with
 * arguments as for vhu_listener_open().  Returns 0, or a positive errno with
 * the reason in '*reasonp'. */
int vhu_listener_set_owner(struct vhu_listener *listener, mode_t mode,
                           uid_t uid, gid_t gid, char **reasonp);

/* Stops listening and removes the socket from its path, if what is there is
 * still the one that vhu_listener_open() made.  'listener' may be NULL.
 *
 * When the process exits, or dies of a signal that OVS handles, sockets that
 * are still open are removed in the same way. */
void vhu_listener_close(struct vhu_listener *listener);

/* Returns false if the socket was removed from the file system, so that
 * nobody can connect any more.  A socket that was moved to another path is
 * still there. */
bool vhu_listener_is_there(const struct vhu_listener *listener);

/* Accepts a connection.  Returns 0 and stores a nonblocking file descriptor in
 * '*fdp', or a positive errno: EAGAIN if nobody wants to connect. */
int vhu_listener_accept(struct vhu_listener *listener, int *fdp);

/* Arranges for poll_block() to wake up when somebody wants to connect. */
void vhu_listener_wait(const struct vhu_listener *listener);

#endif /* vhu-sock.h */
