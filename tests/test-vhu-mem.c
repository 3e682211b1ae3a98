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

#include "vhu-mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "openvswitch/poll-loop.h"
#include "openvswitch/util.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "timeval.h"
#include "util.h"
#include "vhost-user-spec.h"
#include "vhu-peer.h"
#include "vhutest.h"
#include "virtio-barrier.h"

#define K UINT64_C(1024)
#define M (1024 * K)
#define G (1024 * M)
#define FILE_SIZE (4 * M)
#define TOP (UINT64_C(1) << 63)
#define LAST UINT64_MAX

/* Exit status of a test that cannot run here. */
#define SKIP 77

static int
make_file(uint64_t size)
{
    int fd = memfd_create("vhutest", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, size)) {
        ovs_fatal(errno, "no memory");
    }
    return fd;
}

/* Creates a table or dies. */
static struct vhu_mem *
must_create(const struct vhost_user_mem_region specs[], const int fds[], int n)
{
    struct vhu_mem *mem;
    char *error;

    if (vhu_mem_create(specs, fds, n, &mem, &error)) {
        ovs_fatal(0, "%s", error);
    }
    return mem;
}

/* What vhu_mem_create() accepts.  One row, two regions: guest address, size,
 * user address, offset in a file of 4 MB. */
static void
test_create(void)
{
    static const struct {
        const char *name;
        struct vhost_user_mem_region specs[2];
        int error;
    } cases[] = {
        { "two", { { 0, M, TOP, 0 }, { 4 * G, M, TOP + M, M } }, 0 },
        { "adjacent", { { M, M, 8 * M, 0 }, { 0, M, 7 * M, M } }, 0 },
        { "one part of the file twice",
          { { 0, M, TOP, 0 }, { 4 * G, M, TOP + M, 0 } }, 0 },
        { "all of the file", { { 0, 4 * M, TOP, 0 }, { G, M, 0, 3 * M } }, 0 },
        { "tiny, odd", { { 1, 1, 5, 4 * M - 1 }, { 2, 3, 6, 5 } }, 0 },
        { "up to the last address",
          { { LAST - M + 1, M, LAST - M + 1, 0 }, { 0, M, 0, 0 } }, 0 },

        { "size 0", { { 0, M, TOP, 0 }, { 4 * G, 0, TOP + M, 0 } }, EINVAL },
        { "guest address wraps around",
          { { 0, M, TOP, 0 }, { LAST - M + 2, M, 0, 0 } }, EINVAL },
        { "user address wraps around",
          { { 0, M, TOP, 0 }, { 4 * G, M, LAST - M + 2, 0 } }, EINVAL },
        { "beyond the end of the file",
          { { 0, M, TOP, 0 }, { 4 * G, M, TOP + M, 3 * M + 1 } }, EINVAL },
        { "larger than the file",
          { { 0, M, TOP, 0 }, { 4 * G, 4 * M + 1, TOP + M, 0 } }, EINVAL },
        { "offset behind the file",
          { { 0, M, TOP, 0 }, { 4 * G, 1, TOP + M, 4 * M } }, EINVAL },
        { "offset wraps around",
          { { 0, M, TOP, 0 }, { 4 * G, M, TOP + M, LAST - K } }, EINVAL },
        { "offset of 2^63",
          { { 0, M, TOP, 0 }, { 4 * G, M, TOP + M, TOP } }, EINVAL },
        { "size of 2^63",
          { { 0, M, TOP, 0 }, { 4 * G, TOP, TOP + M, 0 } }, EINVAL },
        { "size of 2^64 - 1",
          { { 0, M, TOP, 0 }, { 0, LAST, 0, 0 } }, EINVAL },
        { "more than 64 TiB",
          { { 0, M, TOP, 0 }, { G, 64 * K * G, 0, 0 } }, EINVAL },
        { "guest addresses overlap",
          { { 0, M, TOP, 0 }, { M - 1, M, TOP + M, 0 } }, EINVAL },
        { "guest addresses overlap, other order",
          { { M - 1, M, TOP + M, 0 }, { 0, M, TOP, 0 } }, EINVAL },
        { "guest address inside the other",
          { { 0, M, TOP, 0 }, { K, 1, TOP + M, 0 } }, EINVAL },
        { "user addresses overlap",
          { { 0, M, TOP, 0 }, { G, M, TOP + M - 1, 0 } }, EINVAL },
        { "same region twice",
          { { 0, M, TOP, 0 }, { 0, M, TOP, 0 } }, EINVAL },
    };
    int fd = make_file(FILE_SIZE);

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct vhu_mem *mem;
        char *error;
        int retval = vhu_mem_create(cases[i].specs, (int[2]) { fd, fd }, 2,
                                    &mem, &error);

        printf("%s: %s\n", cases[i].name, retval ? error : "ok");
        ovs_assert(retval == cases[i].error);
        ovs_assert(!mem == !!retval);
        ovs_assert(!error == !retval);
        for (int j = 0; mem && j < 2; j++) {
            const struct vhu_mem_region *r = &mem->regions[j];

            ovs_assert(!j || mem->regions[j - 1].guest_addr < r->guest_addr);
            r->va[0] = 1;
            r->va[r->size - 1] = 1;
        }
        vhu_mem_destroy(mem);
        free(error);
    }
    close(fd);
}

