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

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ovs-atomic.h"
#include "util.h"
#include "vhu-sigbus.h"
#include "virtio-barrier.h"

#define MAGIC "vhostpos"
#define VERSION_1 1

/* The file: a header and the records, 64 bytes each. */
struct file_header {
    char magic[8];              /* MAGIC, written last. */
    virtio_le32 version;        /* Of what is behind, and of the numbers. */
    virtio_le32 n;              /* Records. */
    uint8_t pad[48];
};
BUILD_ASSERT_DECL(sizeof(struct file_header) == 64);

struct file_record {
    virtio_le64 key;
    virtio_le64 number;
    uint8_t pad[48];
};
BUILD_ASSERT_DECL(sizeof(struct file_record) == 64);

struct vhu_positions {
    struct file_header *header; /* Mapped. */
    struct file_record *records; /* Behind 'header'. */
    size_t size;                /* Bytes. */
    unsigned int n;             /* Records. */
    atomic_bool vanished;
    struct vhu_sigbus_slot *slot;
};

static int open_file(const char *path, char **error);
static const char *check_file(int fd, unsigned int n, size_t size);
static int map_file(int fd, struct vhu_positions *);

int
vhu_positions_open(const char *path, unsigned int n,
                   struct vhu_positions **positionsp, char **error)
{
    struct vhu_positions *positions;
    size_t size;
    const char *problem;
    int fd, retval;

    *positionsp = NULL;
    *error = NULL;
    fd = open_file(path, error);
    if (fd < 0) {
        return -fd;
    }

    positions = xzalloc(sizeof *positions);
    size = sizeof(struct file_header) + n * sizeof(struct file_record);
    positions->n = n;
    positions->size = ROUND_UP(size, get_page_size());
    problem = check_file(fd, n, positions->size);
    retval = problem && ftruncate(fd, 0) ? errno : 0;
    if (!retval) {
        retval = map_file(fd, positions);
    }
    close(fd);
    if (retval) {
        *error = xasprintf("%s: %s", path, ovs_strerror(retval));
        free(positions);
        return retval;
    }

    if (problem) {
        struct file_header *header = positions->header;

        virtio_store_le32(&header->version, VERSION_1);
        virtio_store_le32(&header->n, n);
        virtio_order_stores();
        memcpy(header->magic, MAGIC, sizeof header->magic);
        if (*problem) {
            *error = xasprintf("%s: %s", path, problem);
        }
    }
    *positionsp = positions;
    return 0;
}

void
vhu_positions_close(struct vhu_positions *positions)
{
    if (positions) {
        vhu_sigbus_remove(positions->slot);
        munmap(positions->header, positions->size);
        free(positions);
    }
}

virtio_le64 *
vhu_positions_claim(struct vhu_positions *positions, unsigned int i,
                    uint64_t key, bool *found)
{
    struct file_record *record = &positions->records[i];

    ovs_assert(i < positions->n && key);
    *found = virtio_load_le64(&record->key) == key;
    if (!*found) {
        vhu_positions_forget(positions, i);
        virtio_store_le64(&record->key, key);
        virtio_order_stores();
    }
    return &record->number;
}

/* The key first: at no time does it go with the number of another. */
void
vhu_positions_forget(struct vhu_positions *positions, unsigned int i)
{
    struct file_record *record = &positions->records[i];

    ovs_assert(i < positions->n);
    virtio_store_le64(&record->key, 0);
    virtio_order_stores();
    virtio_store_le64(&record->number, 0);
    virtio_order_stores();
}

void
vhu_positions_remove(const char *path)
{
    unlink(path);
}

/* Opens, or creates, the file at 'path'.  Returns its descriptor, or a
 * negative errno with a phrase in '*error'. */
static int
open_file(const char *path, char **error)
{
    char *dir = dir_name(path);
    int fd = -1;

    if (mkdir(dir, 0700) && errno != EEXIST) {
        fd = -errno;
        *error = xasprintf("%s: %s", dir, ovs_strerror(errno));
    } else {
        fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
                  0600);
        if (fd < 0) {
            fd = -errno;
            *error = xasprintf("%s: %s", path, ovs_strerror(errno));
        }
    }
    free(dir);
    return fd;
}

/* Returns what is wrong with the file 'fd', NULL if it is one of ours, with
 * 'n' records and 'size' bytes.  If there is nothing in it, which is not worth
 * telling, returns "". */
static const char *
check_file(int fd, unsigned int n, size_t size)
{
    struct file_header header;
    struct stat s;
    ssize_t retval;

    if (fstat(fd, &s)) {
        return "cannot be examined: replaced";
    }
    retval = pread(fd, &header, sizeof header, 0);
    if (!retval) {
        return "";
    } else if (retval != sizeof header
               || memcmp(header.magic, MAGIC, sizeof header.magic)) {
        return "not a file of positions: replaced";
    } else if (virtio_le32_to_cpu(header.version) != VERSION_1
               || virtio_le32_to_cpu(header.n) != n || s.st_size != size) {
        return "positions of another version: replaced";
    }
    return NULL;
}

/* Allocates and maps the file 'fd' for 'positions'.  Returns 0 or a positive
 * errno.
 *
 * If the file has a hole and the file system no space for it, a store would
 * raise SIGBUS. */
static int
map_file(int fd, struct vhu_positions *positions)
{
    int retval = vhu_sigbus_init();
    void *p;

    if (retval) {
        return retval;
    }
    do {
        retval = posix_fallocate(fd, 0, positions->size);
    } while (retval == EINTR);
    if (retval) {
        return retval;
    }
    p = mmap(NULL, positions->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        return errno;
    }
    positions->header = p;
    positions->records = ALIGNED_CAST(struct file_record *,
                                      positions->header + 1);
    atomic_init(&positions->vanished, false);
    positions->slot = vhu_sigbus_add(p, positions->size, get_page_size(),
                                     &positions->vanished);
    return 0;
}
