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

#include <config.h>

#include "vhu-sock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fatal-signal.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/list.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/thread.h"
#include "openvswitch/type-props.h"
#include "ovs-thread.h"
#include "random.h"
#include "util.h"

/* Connections that the kernel keeps for us until we accept them.  Others
 * wait in connect(). */
#define VHU_SOCK_BACKLOG 4

/* "/proc/self/fd/" and a number. */
#define VHU_SOCK_PROC_LEN (sizeof "/proc/self/fd/" + INT_STRLEN(int))

struct vhu_listener {
    struct ovs_list node;       /* In 'listeners'. */
    char *path;
    int fd;                     /* Listens. */
    int file_fd;                /* O_PATH of the socket in the file system.
                                 * While it is open no other file gets the
                                 * same inode number. */
    dev_t dev;
    ino_t ino;

    /* What the operating system gave to it. */
    mode_t default_mode;
    uid_t default_uid;
    gid_t default_gid;
};

/* What vhu_listener_open() works on, one member a step. */
struct vhu_bind {
    const char *path;
    char *dir, *base;           /* The two parts of 'path'. */
    int dir_fd;                 /* O_PATH of 'dir'. */
    char tmp[64];               /* Name in 'dir' until all is ready. */
    bool has_tmp;               /* Is there a file at 'tmp'? */
    bool has_stale;             /* Is there one to replace at 'base'? */
};

/* For the hook that runs when the process exits. */
static struct ovs_mutex listeners_mutex = OVS_MUTEX_INITIALIZER;
static struct ovs_list listeners OVS_GUARDED_BY(listeners_mutex)
    = OVS_LIST_INITIALIZER(&listeners);
static bool exiting OVS_GUARDED_BY(listeners_mutex);

static int vhu_listener_open__(struct vhu_listener *, struct vhu_bind *,
                               mode_t, uid_t, gid_t, char **reasonp);
static bool vhu_listener_register(struct vhu_listener *);
static void vhu_listener_unlink(const struct vhu_listener *);
static void vhu_listener_free(struct vhu_listener *);

static int vhu_sock_make_addr(const char *path, struct sockaddr_un *,
                              socklen_t *, int *file_fdp);
static socklen_t vhu_sock_addr_len(const struct sockaddr_un *);
static char *vhu_sock_explain_connect(const char *path, int error);
static char *vhu_sock_explain_permission(const char *what, const char *path);
static char *vhu_sock_explain_chown(const char *path, uid_t, gid_t,
                                    int error);
static void vhu_sock_put_owner(struct ds *, uid_t, gid_t);
static void vhu_sock_put_id(struct ds *, const char *file, uintmax_t id);

static int vhu_bind_open_dir(struct vhu_bind *, char **reasonp);
static int vhu_bind_check_old(struct vhu_bind *, uid_t, char **reasonp);
static int vhu_bind_make(struct vhu_bind *, int fd, char **reasonp);
static int vhu_listener_set_owner__(struct vhu_listener *, mode_t, uid_t,
                                    gid_t, char **reasonp);
static int vhu_bind_set_owner(struct vhu_bind *, struct vhu_listener *,
                              mode_t, uid_t, gid_t, char **reasonp);
static int vhu_bind_rename(struct vhu_bind *, char **reasonp);
static void vhu_bind_uninit(struct vhu_bind *);
static char *vhu_bind_explain_permission(const struct vhu_bind *);

int
vhu_sock_connect(const char *path, int *fdp, char **reasonp)
{
    struct sockaddr_un un;
    socklen_t un_len;
    int file_fd = -1;
    int error = 0;
    int fd;

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        error = errno;
        *reasonp = xasprintf("cannot make a socket: %s", ovs_strerror(error));
        return error;
    }

    error = vhu_sock_make_addr(path, &un, &un_len, &file_fd);
    if (!error && connect(fd, (struct sockaddr *) &un, un_len)) {
        error = errno;
    }
    if (file_fd >= 0) {
        close(file_fd);
    }
    if (error) {
        close(fd);
        *reasonp = vhu_sock_explain_connect(path, error);
        return error;
    }

    *fdp = fd;
    return 0;
}

int
vhu_listener_open(const char *path, mode_t mode, uid_t uid, gid_t gid,
                  struct vhu_listener **listenerp, char **reasonp)
{
    struct vhu_bind b = { .path = path, .dir_fd = -1 };
    struct vhu_listener *listener = xzalloc(sizeof *listener);
    int error;

