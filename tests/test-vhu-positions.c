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

#include "vhu-positions.h"

#undef NDEBUG

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util.h"
#include "vhost-user-spec.h"
#include "vhu-mem.h"
#include "vhu-peer.h"
#include "vhutest.h"
#include "virtio-barrier.h"

/* The file of the positions, R-06.  In the current directory. */

#define PATH "pos/vm0"
enum { N = 4, KEY = 0x1234 };

static struct vhu_positions *
must_open(void)
{
    struct vhu_positions *positions;
    char *error;

    assert(!vhu_positions_open(PATH, N, &positions, &error));
    assert(!error);
    return positions;
}

/* Returns whether record 'i' is there for 'key', and if so whether it has
 * 'number'. */
static bool
has(struct vhu_positions *positions, unsigned int i, uint64_t key,
    uint64_t number)
{
    bool found;
    virtio_le64 *p = vhu_positions_claim(positions, i, key, &found);

    assert(found || !virtio_load_le64(p));
    return found && virtio_load_le64(p) == number;
}

static void
put(struct vhu_positions *positions, unsigned int i, uint64_t key,
    uint64_t number)
{
    bool found;

    virtio_store_le64(vhu_positions_claim(positions, i, key, &found), number);
}

/* A record stays for its key, is gone for any other, and when it is
 * forgotten. */
static void
test_file(void)
{
    struct vhu_positions *positions = must_open();
    struct stat s;

    assert(!stat("pos", &s) && (s.st_mode & 0777) == 0700);
    assert(!stat(PATH, &s) && (s.st_mode & 0777) == 0600);
    for (unsigned int i = 0; i < N; i++) {
        put(positions, i, KEY + i, 100 + i);
    }
    vhu_positions_close(positions);

    positions = must_open();
    assert(has(positions, 0, KEY, 100));
    assert(has(positions, 1, KEY + 1, 101));
    assert(!has(positions, 2, KEY, 102));   /* Another VM. */
    assert(!has(positions, 2, KEY + 2, 102)); /* Now it is nobody's. */
    vhu_positions_forget(positions, 1);
    vhu_positions_close(positions);

    positions = must_open();
    assert(has(positions, 0, KEY, 100));
    assert(!has(positions, 1, KEY + 1, 101));
    assert(has(positions, 3, KEY + 3, 103));
    vhu_positions_close(positions);
    vhu_positions_close(NULL);

    vhu_positions_remove(PATH);
    assert(access(PATH, F_OK));
    vhu_positions_remove(PATH);
}

/* What is in the file if it is not what we wrote.  It never passes for a
 * record, and a new one can be made. */
static void
test_damaged(void)
{
    static const struct {
        const char *name;
        off_t at;               /* Where 'bytes' go, -1: nowhere. */
        const char *bytes;
        off_t size;             /* What the file is cut to, -1: not. */
    } cases[] = {
        { "empty", -1, "", 0 },
        { "header cut", -1, "", 63 },
        { "not of ours", 0, "#!/bin/sh", -1 },
        { "older version", 8, "\0", -1 },
        { "newer version", 8, "\2", -1 },
        { "other number", 12, "\5", -1 },
        { "records cut", -1, "", 64 + 2 * 64 },
        { "too long", -1, "", 8192 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct vhu_positions *positions = must_open();
        char *error;
        int fd;

        put(positions, 0, KEY, 100);
        vhu_positions_close(positions);
        fd = open(PATH, O_RDWR);
        if (cases[i].at >= 0) {
            size_t n = strlen(cases[i].bytes);

            assert(pwrite(fd, cases[i].bytes, MAX(n, 1), cases[i].at) > 0);
        }
        if (cases[i].size >= 0) {
            assert(!ftruncate(fd, cases[i].size));
        }
        close(fd);

        assert(!vhu_positions_open(PATH, N, &positions, &error));
        printf("%s: %s\n", cases[i].name, error ? error : "fine");
        free(error);
        assert(!has(positions, 0, KEY, 100));
        put(positions, 0, KEY, 101);
        vhu_positions_close(positions);

        positions = must_open();
        assert(has(positions, 0, KEY, 101));
        vhu_positions_close(positions);
        vhu_positions_remove(PATH);
    }
}

static void
must_fail(const char *name, const char *path)
{
    struct vhu_positions *positions;
    char *error;

    assert(vhu_positions_open(path, N, &positions, &error));
    assert(!positions);
    printf("%s: %s\n", name, error);
    free(error);
}

/* Where no file can be. */
static void
test_impossible(void)
{
    const struct rlimit limit = { 4096 / 2, RLIM_INFINITY };

    rmdir("pos");
    assert(!mknod("pos", S_IFREG | 0600, 0));
    must_fail("directory is a file", PATH);
    assert(!unlink("pos"));
    must_fail("no directory", "nowhere/pos/vm0");

    assert(!mkdir("pos", 0700) && !mkdir(PATH, 0700));
    must_fail("file is a directory", PATH);
    assert(!rmdir(PATH));
    assert(!symlink("../vm1", PATH));
    must_fail("file is a link", PATH);
    assert(!unlink(PATH) && access("vm1", F_OK));

    /* A limit of ours looks like the end of a file system. */
    signal(SIGXFSZ, SIG_IGN);
    assert(!setrlimit(RLIMIT_FSIZE, &limit));
    must_fail("file system is full", PATH);
    vhu_positions_remove(PATH);
}

/* The file loses its pages while it is in use: no record, no crash. */
static void
test_vanish(void)
{
    struct vhu_positions *positions = must_open();
    bool found;
    virtio_le64 *p = vhu_positions_claim(positions, 0, KEY, &found);

    assert(!truncate(PATH, 0));
    virtio_store_le64(p, 100);
    vhu_positions_forget(positions, 1);
    vhu_positions_close(positions);

    positions = must_open();
    assert(!has(positions, 0, KEY, 100));
    vhu_positions_close(positions);
    vhu_positions_remove(PATH);
}

/* The hash of memory that is part of the key. */

static uint64_t
hash(const struct vhost_user_mem_region *region, int fd, uint64_t uva)
{
    struct vhu_mem *mem;
    uint64_t value;
    char *error;

    if (vhu_mem_create(region, &fd, 1, &mem, &error)) {
        ovs_fatal(0, "%s", error);
    }
    value = vhu_mem_hash(mem, uva, 64, 1);
    assert(value == vhu_mem_hash(mem, uva, 64, 1));
    assert(value != vhu_mem_hash(mem, uva, 64, 2));
    assert(value != vhu_mem_hash(mem, uva + 64, 64, 1));
    vhu_mem_destroy(mem);
    return value;
}

static int
make_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);

    assert(fd >= 0 && !ftruncate(fd, 0x10000));
    return fd;
}