/* What is not a file that can be mapped. */
static void
test_files(void)
{
    const struct vhost_user_mem_region spec = { 0, 4 * K, 0, 0 };
    int ro, fds[8] = { -1 };

    fds[1] = open("/dev/zero", O_RDWR);
    fds[2] = eventfd(0, 0);
    fds[3] = open("/dev/null", O_RDWR);
    fds[4] = open("/", O_RDONLY);
    ovs_assert(!pipe(&fds[5]));
    fds[7] = 10000;
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        struct vhu_mem *mem;
        char *error;

        ovs_assert(vhu_mem_create(&spec, &fds[i], 1, &mem, &error) == EBADF);
        ovs_assert(!mem);
        free(error);
        close(fds[i]);
    }

    /* Nor is one that we may not write to. */
    char path[] = "/tmp/vhutest-mem.XXXXXX";
    int rw = mkstemp(path);
    struct vhu_mem *mem;
    char *error;

    ovs_assert(!ftruncate(rw, M));
    ro = open(path, O_RDONLY);
    unlink(path);
    ovs_assert(vhu_mem_create(&spec, &ro, 1, &mem, &error) == EACCES);
    printf("%s\n", error);
    free(error);
    close(ro);
    close(rw);
}

static void
check_gpa(const struct vhu_mem *mem, uint64_t gpa, uint64_t size,
          const void *va)
{
    ovs_assert(vhu_mem_gpa_to_va(mem, gpa, size) == va);
}

