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

#include "vhu-conn.h"

#undef NDEBUG

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "timeval.h"
#include "util.h"
#include "vhu-peer.h"
#include "vhutest.h"

/* What the role closes itself. */
static void
test_disconnect(void)
{
    int peer;
    struct vhu_conn *conn = make_pair(NULL, &peer);

    assert(vhu_conn_get_n_connects(conn) == 1);
    vhu_conn_disconnect(conn, "protocol error: bad SET_VRING_NUM");
    vhu_conn_disconnect(conn, "something else");
    print_reason(conn);
    assert(peer_is_closed(peer));
    assert(vhu_conn_get_seqno(conn) == 2);
    expect_error(conn, ENOTCONN);
    drive(conn, 100, is_up);
    assert(!vhu_conn_is_connected(conn));
    vhu_conn_destroy(conn);
    vhu_conn_destroy(NULL);
    close(peer);
}

/* Client. */

/* Lets a new client for 'path' make its first attempt and prints how that
 * went. */
static void
try_client(const char *path)
{
    struct vhu_conn *conn = make_client(path);

    vhu_conn_run(conn);
    print_reason(conn);
    vhu_conn_destroy(conn);
}

/* Each reason in words. */
static void
test_client_reasons(void)
{
    struct vhu_conn *conn;
    int fd, queued[80];
    size_t n = 0;

    conn = make_client(SOCK);
    print_reason(conn);
    vhu_conn_destroy(conn);
    try_client(SOCK);
    try_client("dir/" SOCK);

    fd = peer_listen(SOCK);
    try_client(SOCK);
    for (;;) {
        queued[n] = peer_connect(SOCK);
        if (queued[n] == -EAGAIN) {
            break;
        }
        assert(queued[n] >= 0);
        n++;
    }
    try_client(SOCK);
    while (n > 0) {
        close(queued[--n]);
    }
    close(fd);
    try_client(SOCK);
    unlink(SOCK);

    fd = open(SOCK, O_CREAT | O_RDWR, 0644);
    try_client(SOCK);
    close(fd);
    try_client(SOCK "/x");
    unlink(SOCK);

    assert(!mkdir(SOCK, 0755));
    try_client(SOCK);
    rmdir(SOCK);

    fd = peer_bind(SOCK_DGRAM, SOCK);
    try_client(SOCK);
    close(fd);
    unlink(SOCK);

    assert(!symlink(SOCK, SOCK));
    try_client(SOCK);
    unlink(SOCK);

    limit_fds(0);
    try_client(SOCK);
    unlimit_fds();
}

/* Permission refused by the socket and by directories.  Needs root, to be
 * somebody else. */
static void
test_permissions(void)
{
    int fd;

    assert(!mkdir("a", 0755) && !mkdir("a/b", 0755));
    fd = peer_listen("a/b/" SOCK);
    assert(!chmod("a/b/" SOCK, 0755));
    assert(!chown("a/b/" SOCK, 0, 54321));

    assert(!seteuid(65534));
    try_client("a/b/" SOCK);
    assert(!seteuid(0));

    assert(!chmod("a/b/" SOCK, 0777));
    assert(!seteuid(65534));
    try_client("a/b/" SOCK);
    assert(!seteuid(0));

    assert(!chmod("a", 0700));
    assert(!seteuid(65534));
    try_client("a/b/" SOCK);
    try_client("a/b/nothing");
    assert(!seteuid(0));

    /* A server that may not make its socket. */
    struct vhu_conn *conn = make_server("a/" SOCK);
    assert(!chmod("a", 0755));
    assert(!seteuid(65534));
    vhu_conn_run(conn);
    print_reason(conn);
    assert(!chdir("a"));
    vhu_conn_destroy(conn);

    conn = make_server("b/" SOCK);
    vhu_conn_run(conn);
    print_reason(conn);
    vhu_conn_destroy(conn);

    assert(!seteuid(0));
    assert(!chmod("b", 0700));
    assert(!seteuid(65534));
    conn = make_server("b/" SOCK);
    vhu_conn_run(conn);
    print_reason(conn);
    vhu_conn_destroy(conn);
    assert(!seteuid(0));
    close(fd);
}