    listener->path = xstrdup(path);
    listener->fd = -1;
    listener->file_fd = -1;
    error = vhu_listener_open__(listener, &b, mode, uid, gid, reasonp);
    vhu_bind_uninit(&b);
    if (!error && !vhu_listener_register(listener)) {
        vhu_listener_unlink(listener);
        *reasonp = xstrdup("the switch is about to exit");
        error = ECANCELED;
    }
    if (error) {
        vhu_listener_free(listener);
        listener = NULL;
    }
    *listenerp = listener;
    return error;
}

static int
vhu_listener_open__(struct vhu_listener *listener, struct vhu_bind *b,
                    mode_t mode, uid_t uid, gid_t gid, char **reasonp)
{
    int error;

    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                          0);
    if (listener->fd < 0) {
        error = errno;
        *reasonp = xasprintf("cannot make a socket: %s", ovs_strerror(error));
        return error;
    }

    error = vhu_bind_open_dir(b, reasonp);
    if (!error) {
        error = vhu_bind_check_old(b, uid, reasonp);
    }
    if (!error) {
        error = vhu_bind_make(b, listener->fd, reasonp);
    }
    if (!error) {
        error = vhu_bind_set_owner(b, listener, mode, uid, gid, reasonp);
    }

    /* Nobody must find a socket that does not listen yet. */
    if (!error && listen(listener->fd, VHU_SOCK_BACKLOG)) {
        error = errno;
        *reasonp = xasprintf("cannot listen at %s: %s", b->path,
                             ovs_strerror(error));
    }
    if (!error) {
        error = vhu_bind_rename(b, reasonp);
    }
    return error;
}

int
vhu_listener_set_owner(struct vhu_listener *listener, mode_t mode, uid_t uid,
                       gid_t gid, char **reasonp)
{
    return vhu_listener_set_owner__(
        listener, mode ? mode : listener->default_mode,
        uid != (uid_t) -1 ? uid : listener->default_uid,
        gid != (gid_t) -1 ? gid : listener->default_gid, reasonp);
}

void
vhu_listener_close(struct vhu_listener *listener)
{
    if (listener) {
        ovs_mutex_lock(&listeners_mutex);
        ovs_list_remove(&listener->node);
        ovs_mutex_unlock(&listeners_mutex);

        vhu_listener_unlink(listener);
        vhu_listener_free(listener);
    }
}

static void
vhu_listener_free(struct vhu_listener *listener)
{
    if (listener->file_fd >= 0) {
        close(listener->file_fd);
    }
    if (listener->fd >= 0) {
        close(listener->fd);
    }
    free(listener->path);
    free(listener);
}

bool
vhu_listener_is_there(const struct vhu_listener *listener)
{
    struct stat st;

    return !fstat(listener->file_fd, &st) && st.st_nlink > 0;
}