/* The same for the same memory, mapped once more; another one if any number,
 * or the file, is not the same. */
static void
test_key(void)
{
    const struct vhost_user_mem_region region = {
        .guest_addr = 0x100000, .size = 0x4000, .user_addr = 0x7f0000000000,
        .mmap_offset = 0x1000,
    };
    const uint64_t uva = region.user_addr + 0x1000;
    struct vhost_user_mem_region other;
    int fd = make_file("mem"), same_fd, other_fd;
    uint64_t key = hash(&region, fd, uva);

    same_fd = open("mem", O_RDWR);
    assert(hash(&region, same_fd, uva) == key);
    close(same_fd);

    other = region;
    other.guest_addr += 0x1000;
    assert(hash(&other, fd, uva) != key);
    other = region;
    other.size += 0x1000;
    assert(hash(&other, fd, uva) != key);
    other = region;
    other.user_addr += 0x1000;
    assert(hash(&other, fd, uva) != key);
    other = region;
    other.mmap_offset += 0x1000;
    assert(hash(&other, fd, uva) != key);

    /* Other files of the same size: one beside it, in memory, and one in its
     * place. */
    other_fd = make_file("mem2");
    assert(hash(&region, other_fd, uva) != key);
    close(other_fd);
    other_fd = memfd_create("mem", MFD_CLOEXEC);
    assert(!ftruncate(other_fd, 0x10000));
    assert(hash(&region, other_fd, uva) != key);
    close(other_fd);
    close(fd);
    assert(!unlink("mem"));
    fd = make_file("mem");
    assert(hash(&region, fd, uva) != key);
    close(fd);
    assert(!unlink("mem") && !unlink("mem2"));
}

/* One descriptor is needed for the file, and one the first time. */
static void
test_no_fds(void)
{
    struct vhu_positions *positions;
    char *error;

    for (int n = 0; n < 2; n++) {
        limit_fds(n);
        assert(vhu_positions_open(PATH, N, &positions, &error) == EMFILE);
        assert(!positions);
        printf("%d left: %s\n", n, error);
        free(error);
        unlimit_fds();
    }
    limit_fds(2);
    vhu_positions_close(must_open());
    unlimit_fds();
}

static void
test_vhu_positions_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*function)(void);
    } tests[] = {
        { "no-fds", test_no_fds }, /* First, while it has none. */
        { "file", test_file },
        { "damaged", test_damaged },
        { "vanish", test_vanish },
        { "key", test_key },
        { "impossible", test_impossible },
    };

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc < 2 || !strcmp(argv[1], tests[i].name)) {
            tests[i].function();
        }
    }
}

VHUTEST_REGISTER("vhu-positions", test_vhu_positions_main);