static void
test_translate(void)
{
    /* Sorted by guest address; in the file the other way round; with a hole
     * and an end that is not that of a page. */
    static const struct vhost_user_mem_region specs[3] = {
        { 4 * G, M, TOP, 8 * K },
        { M, M, G, 2 * M },
        { 0, M, 2 * G, 3 * M + 4 },
    };
    int fd = make_file(FILE_SIZE + 4);
    int fds[3] = { fd, fd, fd };
    struct vhu_mem *mem = must_create(specs, fds, 3);
    uint8_t *lo = mem->regions[0].va;
    uint8_t *mid = mem->regions[1].va;
    uint8_t *hi = mem->regions[2].va;
    uint64_t len;

    close(fd);
    ovs_assert(vhu_mem_size(mem) == 3 * M);
    *mid = 42;

    check_gpa(mem, 0, 1, lo);
    check_gpa(mem, 0, M, lo);
    check_gpa(mem, 0, M + 1, NULL);
    check_gpa(mem, M - 1, 1, lo + M - 1);
    check_gpa(mem, M - 1, 2, NULL);     /* Not contiguous for us. */
    check_gpa(mem, M, 1, mid);
    check_gpa(mem, 2 * M - 1, 1, mid + M - 1);
    check_gpa(mem, 2 * M - 1, 2, NULL);
    check_gpa(mem, 2 * M, 1, NULL);
    check_gpa(mem, 4 * G - 1, 1, NULL);
    check_gpa(mem, 4 * G - 1, 2, NULL);
    check_gpa(mem, 4 * G + 5, M - 5, hi + 5);
    check_gpa(mem, 4 * G + 5, M - 4, NULL);
    check_gpa(mem, 4 * G + 5, UINT64_MAX, NULL);
    check_gpa(mem, 4 * G + 5, UINT64_MAX - 4 * G, NULL);
    check_gpa(mem, UINT64_MAX, 1, NULL);
    check_gpa(mem, UINT64_MAX - 255, 512, NULL);

    ovs_assert(vhu_mem_gpa_to_va_part(mem, M - 10, &len) == lo + M - 10);
    ovs_assert(len == 10);
    ovs_assert(vhu_mem_gpa_to_va_part(mem, M, &len) == mid && len == M);
    ovs_assert(!vhu_mem_gpa_to_va_part(mem, 2 * M, &len) && !len);

    ovs_assert(vhu_mem_uva_to_va(mem, G, M) == mid);
    ovs_assert(!vhu_mem_uva_to_va(mem, G, M + 1));
    ovs_assert(!vhu_mem_uva_to_va(mem, G - 1, 2));
    ovs_assert(vhu_mem_uva_to_va(mem, TOP + M - 1, 1) == hi + M - 1);
    ovs_assert(!vhu_mem_uva_to_va(mem, TOP + M - 1, UINT64_MAX));
    ovs_assert(!vhu_mem_uva_to_va(mem, TOP + M, 1));
    ovs_assert(!vhu_mem_uva_to_va(mem, 0, 1));
    vhu_mem_destroy(mem);
}

/* Returns how many mappings of files of make_file() this process has. */
static int
count_maps(void)
{
    char line[512];
    FILE *stream;
    int n = 0;

    stream = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, stream)) {
        n += strstr(line, "memfd:vhutest") != NULL;
    }
    fclose(stream);
    return n;
}

/* Memory slots: tables that share regions. */
static void
test_slots(void)
{
    static const struct vhost_user_mem_region specs[3] = {
        { 0, M, TOP, 0 }, { 4 * G, M, G, M }, { 8 * G, M, 2 * G, 2 * M },
    };
    struct vhost_user_mem_region other;
    struct vhu_mem *mem[4], *same;
    long long int deadline;
    int fd = make_file(FILE_SIZE);
    char *error;

    ovs_assert(!vhu_mem_add_region(NULL, &specs[0], fd, &mem[0], &error));
    ovs_assert(!vhu_mem_add_region(mem[0], &specs[2], fd, &mem[1], &error));
    ovs_assert(!vhu_mem_add_region(mem[1], &specs[1], fd, &mem[2], &error));
    ovs_assert(mem[0]->n_regions == 1 && mem[1]->n_regions == 2
               && mem[2]->n_regions == 3);
    for (int i = 0; i < 3; i++) {
        ovs_assert(mem[2]->regions[i].guest_addr == specs[i].guest_addr);
        mem[2]->regions[i].va[0] = i + 1;
    }
    ovs_assert(mem[2]->regions[0].va == mem[0]->regions[0].va);

    /* Once more the same is no error, something similar is. */
    ovs_assert(!vhu_mem_add_region(mem[2], &specs[1], fd, &same, &error));
    ovs_assert(same == mem[2]);
    other = specs[1];
    other.user_addr += M;
    ovs_assert(vhu_mem_add_region(mem[2], &other, fd, &same, &error)
               == EINVAL);
    free(error);
    ovs_assert(vhu_mem_remove_region(mem[2], &other, &same, &error)
               == ENOENT);
    ovs_assert(!same);
    free(error);

    /* The offset does not matter when a region is removed. */
    other = specs[0];
    other.mmap_offset = 12345;
    ovs_assert(!vhu_mem_remove_region(mem[2], &other, &mem[3], &error));
    ovs_assert(mem[3]->n_regions == 2);
    vhu_mem_destroy(mem[0]);
    vhu_mem_destroy(mem[1]);
    vhu_mem_destroy(mem[2]);
    check_gpa(mem[3], 0, 1, NULL);
    ovs_assert(mem[3]->regions[0].va[0] == 2);
    ovs_assert(mem[3]->regions[1].va[0] == 3);
    ovs_assert(!vhu_mem_remove_region(mem[3], &specs[1], &mem[0], &error));
    ovs_assert(!vhu_mem_remove_region(mem[0], &specs[2], &mem[1], &error));
    ovs_assert(mem[1]->n_regions == 0);
    ovs_assert(vhu_mem_remove_region(NULL, &specs[2], &mem[2], &error)
               == ENOENT);
    free(error);
    ovs_assert(count_maps() > 0);
    vhu_mem_destroy_postponed(mem[3]);
    vhu_mem_destroy_postponed(mem[0]);
    vhu_mem_destroy_postponed(mem[1]);
    vhu_mem_destroy_postponed(NULL);
    deadline = time_msec() + 10000;
    while (count_maps()) {
        ovs_assert(time_msec() < deadline);
        ovsrcu_quiesce();
    }
    close(fd);
}