int
vhu_listener_accept(struct vhu_listener *listener, int *fdp)
{
    do {
        *fdp = accept4(listener->fd, NULL, NULL,
                       SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (*fdp < 0 && (errno == EINTR || errno == ECONNABORTED));

    return *fdp < 0 ? errno : 0;
}

void
vhu_listener_wait(const struct vhu_listener *listener)
{
    poll_fd_wait(listener->fd, POLLIN);
}

/* Addresses. */

/* Stores the address of the socket at 'path', of any length, in '*un' and its
 * length in '*un_len'.  If that takes a file descriptor, stores it in
 * '*file_fdp'; the caller must close it after it has used the address.
 * Returns 0 or a positive errno. */
static int
vhu_sock_make_addr(const char *path, struct sockaddr_un *un,
                   socklen_t *un_len, int *file_fdp)
{
    memset(un, 0, sizeof *un);
    un->sun_family = AF_UNIX;
    if (strlen(path) < sizeof un->sun_path) {
        ovs_strlcpy(un->sun_path, path, sizeof un->sun_path);
    } else {
        *file_fdp = open(path, O_PATH | O_CLOEXEC);
        if (*file_fdp < 0) {
            return errno;
        }
        snprintf(un->sun_path, sizeof un->sun_path, "/proc/self/fd/%d",
                 *file_fdp);
    }
    *un_len = vhu_sock_addr_len(un);
    return 0;
}

static socklen_t
vhu_sock_addr_len(const struct sockaddr_un *un)
{
    return offsetof(struct sockaddr_un, sun_path) + strlen(un->sun_path) + 1;
}

/* Reasons in words. */

/* Returns why connect() to 'path' failed with 'error'. */
static char *
vhu_sock_explain_connect(const char *path, int error)
{
    struct stat st;

    switch (error) {
    case ENOENT: {
        char *dir = dir_name(path);
        char *reason = (stat(dir, &st) && errno == ENOENT
                        ? xasprintf("nobody listens at %s (directory %s "
                                    "does not exist)", path, dir)
                        : xasprintf("nobody listens at %s (no such file)",
                                    path));
        free(dir);
        return reason;
    }

    case ECONNREFUSED:
        return (!stat(path, &st) && !S_ISSOCK(st.st_mode)
                ? xasprintf("%s exists and is not a socket", path)
                : xasprintf("nobody listens at %s (connection refused)",
                            path));

    case EACCES:
    case EPERM: {
        char *why = vhu_sock_explain_permission("socket", path);
        char *reason = xasprintf("connect to %s: permission denied (%s)",
                                 path, why);
        free(why);
        return reason;
    }

    case EAGAIN:
        return xasprintf("connect to %s: too many connections wait there to "
                         "be accepted", path);

    case EPROTOTYPE:
        return xasprintf("%s is not a stream socket", path);

    default:
        return xasprintf("connect to %s: %s", path, ovs_strerror(error));
    }
}

/* Returns which directory on the way to 'path' we may not search, or else
 * that we may not write 'what', which is at 'path', or else where to look for
 * a reason that is not in the file system. */
static char *
vhu_sock_explain_permission(const char *what, const char *path)
{
    struct ds ds = DS_EMPTY_INITIALIZER;
    char *dir = xstrdup(path);
    struct stat st;
    char *p;

    for (p = strchr(dir + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = '\0';
        if (faccessat(AT_FDCWD, dir, X_OK, AT_EACCESS) && !stat(dir, &st)) {
            ds_put_format(&ds, "directory %s", dir);
            break;
        }
        *p = '/';
    }
    if (!p && faccessat(AT_FDCWD, path, W_OK, AT_EACCESS)
        && !stat(path, &st)) {
        ds_put_cstr(&ds, what);
    }

    if (ds.length) {
        ds_put_format(&ds, " is %04o ", st.st_mode & 07777);
        vhu_sock_put_owner(&ds, st.st_uid, st.st_gid);
    } else {
        ds_put_cstr(&ds, "owner and mode permit it, perhaps SELinux or "
                    "AppArmor does not");
    }
    ds_put_cstr(&ds, ", we are ");
    vhu_sock_put_owner(&ds, geteuid(), getegid());
    free(dir);
    return ds_steal_cstr(&ds);
}

/* Returns why fchown() of 'path' to 'uid' and 'gid' failed with 'error'.
 * Without privileges there is only the choice between our groups; and Open
 * vSwitch, changing to another user, leaves itself just one. */
static char *
vhu_sock_explain_chown(const char *path, uid_t uid, gid_t gid, int error)
{
    struct ds ds = DS_EMPTY_INITIALIZER;

    ds_put_format(&ds, "cannot give %s to ", path);
    vhu_sock_put_owner(&ds, uid, gid);
    ds_put_format(&ds, ": %s", ovs_strerror(error));
    if (error == EPERM) {
        ds_put_cstr(&ds, " (we are ");
        vhu_sock_put_owner(&ds, geteuid(), getegid());
        ds_put_cstr(&ds, ", not root: only a group that we are in is "
                    "possible)");
    }
    return ds_steal_cstr(&ds);
}

/* Appends "USER:GROUP" to 'ds', without what is -1. */
static void
vhu_sock_put_owner(struct ds *ds, uid_t uid, gid_t gid)
{
    if (uid != (uid_t) -1) {
        vhu_sock_put_id(ds, "/etc/passwd", uid);
    }
    if (gid != (gid_t) -1) {
        ds_put_char(ds, ':');
        vhu_sock_put_id(ds, "/etc/group", gid);
    }
}

/* Appends to 'ds' the name that 'file', which is /etc/passwd or /etc/group,
 * has for 'id', or the number.
 *
 * getpwuid() would ask the network where users are kept there, and the caller
 * cannot wait for that. */
static void
vhu_sock_put_id(struct ds *ds, const char *file, uintmax_t id)
{
    FILE *stream = fopen(file, "re");
    bool found = false;
    char line[1024];

    while (stream && !found && fgets(line, sizeof line, stream)) {
        char *save_ptr = NULL;
        const char *name = strtok_r(line, ":", &save_ptr);
        const char *password = strtok_r(NULL, ":", &save_ptr);
        const char *number = strtok_r(NULL, ":", &save_ptr);

        if (name && password && number && strtoumax(number, NULL, 10) == id) {
            ds_put_cstr(ds, name);
            found = true;
        }
    }
    if (!found) {
        ds_put_format(ds, "%"PRIuMAX, id);
    }
    if (stream) {
        fclose(stream);
    }
}

/* The steps of vhu_listener_open(). */

static int
vhu_bind_open_dir(struct vhu_bind *b, char **reasonp)
{
    int error;

    b->dir = dir_name(b->path);
    b->base = base_name(b->path);
    b->dir_fd = open(b->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (b->dir_fd >= 0) {
        return 0;
    }

    error = errno;
    if (error == EACCES) {
        *reasonp = vhu_bind_explain_permission(b);
    } else {
        *reasonp = xasprintf("cannot listen at %s: directory %s: %s",
                             b->path, b->dir, ovs_strerror(error));
    }
    return error;
}

/* Checks that there is nothing at the path, or a socket that nobody has open
 * and that an earlier process of ours left: it belongs to our user, or to
 * 'uid', the one that we give our sockets to.
 *
 * Connecting a datagram socket tells which: the kernel refuses the connection
 * (ECONNREFUSED) if no socket is bound to the file, and complains about its
 * type (EPROTOTYPE) if a stream socket is, without its owner noticing. */
static int
vhu_bind_check_old(struct vhu_bind *b, uid_t uid, char **reasonp)
{
    struct sockaddr_un un;
    socklen_t un_len;
    struct stat st;
    int file_fd = -1;
    int error;
    int fd;

    if (fstatat(b->dir_fd, b->base, &st, AT_SYMLINK_NOFOLLOW)) {
        if (errno == ENOENT) {
            return 0;
        }
        error = errno;
        *reasonp = (error == EACCES
                    ? vhu_bind_explain_permission(b)
                    : xasprintf("cannot listen at %s: %s", b->path,
                                ovs_strerror(error)));
        return error;
    }
    if (!S_ISSOCK(st.st_mode)) {
        *reasonp = xasprintf("cannot listen at %s: exists and is not a "
                             "socket", b->path);
        return EEXIST;
    }

    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        error = errno;
    } else {
        error = vhu_sock_make_addr(b->path, &un, &un_len, &file_fd);
        if (!error) {
            error = connect(fd, (struct sockaddr *) &un, un_len) ? errno : 0;
        }
        close(fd);
    }
    if (file_fd >= 0) {
        close(file_fd);
    }

    if (error == ECONNREFUSED) {
        if (st.st_uid != geteuid() && st.st_uid != uid) {
            *reasonp = xasprintf("cannot listen at %s: the stale socket there "
                                 "belongs to user %u, not to us",
                                 b->path, (unsigned int) st.st_uid);
            return EPERM;
        }
        b->has_stale = true;
        return 0;
    } else if (!error || error == EPROTOTYPE) {
        *reasonp = xasprintf("cannot listen at %s: in use, somebody listens "
                             "there already", b->path);
        return EADDRINUSE;
    } else {
        *reasonp = xasprintf("cannot listen at %s: cannot find out whether "
                             "the socket there is in use: %s", b->path,
                             ovs_strerror(error));
        return error;
    }
}

/* Binds 'fd' to a temporary name, which tools that show sockets go on
 * showing, so it resembles the real one. */
static int
vhu_bind_make(struct vhu_bind *b, int fd, char **reasonp)
{
    struct sockaddr_un un;
    socklen_t un_len;
    int error;
    int n;

    memset(&un, 0, sizeof un);
    un.sun_family = AF_UNIX;
    snprintf(b->tmp, sizeof b->tmp, ".%.32s.%08"PRIx32,
             b->base, random_uint32());
    n = snprintf(un.sun_path, sizeof un.sun_path, "%s/%s",
                 b->dir, b->tmp);
    if (n >= sizeof un.sun_path) {
        snprintf(un.sun_path, sizeof un.sun_path, "/proc/self/fd/%d/%s",
                 b->dir_fd, b->tmp);
    }
    un_len = vhu_sock_addr_len(&un);

    if (!bind(fd, (struct sockaddr *) &un, un_len)) {
        b->has_tmp = true;
        return 0;
    }

    error = errno;
    if (error == EACCES) {
        *reasonp = vhu_bind_explain_permission(b);
    } else {
        *reasonp = xasprintf("cannot make a socket in %s: %s", b->dir,
                             ovs_strerror(error));
    }
    return error;
}

/* Opens the new socket as a file, and gives it its owner and permissions. */
static int
vhu_bind_set_owner(struct vhu_bind *b, struct vhu_listener *listener,
                   mode_t mode, uid_t uid, gid_t gid, char **reasonp)
{
    struct stat st;
    int error;

    listener->file_fd = openat(b->dir_fd, b->tmp,
                               O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (listener->file_fd < 0 || fstat(listener->file_fd, &st)) {
        error = errno;
        *reasonp = xasprintf("cannot open the new socket for %s: %s",
                             b->path, ovs_strerror(error));
        return error;
    }
    listener->dev = st.st_dev;
    listener->ino = st.st_ino;
    listener->default_mode = st.st_mode & 0777;
    listener->default_uid = st.st_uid;
    listener->default_gid = st.st_gid;
    return vhu_listener_set_owner__(listener, mode, uid, gid, reasonp);
}

/* Like vhu_listener_set_owner(), but what is not given stays as it is. */
static int
vhu_listener_set_owner__(struct vhu_listener *listener, mode_t mode,
                         uid_t uid, gid_t gid, char **reasonp)
{
    char proc[VHU_SOCK_PROC_LEN];
    int error;

    if ((uid != (uid_t) -1 || gid != (gid_t) -1)
        && fchownat(listener->file_fd, "", uid, gid, AT_EMPTY_PATH)) {
        error = errno;
        *reasonp = vhu_sock_explain_chown(listener->path, uid, gid, error);
        return error;
    }

    /* Through the file descriptor, so that it cannot hit another file. */
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", listener->file_fd);
    if (mode && chmod(proc, mode)) {
        error = errno;
        *reasonp = xasprintf("cannot set the mode of %s to %04o: %s",
                             listener->path, (unsigned int) mode,
                             ovs_strerror(error));
        return error;
    }
    return 0;
}

/* Gives the socket its real name, in the place of a stale one. */
static int
vhu_bind_rename(struct vhu_bind *b, char **reasonp)
{
    int error;

    if (b->has_stale) {
        unlinkat(b->dir_fd, b->base, 0);
    }
    error = (renameat2(b->dir_fd, b->tmp, b->dir_fd, b->base,
                       RENAME_NOREPLACE)
             ? errno : 0);
    if (error == EINVAL || error == ENOSYS) {
        /* The file system cannot do that. */
        error = (renameat(b->dir_fd, b->tmp, b->dir_fd, b->base)
                 ? errno : 0);
    }
    if (error) {
        *reasonp = xasprintf("cannot listen at %s: %s", b->path,
                             ovs_strerror(error));
        return error;
    }
    b->has_tmp = false;
    return 0;
}

static void
vhu_bind_uninit(struct vhu_bind *b)
{
    if (b->has_tmp) {
        unlinkat(b->dir_fd, b->tmp, 0);
    }
    if (b->dir_fd >= 0) {
        close(b->dir_fd);
    }
    free(b->dir);
    free(b->base);
}

/* Returns the reason for an EACCES in the directory of 'bind'. */
static char *
vhu_bind_explain_permission(const struct vhu_bind *b)
{
    char *what = xasprintf("directory %s", b->dir);
    char *why = vhu_sock_explain_permission(what, b->dir);
    char *reason = xasprintf("cannot listen at %s: permission denied (%s)",
                             b->path, why);

    free(what);
    free(why);
    return reason;
}

/* Removal when the process exits.
 *
 * OVS can remove files by name when it exits, but we must not remove a file
 * that somebody else has put in the place of ours. */

static void
vhu_listener_exit_hook(void *aux OVS_UNUSED)
{
    const struct vhu_listener *listener;

    ovs_mutex_lock(&listeners_mutex);
    exiting = true;
    LIST_FOR_EACH (listener, node, &listeners) {
        vhu_listener_unlink(listener);
    }
    ovs_mutex_unlock(&listeners_mutex);
}

/* Adds 'listener' to those that are removed at exit.  Returns false if that
 * has happened already. */
static bool
vhu_listener_register(struct vhu_listener *listener)
{
    static struct ovsthread_once once = OVSTHREAD_ONCE_INITIALIZER;
    bool ok;

    if (ovsthread_once_start(&once)) {
        fatal_signal_add_hook(vhu_listener_exit_hook, NULL, NULL, true);
        ovsthread_once_done(&once);
    }

    ovs_mutex_lock(&listeners_mutex);
    ok = !exiting;
    if (ok) {
        ovs_list_push_back(&listeners, &listener->node);
    }
    ovs_mutex_unlock(&listeners_mutex);
    return ok;
}

static void
vhu_listener_unlink(const struct vhu_listener *listener)
{
    struct stat st;

    if (!lstat(listener->path, &st)
        && st.st_dev == listener->dev && st.st_ino == listener->ino) {
        unlink(listener->path);
    }
}
