/* SPDX-License-Identifier: MIT */
/* swap.h - the scene "swap": a call acts on the file that its number meant when the call was made.
 *
 * A victim makes a call on a number. Once the call is certainly in progress, another task puts
 * another file under the number, or closes it. The call must act only on the first file.
 *
 * There are two ways to know that the call is in progress. A fiber runs until it parks: if another
 * fiber of the same OS thread runs between the victim's last step before the call and its first
 * step after it, the victim is in the call. For a thread, the kernel reports it. Without either
 * proof the round does not replace the descriptor. */
#ifndef FUZZ_SWAP_H
#define FUZZ_SWAP_H

#include "swapfiles.h"

/* ---- The victim ----------------------------------------------------------------------------- */

static long make_swap_call(struct actor *self, struct swap *s)
{
    int fd = s->number;
    struct iovec whole = { s->block, SWAP_BLOCK };
    struct msghdr message = { .msg_iov = &whole, .msg_iovlen = 1 };
    switch (s->call) {
    case SWAP_SYNC:
        switch (s->way % 3) {
        case 0: return RESTARTED(self, fd, fsync(fd));
        case 1: return RESTARTED(self, fd, fdatasync(fd));
        default:
            return RESTARTED(
                self, fd,
                sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
        }
    case SWAP_READ:
        return s->way % 2 ? RESTARTED(self, fd, readv(fd, &whole, 1))
                          : RESTARTED(self, fd, read(fd, s->block, SWAP_BLOCK));
    case SWAP_RECV:
        return s->way % 2 ? RESTARTED(self, fd, recvmsg(fd, &message, 0))
                          : RESTARTED(self, fd, recv(fd, s->block, SWAP_BLOCK, 0));
    case SWAP_WRITE:
        return s->way % 2 ? RESTARTED(self, fd, writev(fd, &whole, 1))
                          : RESTARTED(self, fd, write(fd, s->block, SWAP_BLOCK));
    case SWAP_SEND:
        return s->way % 2 ? RESTARTED(self, fd, sendmsg(fd, &message, MSG_NOSIGNAL))
                          : RESTARTED(self, fd, send(fd, s->block, SWAP_BLOCK, MSG_NOSIGNAL));
    case SWAP_STORE:
        switch (s->way % 3) {
        case 0: return RESTARTED(self, fd, pwrite(fd, s->block, SWAP_BLOCK, 0));
        case 1: return RESTARTED(self, fd, write(fd, s->block, SWAP_BLOCK));
        default: return RESTARTED(self, fd, pwritev(fd, &whole, 1, 0));
        }
    case SWAP_FLOCK: return RESTARTED(self, fd, flock(fd, LOCK_EX));
    default: return RESTARTED(self, fd, accept4(fd, NULL, NULL, SOCK_CLOEXEC));
    }
}

static void swap_victim(struct actor *self, void *data)
{
    struct swap *s = data;
    unsigned round = 0;
    s->thread = thread_id();
    while (!s->stop) {
        if (s->turn == round) {
            task_yield();
            continue;
        }
        round = s->turn;
        __atomic_store_n(&s->entering, round, __ATOMIC_SEQ_CST);
        s->result = make_swap_call(self, s);
        s->error = errno;
        __atomic_store_n(&s->done, round, __ATOMIC_SEQ_CST);
    }
}

/* ---- Whether the victim is in its call ------------------------------------------------------ */

/* Asks the kernel whether the thread waits in a system call on this descriptor. */
static int kernel_says_inside(const struct swap *s)
{
    char path[64], text[128];
    long call;
    unsigned long fd;
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int)s->thread);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t n = read(file, text, sizeof text - 1);
    close(file);
    text[n > 0 ? n : 0] = '\0';
    /* The file says "running" while the thread computes. */
    return sscanf(text, "%ld %lx", &call, &fd) == 2 && fd == (unsigned long)s->number &&
           call != SYS_futex;
}

static int look_inside(const struct swap *s, unsigned round)
{
    if (s->entering != round || s->done == round)
        return 0;
    if (task_options.threads)
        return kernel_says_inside(s) && s->done != round;
    return thread_id() == s->thread;
}

/* Fibers that run next to the victim. A fiber that finds the victim in its call keeps the OS thread
 * busy for a while. An operation that the call has only queued for the end of the round is then not
 * yet submitted when the number changes. */
static void swap_witness(struct actor *self, void *data)
{
    struct swap *s = data;
    while (!s->stop) {
        unsigned round = s->turn;
        if (s->inside != round && look_inside(s, round)) {
            s->inside = round;
            uint64_t limit = now_ns() + 400000;
            while (s->replaced != round && s->done != round && now_ns() < limit)
                ;
        }
        if (chance(self, 20))
            rest(self, 30);
        else
            task_yield();
    }
}

/* ---- The leader ----------------------------------------------------------------------------- */

static void swap_round(struct actor *self, struct swap *s, unsigned round)
{
    struct sockaddr_un address[2];
    s->call = chance(self, 35) ? SWAP_SYNC : below(self, SWAP_CALLS);
    s->way = below(self, 6);
    open_both(self, s, address);
    MUST(self, s->number, dup2(s->first, s->number));
    __atomic_store_n(&s->turn, round, __ATOMIC_SEQ_CST);
    uint64_t limit = now_ns() + 20000000;
    while (s->inside != round && s->done != round && now_ns() < limit) {
        if (look_inside(s, round))
            s->inside = round;
        else
            task_yield();
    }
    unsigned how = below(self, 6), pause = chance(self, 30) ? below(self, 200) : 0;
    if (s->inside == round) {
        replace(self, s, how);
        s->replaced = round;
    }
    if (pause)
        rest(self, pause);
    end_the_wait(self, s, address);
    if (s->call == SWAP_WRITE || s->call == SWAP_SEND) {
        size_t marks = drain_marks(self, s->first_peer, SWAP_BLOCK);
        REQUIRE(self, marks == SWAP_BLOCK, "of a write of %d bytes %zu came", SWAP_BLOCK, marks);
    }
    enter_call(self, "the victim's call", s->number);
    while (s->done != round)
        rest(self, 50);
    self->call = NULL;
    check_swap(self, s);
    int fds[] = { s->first, s->second, s->first_peer, s->second_peer };
    for (int i = 0; i < 4; i++)
        if (fds[i] >= 0)
            close_fd(self, fds[i]);
    static const char *const names[] = { "swap-a", "swap-b" };
    for (int i = 0; i < 2; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s.%u", names[i], self->index);
        unlink(path);
    }
}

static void swap_scene(struct actor *self, void *unused)
{
    /* Uses high numbers, because every open takes the lowest free one. */
    static int next_number = 300;
    (void)unused;
    struct swap *s = allocate(sizeof *s);
    struct actor *others[SWAP_WITNESSES + 1];
    s->block = allocate_aligned(SWAP_BLOCK);
    int null = (int)MUST(self, -1, open("/dev/null", O_RDWR | O_CLOEXEC));
    s->number = __atomic_fetch_add(&next_number, 1, __ATOMIC_RELAXED);
    others[0] = start(self, swap_victim, s);
    for (int i = 1; i <= SWAP_WITNESSES; i++)
        others[i] = start(self, swap_witness, s);
    for (unsigned round = 1; round <= SWAP_ROUNDS; round++) {
        MUST(self, null, dup2(null, s->number));
        swap_round(self, s, round);
    }
    s->stop = 1;
    for (int i = 0; i <= SWAP_WITNESSES; i++)
        finish(self, others[i]);
    close(s->number); /* which a round may have closed */
    close_fd(self, null);
    free(s->block);
    free(s);
}

#endif