/* A child process that serves 'path' after 'ms' milliseconds, after it has
 * made the directory 'dir' if that is nonnull.  The socket listens some time
 * after it has appeared. */
static pid_t
serve_later(const char *path, const char *dir, int ms)
{
    pid_t pid = fork();

    assert(pid >= 0);
    if (!pid) {
        int fd;

        usleep(ms * 1000);
        if (dir) {
            char *command = xasprintf("mkdir -p %s", dir);
            assert(!system(command));
        }
        fd = peer_bind(SOCK_STREAM, path);
        usleep(5000);
        assert(!listen(fd, 5));
        pause();
        _exit(0);
    }
    return pid;
}

static void
stop(pid_t pid)
{
    kill(pid, SIGKILL);
    assert(waitpid(pid, NULL, 0) == pid);
}

/* Drives 'conn', which does not wait for anything but its next attempt, until
 * just after that. */
static int n_runs;

static bool
is_second_run(struct vhu_conn *conn OVS_UNUSED)
{
    return n_runs++ > 0;
}

static void
drive_until_attempt(struct vhu_conn *conn)
{
    n_runs = 0;
    drive(conn, 2000, is_second_run);
}

/* The socket appears, with its directories or without, when the back-off has
 * reached its maximum.  HZ-22, R-01. */
static void
test_client_appears(void)
{
    struct vhu_conn *conn = make_client("x/y/z/" SOCK);
    struct tally tally;
    pid_t pid;

    /* While nothing happens, one attempt a second, and no more wakeups. */
    drive(conn, 2500, NULL);
    tally = drive(conn, 2000, is_up);
    assert(tally.n_wakeups <= 4);

    drive_until_attempt(conn);
    pid = serve_later("x/y/z/" SOCK, "x/y/z", 10);
    tally = drive(conn, 5000, is_up);
    assert(vhu_conn_is_connected(conn));
    printf("appears with directories: %s\n",
           tally.elapsed < 10 + 300 ? "at once" : "late");
    stop(pid);
    drive(conn, 2500, is_down);
    assert(!vhu_conn_is_connected(conn));

    /* The same again, by removing the stale socket, also within a directory
     * that has files come and go. */
    drive(conn, 2500, is_up);
    print_reason(conn);
    assert(!unlink("x/y/z/" SOCK));
    drive(conn, 2500, is_up);
    drive_until_attempt(conn);
    pid = serve_later("x/y/z/" SOCK, NULL, 10);
    tally = drive(conn, 5000, is_up);
    assert(vhu_conn_is_connected(conn));
    printf("appears: %s\n", tally.elapsed < 10 + 300 ? "at once" : "late");
    assert(vhu_conn_get_n_connects(conn) == 2);
    assert(vhu_conn_get_seqno(conn) == 3);
    stop(pid);
    vhu_conn_destroy(conn);
}

/* a peer that closes every connection is not asked often, even if its
 * socket comes and goes, and is logged as one. */
static void
test_client_refused(void)
{
    struct vhu_conn *conn = make_client(SOCK);
    int fd = peer_listen(SOCK);
    long long int end = time_msec() + 2000;
    int n = 0;

    while (time_msec() < end) {
        int peer;

        drive(conn, 10, NULL);
        peer = accept(fd, NULL, NULL);
        if (peer >= 0) {
            n++;
            close(peer);
            close(fd);
            assert(!unlink(SOCK));
            fd = peer_listen(SOCK);
        }
    }
    printf("%s\n", n >= 5 && n <= 10 ? "ok" : "bad");
    vhu_conn_destroy(conn);
    close(fd);
    unlink(SOCK);
}

/* a peer that always goes away before anything works, as QEMU does
 * when it misses a feature, is one warning and a reason, until it stays.  (The
 * output has the log.) */
