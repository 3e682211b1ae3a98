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

#include "vhu-sigbus.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "openvswitch/poll-loop.h"
#include "openvswitch/util.h"
#include "ovs-thread.h"
#include "util.h"

/* A registered mapping.
 *
 * 'seq' is odd while the slot is in use and changes whenever the slot does:
 * the handler reads it before and after the rest, and so never combines parts
 * of two mappings. */
struct vhu_sigbus_slot {
    ATOMIC(uint32_t) seq;
    ATOMIC(char *) base;
    ATOMIC(size_t) size;
    ATOMIC(size_t) page_size;
    ATOMIC(atomic_bool *) vanished;
};

/* Slots are never freed, so that the handler may walk them at any time. */
#define CHUNK_SLOTS 64
struct chunk {
    struct vhu_sigbus_slot slots[CHUNK_SLOTS];
    ATOMIC(struct chunk *) next;
};

static struct ovs_mutex mutex = OVS_MUTEX_INITIALIZER;
static struct chunk first_chunk;

/* Set once, before the handler is installed. */
static struct sigaction old_action;
static int wake_fd = -1;

/* Copy of what a slot holds. */
struct range {
    char *base;
    size_t size;
    size_t page_size;
    atomic_bool *vanished;
};

/* Copies 'slot' to '*range'.  Returns false if it is not in use or changes
 * right now, which it does not while anyone uses its memory. */
static bool
read_slot(struct vhu_sigbus_slot *slot, struct range *range)
{
    uint32_t before, after;

    /* Pairs with the release in write_slot(). */
    atomic_read_explicit(&slot->seq, &before, memory_order_acquire);
    if (!(before & 1)) {
        return false;
    }
    atomic_read_relaxed(&slot->base, &range->base);
    atomic_read_relaxed(&slot->size, &range->size);
    atomic_read_relaxed(&slot->page_size, &range->page_size);
    atomic_read_relaxed(&slot->vanished, &range->vanished);

    /* Pairs with the release fence in write_slot(). */
    atomic_thread_fence(memory_order_acquire);
    atomic_read_relaxed(&slot->seq, &after);
    return before == after;
}

/* Puts '*range' into 'slot'; empties it if 'range' is NULL. */
static void
write_slot(struct vhu_sigbus_slot *slot, const struct range *range)
    OVS_REQUIRES(mutex)
{
    uint32_t seq;

    atomic_read_relaxed(&slot->seq, &seq);
    if (!range) {
        atomic_store_explicit(&slot->seq, seq + 1, memory_order_release);
        return;
    }

    /* 'seq' is even, and was already when the slot was emptied: the fence
     * orders that store before these. */
    atomic_thread_fence(memory_order_release);
    atomic_store_relaxed(&slot->base, range->base);
    atomic_store_relaxed(&slot->size, range->size);
    atomic_store_relaxed(&slot->page_size, range->page_size);
    atomic_store_relaxed(&slot->vanished, range->vanished);
    atomic_store_explicit(&slot->seq, seq + 1, memory_order_release);
}

/* At the time of mmap() nothing is accessible, and so nothing is populated;
 * when it becomes accessible it is not locked any more.
 *
 * The kernel compares a locked mapping with RLIMIT_MEMLOCK as it is made.  If
 * there is no room, one page is mapped that grows after it was unlocked; huge
 * pages cannot grow. */
void *
vhu_mmap_unlocked(size_t size, int flags, int fd, off_t offset)
{
    size_t mapped = size;
    void *p, *bigger;
    int save_errno;

    p = mmap(NULL, size, PROT_NONE, flags | MAP_NORESERVE, fd, offset);
    if (p == MAP_FAILED && errno == EAGAIN) {
        mapped = sysconf(_SC_PAGESIZE);
        p = mmap(NULL, mapped, PROT_NONE, flags | MAP_NORESERVE, fd, offset);
    }
    if (p == MAP_FAILED) {
        return p;
    }
    munlock(p, mapped);
    bigger = (mapped == size ? p : mremap(p, mapped, size, MREMAP_MAYMOVE));
    if (bigger != MAP_FAILED) {
        p = bigger;
        mapped = size;
        if (!mprotect(p, size, PROT_READ | PROT_WRITE)) {
            return p;
        }
    }
    save_errno = errno;
    munmap(p, mapped);
    errno = save_errno;
    return MAP_FAILED;
}

/* Puts zero pages over the 'size' bytes at 'base'.  Returns false on failure.
 *
 * That must not happen in place, where another thread may be reading: mremap()
 * replaces the old pages in one step. */