/* As many regions as there may be, and one more. */
static void
test_many(void)
{
    struct vhost_user_mem_region spec = { 0, 4 * K, 0, 0 };
    struct vhu_mem *mem = NULL, *next;
    int fd = make_file(FILE_SIZE);
    char *error;

    for (int i = 0; i < VHU_MEM_MAX_REGIONS; i++) {
        spec.guest_addr = spec.user_addr = i * 8 * K;
        ovs_assert(!vhu_mem_add_region(mem, &spec, fd, &next, &error));
        vhu_mem_destroy(mem);
        mem = next;
    }
    for (int i = 0; i < VHU_MEM_MAX_REGIONS; i++) {
        mem->regions[i].va[0] = 1;
        ovs_assert(vhu_mem_gpa_to_va(mem, i * 8 * K, 1));
    }
    spec.guest_addr = spec.user_addr = G;
    ovs_assert(vhu_mem_add_region(mem, &spec, fd, &next, &error) == EINVAL);
    printf("%s\n", error);
    free(error);
    vhu_mem_destroy(mem);
    close(fd);
}

/* A file that loses its pages. */

static atomic_bool stop;

static void *
access_main(void *mem_)
{
    const struct vhu_mem *mem = mem_;
    const volatile uint8_t *va = mem->regions[0].va;
    uint64_t sum = 0;
    bool stopping;

    do {
        for (uint64_t i = 0; i < mem->regions[0].size; i += 4 * K) {
            sum += va[i];
        }
        atomic_read(&stop, &stopping);
    } while (!stopping);
    return (void *) (uintptr_t) sum;
}

static void
test_truncate(void)
{
    static const struct vhost_user_mem_region specs[2] = {
        { 0, 2 * M, TOP, 0 }, { 4 * G, M, G, 0 },
    };
    long long int deadline;

    for (int i = 0; i < 200; i++) {
        int fds[2] = { make_file(2 * M), make_file(M) };
        struct vhu_mem *mem = must_create(specs, fds, 2);
        struct vhu_mem *healthy = must_create(&specs[1], &fds[1], 1);
        pthread_t threads[2];

        atomic_store(&stop, false);
        mem->regions[1].va[0] = 42;
        for (int j = 0; j < 2; j++) {
            threads[j] = ovs_thread_create("access", access_main, mem);
        }
        ovs_assert(!ftruncate(fds[0], 0));
        deadline = time_msec() + 10000;
        while (!vhu_mem_is_dead(mem)) {
            ovs_assert(time_msec() < deadline);
        }

        /* Somebody is told. */
        vhu_mem_wait_dead();
        poll_timer_wait_until(deadline);
        poll_block();
        ovs_assert(time_msec() < deadline);
        vhu_mem_clear_dead();

        atomic_store(&stop, true);
        for (int j = 0; j < 2; j++) {
            xpthread_join(threads[j], NULL);
        }

        /* There are zeros now, which may be overwritten. */
        ovs_assert(mem->regions[0].va[M] == 0);
        mem->regions[0].va[M] = 1;
        ovs_assert(mem->regions[0].va[M] == 1);

        /* Others did not notice. */
        ovs_assert(!vhu_mem_is_dead(healthy));
        ovs_assert(healthy->regions[0].va[0] == 42);
        ovs_assert(mem->regions[1].va[0] == 42);

        vhu_mem_destroy(mem);
        vhu_mem_destroy(healthy);
        close(fds[0]);
        close(fds[1]);
    }
}