static void
test_client_leaving(void)
{
    struct vhu_conn *conn = make_client(SOCK);
    int fd = peer_listen(SOCK);

    for (int i = 0; i < 6; i++) {
        int peer;

        drive(conn, 2500, is_up);
        assert(vhu_conn_is_connected(conn));
        peer = accept(fd, NULL, NULL);
        assert(peer >= 0);
        close(peer);
        drive(conn, 2500, is_down);
        assert(!vhu_conn_is_connected(conn));
        printf("%d: %s\n", i + 1,
               (strstr(vhu_conn_get_reason(conn), "does it need a feature")
                ? "has a hint" : "has none"));
    }

    drive(conn, 2500, is_up);
    vhu_conn_set_works(conn);
    close(accept(fd, NULL, NULL));
    drive(conn, 2500, is_down);
    printf("then: %s\n",
           (strstr(vhu_conn_get_reason(conn), "does it need a feature")
            ? "has a hint" : "has none"));
    vhu_conn_destroy(conn);
    close(fd);
    unlink(SOCK);
}

/* A peer with which it works may come back soon, however often. */
static void
test_client_restarting(void)
{
    struct vhu_conn *conn = make_client(SOCK);
    int fd = peer_listen(SOCK);
    bool soon = true;

    for (int i = 0; i < 10; i++) {
        long long int start = time_msec();

        drive(conn, 2500, is_up);
        assert(vhu_conn_is_connected(conn));
        soon &= time_msec() - start < 500;
        vhu_conn_set_works(conn);
        close(accept(fd, NULL, NULL));
        drive(conn, 2500, is_down);
    }
    printf("%s\n", soon ? "soon" : "late");
    vhu_conn_destroy(conn);
    close(fd);
    unlink(SOCK);
}

/* Attempts that fail are logged once per reason.  (The output is the log.) */
static void
test_client_log(void)
{
    struct vhu_conn *conn = make_client(SOCK);
    int fd;

    drive(conn, 200, NULL);
    close(peer_bind(SOCK_STREAM, SOCK));
    drive(conn, 200, NULL);
    unlink(SOCK);
    fd = peer_listen(SOCK);
    drive(conn, 1000, is_up);
    assert(vhu_conn_is_connected(conn));
    vhu_conn_disconnect(conn, "protocol error: bad SET_VRING_NUM");
    drive(conn, 1000, is_up);
    assert(vhu_conn_is_connected(conn));
    vhu_conn_destroy(conn);
    close(fd);
    unlink(SOCK);
}

/* Returns a path of 'len' bytes whose directory has been made. */
static char *
make_long_path(size_t len)
{
    char *path = xmalloc(len + 1);
    size_t ofs = 0;

    while (len - ofs > 100) {
        memset(path + ofs, 'd', 50);
        ofs += 50;
        path[ofs] = '\0';
        assert(!mkdir(path, 0755) || errno == EEXIST);
        path[ofs++] = '/';
    }
    memset(path + ofs, 's', len - ofs);
    path[len] = '\0';
    return path;
}

/* Paths longer than sun_path, for both modes at once. */
static void
test_long_path(void)
{
    static const size_t lens[] = { 107, 108, 109, 250, 1000, 3500 };

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        char *path = make_long_path(lens[i]);
        struct vhu_conn *server = make_server(path);
        struct vhu_conn *client = make_client(path);
        int n_before = -1;

        for (int j = 0; j < 2; j++) {
            vhu_conn_run(server);
            vhu_conn_run(client);
            vhu_conn_run(server);
            assert(vhu_conn_is_connected(client));
            assert(vhu_conn_is_connected(server));
            assert(n_before < 0 || n_before == count_fds());
            n_before = count_fds();

            vhu_conn_destroy(client);
            client = make_client(path);
        }
        vhu_conn_destroy(client);
        vhu_conn_destroy(server);
        assert(access(path, F_OK) && errno == ENOENT);
        free(path);
    }
    printf("ok\n");
}