static bool
put_zeros(char *base, size_t size)
{
    void *p = vhu_mmap_unlocked(size, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return false;
    }
    madvise(p, size, MADV_DONTDUMP);
    if (mremap(p, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, base)
        == MAP_FAILED) {
        munmap(p, size);
        return false;
    }
    return true;
}

/* Repairs the mapping that 'addr' is in.  Returns false if there is none. */
static bool
repair(char *addr)
{
    struct chunk *c = &first_chunk;

    while (c) {
        for (size_t i = 0; i < CHUNK_SLOTS; i++) {
            struct range r;

            if (!read_slot(&c->slots[i], &r)
                || (uintptr_t) addr - (uintptr_t) r.base >= r.size) {
                continue;
            }

            /* First the flag: whoever reads zeros must find it set. */
            atomic_store(r.vanished, true);
            if (!put_zeros(r.base, r.size)) {
                /* No address space or no permission for that much.  One page
                 * at a time will do, too. */
                size_t ofs = addr - r.base;

                if (!put_zeros(r.base + ofs / r.page_size * r.page_size,
                               r.page_size)) {
                    return false;
                }
            }
            eventfd_write(wake_fd, 1);
            return true;
        }
        atomic_read_explicit(&c->next, &c, memory_order_acquire);
    }
    return false;
}

/* Does what would have happened to a signal that is not for us. */
static void
chain(int signr, siginfo_t *info, void *context)
{
    if (old_action.sa_flags & SA_SIGINFO) {
        old_action.sa_sigaction(signr, info, context);
    } else if (old_action.sa_handler == SIG_IGN && info->si_code <= 0) {
        /* Somebody called kill(), and we ignore it. */
    } else if (old_action.sa_handler == SIG_DFL
               || old_action.sa_handler == SIG_IGN) {
        /* The signal is blocked while the handler runs: this one is delivered
         * at its end, with the registers of the faulting instruction. */
        signal(signr, SIG_DFL);
        raise(signr);
    } else {
        old_action.sa_handler(signr);
    }
}

static void
handle_sigbus(int signr, siginfo_t *info, void *context)
{
    int save_errno = errno;

    /* A positive code is a fault and has an address. */
    if (info->si_code <= 0 || !repair(info->si_addr)) {
        chain(signr, info, context);
    }
    errno = save_errno;
}

static int
install(void)
    OVS_REQUIRES(mutex)
{
    struct sigaction sa;

    wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake_fd < 0) {
        return errno;
    }

    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = handle_sigbus;
    sa.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&sa.sa_mask);
    sigaction(SIGBUS, NULL, &old_action);
    sigaction(SIGBUS, &sa, NULL);
    return 0;
}

int
vhu_sigbus_init(void)
{
    int error;

    ovs_mutex_lock(&mutex);
    error = wake_fd < 0 ? install() : 0;
    ovs_mutex_unlock(&mutex);
    return error;
}

/* Returns a slot that is not in use. */
static struct vhu_sigbus_slot *
find_free_slot(void)
    OVS_REQUIRES(mutex)
{
    struct chunk *c = &first_chunk;

    for (;;) {
        struct chunk *next;

        for (size_t i = 0; i < CHUNK_SLOTS; i++) {
            uint32_t seq;

            atomic_read_relaxed(&c->slots[i].seq, &seq);
            if (!(seq & 1)) {
                return &c->slots[i];
            }
        }

        atomic_read_relaxed(&c->next, &next);
        if (!next) {
            next = xzalloc(sizeof *next);

            /* Pairs with the acquire in repair(). */
            atomic_store_explicit(&c->next, next, memory_order_release);
        }
        c = next;
    }
}

struct vhu_sigbus_slot *
vhu_sigbus_add(void *base, size_t size, size_t page_size,
               atomic_bool *vanished)
{
    const struct range range = { base, size, page_size, vanished };
    struct vhu_sigbus_slot *slot;

    ovs_assert(wake_fd >= 0);

    ovs_mutex_lock(&mutex);
    slot = find_free_slot();
    write_slot(slot, &range);
    ovs_mutex_unlock(&mutex);
    return slot;
}

void
vhu_sigbus_remove(struct vhu_sigbus_slot *slot)
{
    ovs_mutex_lock(&mutex);
    write_slot(slot, NULL);
    ovs_mutex_unlock(&mutex);
}

void
vhu_sigbus_wait(void)
{
    if (!vhu_sigbus_init()) {
        poll_fd_wait(wake_fd, POLLIN);
    }
}

void
vhu_sigbus_clear(void)
{
    eventfd_t n;

    if (!vhu_sigbus_init()) {
        eventfd_read(wake_fd, &n);
    }
}