/* Whoever was told that a file can be sealed finds that it cannot shrink. */
static void
test_seal(void)
{
    const struct vhost_user_mem_region spec = { 0, M, TOP, 0 };
    int fd = memfd_create("vhutest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct vhu_mem *mem;

    ovs_assert(!ftruncate(fd, M));
    mem = must_create(&spec, &fd, 1);
    ovs_assert(ftruncate(fd, 0) && errno == EPERM);
    mem->regions[0].va[0] = 1;
    ovs_assert(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                          M));
    ovs_assert(mem->regions[0].va[0] == 0);
    ovs_assert(!vhu_mem_is_dead(mem));
    vhu_mem_destroy(mem);
    close(fd);
}

/* Faults that are not ours. */

static sigjmp_buf foreign_jmp;

/* Of a process that ends by a fault: for valgrind, so that it is not lost. */
static struct vhu_mem *volatile foreign_mem;

static void
handle_foreign(int signr OVS_UNUSED, siginfo_t *info OVS_UNUSED,
               void *context OVS_UNUSED)
{
    siglongjmp(foreign_jmp, 1);
}

/* Runs in a process of its own: accesses memory beyond the end of a file that
 * is no region.  Returns if that reaches 'handler'. */
static void
fault_foreign(void (*handler)(int, siginfo_t *, void *))
{
    const struct vhost_user_mem_region spec = { 0, M, TOP, 0 };
    struct sigaction sa;
    int fd = make_file(M);
    volatile uint8_t *p;

    memset(&sa, 0, sizeof sa);
    sa.sa_handler = SIG_DFL;
    if (handler) {
        sa.sa_sigaction = handler;
        sa.sa_flags = SA_SIGINFO;
    }
    sigaction(SIGBUS, &sa, NULL);
    foreign_mem = must_create(&spec, &fd, 1);

    p = mmap(NULL, 2 * M, PROT_READ, MAP_SHARED, fd, 0);
    if (!sigsetjmp(foreign_jmp, 1)) {
        _exit(p[M + 1]);
    }
}