/* Server. */

static void
try_server(const char *path)
{
    struct vhu_conn *conn = make_server(path);

    vhu_conn_run(conn);
    print_reason(conn);
    vhu_conn_destroy(conn);
}

/* HZ-22: what is at the path already. */
static void
test_server_path(void)
{
    struct vhu_conn *conn;
    struct stat st;
    int fd, peer;

    try_server(SOCK);
    assert(access(SOCK, F_OK));
    try_server("dir/" SOCK);

    fd = open(SOCK, O_CREAT | O_RDWR, 0644);
    try_server(SOCK);
    try_server(SOCK "/x");
    assert(!stat(SOCK, &st) && S_ISREG(st.st_mode));
    close(fd);
    unlink(SOCK);

    assert(!mkdir(SOCK, 0755));
    try_server(SOCK);
    assert(!stat(SOCK, &st) && S_ISDIR(st.st_mode));
    rmdir(SOCK);

    assert(!symlink("nothing", SOCK));
    try_server(SOCK);
    assert(!lstat(SOCK, &st) && S_ISLNK(st.st_mode));
    unlink(SOCK);

    /* In use.  Its owner must not notice. */
    fd = peer_listen(SOCK);
    try_server(SOCK);
    assert(accept(fd, NULL, NULL) < 0 && errno == EAGAIN);
    assert(!stat(SOCK, &st) && S_ISSOCK(st.st_mode));

    /* The same one, stale, but of another user. */
    close(fd);
    if (!geteuid()) {
        assert(!chown(SOCK, 4711, -1));
        try_server(SOCK);
        assert(!stat(SOCK, &st) && st.st_uid == 4711);
        assert(!chown(SOCK, 0, -1));
    } else {
        printf("cannot listen at %s: the stale socket there belongs to user "
               "4711, not to us\n", SOCK);
    }

    /* Now ours. */
    conn = make_server(SOCK);
    vhu_conn_run(conn);
    print_reason(conn);
    peer = peer_connect(SOCK);
    assert(peer >= 0);
    vhu_conn_run(conn);
    print_reason(conn);
    close(peer);

    /* A second port with the same path. */
    try_server(SOCK);
    assert(!access(SOCK, F_OK));
    vhu_conn_destroy(conn);
    assert(access(SOCK, F_OK));

    /* A datagram socket in use. */
    fd = peer_bind(SOCK_DGRAM, SOCK);
    try_server(SOCK);
    close(fd);
    try_server(SOCK);
    assert(access(SOCK, F_OK));

    limit_fds(0);
    try_server(SOCK);
    unlimit_fds();
}