static void
test_foreign(void)
{
    pid_t pid;
    int status;

    pid = fork();
    if (!pid) {
        fault_foreign(handle_foreign);
        _exit(42);
    }
    ovs_assert(waitpid(pid, &status, 0) == pid);
    ovs_assert(WIFEXITED(status) && WEXITSTATUS(status) == 42);

    pid = fork();
    if (!pid) {
        fault_foreign(NULL);
        _exit(42);
    }
    ovs_assert(waitpid(pid, &status, 0) == pid);
    ovs_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

/* Mappings that wait for the end of a grace period. */
static atomic_count n_given_up = ATOMIC_COUNT_INIT(0);

static void
count_freed(atomic_count *n)
{
    atomic_count_dec(n);
}

/* Mappings come and go in two threads while there are faults in a third.  A
 * process has only so many of them, so the threads wait for those that they
 * have given up. */
static void *
churn_main(void *aux OVS_UNUSED)
{
    const struct vhost_user_mem_region spec = { 0, M, TOP, 0 };
    int fd = make_file(M);
    bool stopping;

    do {
        vhu_mem_destroy_postponed(must_create(&spec, &fd, 1));
        atomic_count_inc(&n_given_up);
        ovsrcu_postpone(count_freed, &n_given_up);
        do {
            ovsrcu_quiesce();
            atomic_read(&stop, &stopping);
        } while (!stopping && atomic_count_get(&n_given_up) > 1000);
    } while (!stopping);
    close(fd);
    return NULL;
}

static void
test_churn(void)
{
    const struct vhost_user_mem_region spec = { 0, M, TOP, 0 };
    pthread_t threads[2];

    atomic_store(&stop, false);
    for (int i = 0; i < 2; i++) {
        threads[i] = ovs_thread_create("churn", churn_main, NULL);
    }
    for (int i = 0; i < 2000; i++) {
        int fd = make_file(M);
        struct vhu_mem *mem = must_create(&spec, &fd, 1);

        mem->regions[0].va[5] = 1;
        ovs_assert(!ftruncate(fd, 0));
        ovs_assert(mem->regions[0].va[5] == 0);
        ovs_assert(vhu_mem_is_dead(mem));
        vhu_mem_destroy(mem);
        close(fd);
        ovsrcu_quiesce();
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++) {
        xpthread_join(threads[i], NULL);
    }
}

/* Returns true if the kernel's flags of the mapping at 'va' include 'flag',
 * two letters. */
static bool
has_vm_flag(const void *va, const char *flag)
{
    bool found = false, inside = false;
    char line[512];
    FILE *stream;

    stream = fopen("/proc/self/smaps", "r");
    while (stream && fgets(line, sizeof line, stream)) {
        uintptr_t start, end;

        if (sscanf(line, "%"SCNxPTR"-%"SCNxPTR" ", &start, &end) == 2) {
            inside = start == (uintptr_t) va;
        } else if (inside && !strncmp(line, "VmFlags:", 8)) {
            found = strstr(line + 8, flag) != NULL;
        }
    }
    fclose(stream);
    return found;
}

static uint64_t
allocated(int fd)
{
    struct stat s;

    ovs_assert(!fstat(fd, &s));
    return s.st_blocks * UINT64_C(512);
}

/* Mapping does not allocate, not even if all memory is to be locked, and
 * neither does what replaces vanished memory. */
static void
test_mlockall(void)
{
    const struct vhost_user_mem_region spec = { 0, 512 * M, TOP, 0 };
    int fd = make_file(512 * M);
    struct vhu_mem *mem;
    long pages;
    FILE *stream;

    if (mlockall(MCL_CURRENT | MCL_FUTURE)) {
        exit(SKIP);
    }
    mem = must_create(&spec, &fd, 1);
    ovs_assert(has_vm_flag(mem->regions[0].va, " wr"));
    ovs_assert(!has_vm_flag(mem->regions[0].va, " lo"));
    ovs_assert(allocated(fd) < M);
    mem->regions[0].va[M] = 1;
    ovs_assert(allocated(fd) < 4 * M);

    ovs_assert(!ftruncate(fd, 0));
    ovs_assert(mem->regions[0].va[M] == 0);
    ovs_assert(vhu_mem_is_dead(mem));
    stream = fopen("/proc/self/statm", "r");
    ovs_assert(fscanf(stream, "%*d %ld", &pages) == 1);
    fclose(stream);
    ovs_assert(pages * sysconf(_SC_PAGESIZE) < 400 * M);
    vhu_mem_destroy(mem);
    close(fd);
}

/* Neither does either if RLIMIT_MEMLOCK, which counts without CAP_IPC_LOCK,
 * has no room for a guest's memory. */
static void
test_mlock_limit(void)
{
    const struct vhost_user_mem_region spec = { 0, 512 * M, TOP, 0 };
    struct rlimit limit;
    struct vhu_mem *mem;
    int fd = make_file(512 * M);

    munlockall();
    ovs_assert(!getrlimit(RLIMIT_MEMLOCK, &limit));
    limit.rlim_cur = MIN(limit.rlim_max, 64 * M);
    ovs_assert(!setrlimit(RLIMIT_MEMLOCK, &limit));
    if ((!geteuid() && setuid(65534)) || mlockall(MCL_FUTURE)) {
        exit(SKIP);
    }
    ovs_assert(mmap(NULL, 512 * M, PROT_NONE, MAP_SHARED, fd, 0)
               == MAP_FAILED && errno == EAGAIN);

    mem = must_create(&spec, &fd, 1);
    ovs_assert(!has_vm_flag(mem->regions[0].va, " lo"));
    mem->regions[0].va[512 * M - 1] = 1;
    ovs_assert(allocated(fd) < 4 * M);

    ovs_assert(!ftruncate(fd, 0));
    ovs_assert(mem->regions[0].va[M] == 0);
    ovs_assert(vhu_mem_is_dead(mem));
    vhu_mem_destroy(mem);
    close(fd);
}

/* M-19, T-13, T-14: what a mapping costs does not depend on its size, regions
 * may have any size and offset, and a mapping that fails is an error. */
static void
test_sparse(void)
{
    const struct vhost_user_mem_region specs[] = {
        { 0, 0xa0000, TOP, 0 },
        { 0xc0000, 3 * M - 0xc0000 + 12345, TOP + 0xc0000, 0xc0000 },
        { 4 * G, 1024 * G - 5 * M, TOP + G, 3 * M + 77 },
    };
    const struct vhost_user_mem_region whole = { 0, 1024 * G, TOP, 0 };
    int fd = make_file(1024 * G);
    const int fds[] = { fd, fd, fd };
    long long int start = time_msec();
    struct vhu_mem *mem, *none;
    struct rlimit limit, old;
    FILE *stream;
    char *error;
    long pages;

    if (VIRTIO_TSAN) {
        /* It has no such large hole in its address space every time. */
        exit(SKIP);
    }

    mem = must_create(specs, fds, ARRAY_SIZE(specs));
    ovs_assert(!vhu_mem_gpa_to_va(mem, 0xa0000, 1));
    ovs_assert(!vhu_mem_gpa_to_va(mem, 0x9ffff, 2));
    for (int i = 0; i < ARRAY_SIZE(specs); i++) {
        uint8_t *va = vhu_mem_gpa_to_va(mem, specs[i].guest_addr,
                                        specs[i].size);
        uint8_t byte;

        va[0] = va[specs[i].size - 1] = i + 1;
        ovs_assert(pread(fd, &byte, 1, specs[i].mmap_offset) == 1);
        ovs_assert(byte == i + 1);
    }

    ovs_assert(!getrlimit(RLIMIT_AS, &old));
    limit = old;
    stream = fopen("/proc/self/statm", "r");
    ovs_assert(fscanf(stream, "%ld", &pages) == 1);
    fclose(stream);
    limit.rlim_cur = pages * sysconf(_SC_PAGESIZE) + 512 * M;
    ovs_assert(!setrlimit(RLIMIT_AS, &limit));
    ovs_assert(vhu_mem_create(&whole, &fd, 1, &none, &error) == ENOMEM);
    ovs_assert(!none);
    printf("%s\n", error);
    free(error);
    ovs_assert(!setrlimit(RLIMIT_AS, &old));

    vhu_mem_destroy(mem);
    ovs_assert(time_msec() - start < 1000);
    close(fd);
}

/* Guest memory stays out of core dumps. */
static void
test_core(void)
{
    const struct vhost_user_mem_region spec = { 0, M, TOP, 0 };
    int fd = make_file(M);
    struct vhu_mem *mem = must_create(&spec, &fd, 1);

    ovs_assert(has_vm_flag(mem->regions[0].va, " dd"));
    vhu_mem_destroy(mem);
    close(fd);
}

/* The handler needs a descriptor, which may be missing at first. */
static void
test_no_fds(void)
{
    const struct vhost_user_mem_region spec = { 0, M, TOP, 0 };
    int fd = make_file(M);
    struct vhu_mem *mem;
    char *error;

    limit_fds(0);
    ovs_assert(vhu_mem_create(&spec, &fd, 1, &mem, &error) == EMFILE);
    puts(error);
    free(error);
    unlimit_fds();
    vhu_mem_destroy(must_create(&spec, &fd, 1));
    close(fd);
}

static void
test_vhu_mem_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*function)(void);
    } tests[] = {
        { "no-fds", test_no_fds }, /* First, while it has none. */
        { "create", test_create },
        { "files", test_files },
        { "translate", test_translate },
        { "slots", test_slots },
        { "many", test_many },
        { "truncate", test_truncate },
        { "seal", test_seal },
        { "foreign", test_foreign },
        { "churn", test_churn },
        { "mlockall", test_mlockall },
        { "sparse", test_sparse },
        { "core", test_core },

        /* Changes the user, so it must be the last. */
        { "mlock-limit", test_mlock_limit },
    };

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc < 2 || !strcmp(argv[1], tests[i].name)) {
            tests[i].function();
        }
    }
}

VHUTEST_REGISTER("vhu-mem", test_vhu_mem_main);