/* Returns the number of entries in the current directory. */
static int
count_files(void)
{
    DIR *dir = opendir(".");
    int n = -2;

    assert(dir);
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

/* Only our own socket is removed, and nothing else stays. */
static void
test_server_remove(void)
{
    int n_files = count_files();
    struct vhu_conn *conn;
    struct stat st;
    int fd;

    /* Another file in its place. */
    conn = make_server(SOCK);
    vhu_conn_run(conn);
    assert(count_files() == n_files + 1);
    unlink(SOCK);
    fd = peer_listen(SOCK);
    vhu_conn_destroy(conn);
    assert(!stat(SOCK, &st));
    close(fd);
    unlink(SOCK);

    /* Moved, as some container plugins do.  It is still in use. */
    conn = make_server(SOCK);
    vhu_conn_run(conn);
    assert(!rename(SOCK, "elsewhere"));
    drive(conn, 1200, NULL);
    assert(access(SOCK, F_OK));
    fd = peer_connect("elsewhere");
    assert(fd >= 0);
    vhu_conn_run(conn);
    assert(vhu_conn_is_connected(conn));
    vhu_conn_destroy(conn);
    close(fd);
    assert(!unlink("elsewhere"));

    /* Removed, and its directory with it: comes back, and a connection is not
     * disturbed. */
    assert(!mkdir("d", 0755));
    conn = make_server("d/" SOCK);
    vhu_conn_run(conn);
    fd = peer_connect("d/" SOCK);
    assert(fd >= 0);
    vhu_conn_run(conn);
    assert(vhu_conn_is_connected(conn));
    assert(!unlink("d/" SOCK));
    drive(conn, 100, NULL);
    assert(!access("d/" SOCK, F_OK));
    assert(!unlink("d/" SOCK) && !rmdir("d"));
    drive(conn, 500, NULL);
    assert(!mkdir("d", 0755));
    drive(conn, 100, NULL);
    assert(!access("d/" SOCK, F_OK));
    assert(vhu_conn_is_connected(conn));
    close(fd);
    drive(conn, 100, is_down);
    fd = peer_connect("d/" SOCK);
    assert(fd >= 0);
    drive(conn, 100, is_up);
    assert(vhu_conn_is_connected(conn));
    vhu_conn_destroy(conn);
    close(fd);
    assert(!rmdir("d"));
    assert(count_files() == n_files);
    printf("ok\n");
}

/* Mode and owner are those that were asked for. */
static void
test_server_mode(void)
{
    struct vhu_conn_config config = {
        .mode = VHU_CONN_SERVER,
        .path = SOCK,
        .socket_mode = 0660,
        .uid = getuid() ? -1 : 12345,
        .gid = getuid() ? -1 : 23456,
    };
    struct vhu_conn *conn;
    struct stat st;

    umask(027);
    conn = vhu_conn_create("vm0", &config);
    vhu_conn_run(conn);
    assert(!stat(SOCK, &st));
    printf("%04o\n", st.st_mode & 07777);
    assert(getuid() || (st.st_uid == 12345 && st.st_gid == 23456));
    vhu_conn_destroy(conn);

    config.socket_mode = 0;
    config.uid = config.gid = -1;
    conn = vhu_conn_create("vm0", &config);
    vhu_conn_run(conn);
    assert(!stat(SOCK, &st));
    printf("%04o\n", st.st_mode & 07777);
    assert(st.st_uid == getuid());
    vhu_conn_destroy(conn);
}

/* C-06, H-06, HZ-21: one connection, whatever comes. */
static void
test_server_many(void)
{
    struct vhu_conn *conn = make_server(SOCK);
    int n_open = 0, n_before;
    int first, next;

    vhu_conn_run(conn);
    first = peer_connect(SOCK);
    vhu_conn_run(conn);
    assert(vhu_conn_is_connected(conn));
    peer_send_msg(first, 1, 0, 0);
    expect_msg(conn, 1, 0, 0);
    n_before = count_fds();

    for (int i = 0; i < 1500; i++) {
        next = peer_connect(SOCK);

        if (next >= 0) {
            struct tally tally = drive(conn, 0, NULL);

            assert(!tally.n_msgs);
            n_open += !peer_is_closed(next);
            close(next);
        } else {
            assert(next == -EAGAIN);
        }
        assert(count_fds() <= n_before);
    }
    drive(conn, 50, NULL);
    printf("%d more connections open\n", n_open);
    assert(vhu_conn_get_n_connects(conn) == 1);
    assert(count_fds() == n_before);
    assert(!peer_is_closed(first));
    peer_send_msg(first, 1, 0, 0);
    expect_msg(conn, 1, 0, 0);

    /* The peer dies and comes back before we notice. */
    close(first);
    next = peer_connect(SOCK);
    assert(next >= 0);
    vhu_conn_run(conn);
    assert(vhu_conn_is_connected(conn));
    assert(vhu_conn_get_n_connects(conn) == 2);
    assert(vhu_conn_get_seqno(conn) == 3);
    peer_send_msg(next, 2, 8, 0);
    expect_msg(conn, 2, 8, 0);
    close(next);
    drive(conn, 100, is_down);
    vhu_conn_destroy(conn);

    /* Somebody connects and says nothing. */
    conn = make_server(SOCK);
    vhu_conn_run(conn);
    first = peer_connect(SOCK);
    vhu_conn_run(conn);
    drive(conn, 1050, is_down);
    assert(!peer_is_closed(first));
    next = peer_connect(SOCK);
    drive(conn, 100, NULL);
    assert(peer_is_closed(first) && !peer_is_closed(next));
    close(first);
    close(next);
    vhu_conn_destroy(conn);
    printf("ok\n");
}

/* HZ-03: no file descriptor left for a connection.  The listener pauses and
 * comes back. */
static void
test_server_emfile(void)
{
    struct vhu_conn *conn = make_server(SOCK);
    struct tally tally;
    int peer;

    vhu_conn_run(conn);
    peer = peer_connect(SOCK);
    assert(peer >= 0);
    limit_fds(0);
    tally = drive(conn, 1000, is_up);
    unlimit_fds();
    assert(!vhu_conn_is_connected(conn));
    print_reason(conn);
    assert(tally.n_wakeups < 20);

    drive(conn, 1500, is_up);
    assert(vhu_conn_is_connected(conn));
    close(peer);
    drive(conn, 1500, is_down);
    printf("%.46s\n", vhu_conn_get_reason(conn));
    vhu_conn_destroy(conn);
}

/* A server whose peers do not last is slow to take the next. */
static void
test_server_refusing(void)
{
    struct vhu_conn *conn = make_server(SOCK);
    long long int end = time_msec() + 2000;

    vhu_conn_run(conn);
    while (time_msec() < end) {
        int peer = peer_connect(SOCK);

        assert(peer >= 0);
        drive(conn, 2000, is_up);
        assert(vhu_conn_is_connected(conn));
        vhu_conn_disconnect(conn, "protocol error: bad SET_VRING_NUM");
        close(peer);
    }
    print_reason(conn);
    printf("%s\n", (vhu_conn_get_n_connects(conn) >= 5
                    && vhu_conn_get_n_connects(conn) <= 10 ? "ok" : "bad"));
    vhu_conn_destroy(conn);
}

/* The process exits or dies of a signal: only our socket goes. */
static void
test_server_exit(void)
{
    struct stat st;

    for (int i = 0; i < 4; i++) {
        pid_t pid = fork();
        int status;

        assert(pid >= 0);
        if (!pid) {
            struct vhu_conn *conn = make_server(SOCK);

            vhu_conn_run(conn);
            assert(!stat(SOCK, &st) && S_ISSOCK(st.st_mode));
            if (i & 2) {
                assert(!unlink(SOCK));
                peer_bind(SOCK_STREAM, SOCK);
            }
            if (i & 1) {
                exit(0);
            }
            raise(SIGTERM);
            drive(conn, 1000, NULL);
            _exit(1);
        }
        assert(waitpid(pid, &status, 0) == pid);
        assert(i & 1 ? WIFEXITED(status)
               : WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
        if (i & 2) {
            assert(!unlink(SOCK));
        }
        assert(stat(SOCK, &st));
    }
    printf("ok\n");
}

static const struct vhu_test tests[] = {
    { "disconnect", test_disconnect },
    { "client-reasons", test_client_reasons },
    { "permissions", test_permissions },
    { "client-appears", test_client_appears },
    { "client-refused", test_client_refused },
    { "client-leaving", test_client_leaving },
    { "client-restarting", test_client_restarting },
    { "client-log", test_client_log },
    { "long-path", test_long_path },
    { "server-path", test_server_path },
    { "server-remove", test_server_remove },
    { "server-mode", test_server_mode },
    { "server-many", test_server_many },
    { "server-emfile", test_server_emfile },
    { "server-refusing", test_server_refusing },
    { "server-exit", test_server_exit },
};

static void
test_vhu_conn(int argc, char *argv[])
{
    run_vhu_test(tests, ARRAY_SIZE(tests), argc, argv);
}

VHUTEST_REGISTER("conn", test_vhu_conn);
