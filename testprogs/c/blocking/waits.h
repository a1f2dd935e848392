/* SPDX-License-Identifier: MIT */
/* waits.h - cases with waits that transfer no data: readiness, time, signals, children, queues. */

#include <aio.h>
#include <mqueue.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <threads.h>

/* ---- Readiness ------------------------------------------------------------------------------ */

static void poll_call(unsigned i)
{
    struct pollfd one = { ends[0], POLLIN, 0 };
    (void)i;
    must(CALL(int (*)(struct pollfd *, nfds_t, int), poll, &one, 1, -1) == 1, "poll");
}

static void poll_chk_call(unsigned i)
{
    struct pollfd one = { ends[0], POLLIN, 0 };
    (void)i;
    must(((int (*)(struct pollfd *, nfds_t, int, size_t))named)(&one, 1, -1, sizeof one) == 1,
         "poll_chk");
}

static void ppoll_call(unsigned i)
{
    struct pollfd one = { ends[0], POLLIN, 0 };
    (void)i;
    must(CALL(int (*)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *), ppoll,
              &one, 1, NULL, NULL) == 1,
         "ppoll");
}

static void ppoll_chk_call(unsigned i)
{
    struct pollfd one = { ends[0], POLLIN, 0 };
    (void)i;
    must(((int (*)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *,
                   size_t))named)(&one, 1, NULL, NULL, sizeof one) == 1,
         "ppoll_chk");
}

static void select_call(unsigned i)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    (void)i;
    must(CALL(int (*)(int, fd_set *, fd_set *, fd_set *, struct timeval *), select, ends[0] + 1,
              &set, NULL, NULL, NULL) == 1,
         "select");
}

static void pselect_call(unsigned i)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    (void)i;
    must(CALL(int (*)(int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *),
              pselect, ends[0] + 1, &set, NULL, NULL, NULL, NULL) == 1,
         "pselect");
}

static int interest;

static void make_epoll(void)
{
    make_pipe();
    interest = epoll_create1(EPOLL_CLOEXEC);
    must(interest >= 0 && epoll_ctl(interest, EPOLL_CTL_ADD, ends[0],
                                    &(struct epoll_event){ .events = EPOLLIN }) == 0,
         "epoll");
}

static void epoll_wait_call(unsigned i)
{
    struct epoll_event event;
    (void)i;
    must(CALL(int (*)(int, struct epoll_event *, int, int), epoll_wait, interest, &event, 1, -1) ==
             1,
         "epoll_wait");
}

static void epoll_pwait_call(unsigned i)
{
    struct epoll_event event;
    (void)i;
    must(CALL(int (*)(int, struct epoll_event *, int, int, const sigset_t *), epoll_pwait, interest,
              &event, 1, -1, NULL) == 1,
         "epoll_pwait");
}

static void epoll_pwait2_call(unsigned i)
{
    struct epoll_event event;
    (void)i;
    must(((int (*)(int, struct epoll_event *, int, const struct timespec *,
                   const sigset_t *))named)(interest, &event, 1, NULL, NULL) == 1,
         "epoll_pwait2");
}

/* ---- Time ----------------------------------------------------------------------------------- */

static const struct timespec while_all_enter = { 0, 500000000 };

static void nanosleep_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(const struct timespec *, struct timespec *), nanosleep, &while_all_enter,
              NULL) == 0,
         "nanosleep");
}

static void clock_nanosleep_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(clockid_t, int, const struct timespec *, struct timespec *), clock_nanosleep,
              CLOCK_MONOTONIC, 0, &while_all_enter, NULL) == 0,
         "clock_nanosleep");
}

static void usleep_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(useconds_t), usleep, 500000) == 0, "usleep");
}

static void sleep_call(unsigned i)
{
    (void)i;
    must(CALL(unsigned (*)(unsigned), sleep, 1) == 0, "sleep");
}

static void thrd_sleep_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(const struct timespec *, struct timespec *), thrd_sleep, &while_all_enter,
              NULL) == 0,
         "thrd_sleep");
}

/* ---- Signals -------------------------------------------------------------------------------- */

static void ignore_it(int signal) { (void)signal; }

static atomic_int signals_go;

/* Sends the process a signal every millisecond. The thread itself blocks that signal. */
static void *send_signals(void *arg)
{
    while (!atomic_load(&hold_released) || !atomic_load(&signals_go))
        syscall(SYS_nanosleep, &(struct timespec){ 0, 1000000 }, NULL);
    for (;;) {
        syscall(SYS_kill, getpid(), SIGUSR1);
        syscall(SYS_nanosleep, &(struct timespec){ 0, 1000000 }, NULL);
    }
    return arg;
}

static void handle_signal(void)
{
    sigset_t set, before;
    pthread_t sender;
    must(sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = ignore_it }, NULL) == 0,
         "sigaction");
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    check(pthread_sigmask(SIG_BLOCK, &set, &before), "pthread_sigmask");
    check(pthread_create(&sender, NULL, send_signals, NULL), "pthread_create");
    check(pthread_sigmask(SIG_SETMASK, &before, NULL), "pthread_sigmask");
}

/* A signal that arrives while a fiber runs is handled there and interrupts no wait, so the thread
 * must be idle. */
static void wait_for_signals(void)
{
    if (task_options.threads) {
        for (int i = 0; i < TASKS; i++)
            pthread_kill(tasks[i].thread, SIGUSR1);
        task_yield();
    } else {
        atomic_store(&signals_go, 1);
        fiber_sleep(5000000);
    }
}

static void send_signal(void)
{
    must(kill(getpid(), SIGUSR1) == 0, "kill");
    task_yield();
}

static void pause_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(void), pause, ) == -1 && errno == EINTR, "pause");
}

static void sigsuspend_call(unsigned i)
{
    sigset_t none;
    sigemptyset(&none);
    (void)i;
    must(CALL(int (*)(const sigset_t *), sigsuspend, &none) == -1 && errno == EINTR, "sigsuspend");
}

/* The BSD version takes a mask. */
static void sigpause_call(unsigned i)
{
    (void)i;
    must(((int (*)(int))named)(0) == -1 && errno == EINTR, "sigpause");
}

static void sigpause_either_call(unsigned i)
{
    (void)i;
    must(((int (*)(int, int))named)(0, 0) == -1 && errno == EINTR, "sigpause");
}

/* The System V version takes a signal. */
static void sigpause_one_call(unsigned i)
{
    (void)i;
    must(((int (*)(int))named)(SIGUSR1) == -1 && errno == EINTR, "sigpause");
}

static sigset_t awaited;

static void block_signal(void)
{
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGUSR1);
    check(pthread_sigmask(SIG_BLOCK, &awaited, NULL), "pthread_sigmask");
}

static void sigwait_call(unsigned i)
{
    int got;
    (void)i;
    check(CALL(int (*)(const sigset_t *, int *), sigwait, &awaited, &got), "sigwait");
}

static void sigwaitinfo_call(unsigned i)
{
    (void)i;
    while (CALL(int (*)(const sigset_t *, siginfo_t *), sigwaitinfo, &awaited, NULL) != SIGUSR1)
        must(errno == EINTR, "sigwaitinfo");
}

static void sigtimedwait_call(unsigned i)
{
    struct timespec hour = { 3600, 0 };
    (void)i;
    while (CALL(int (*)(const sigset_t *, siginfo_t *, const struct timespec *), sigtimedwait,
                &awaited, NULL, &hour) != SIGUSR1)
        must(errno == EINTR, "sigtimedwait");
}

/* ---- Children ------------------------------------------------------------------------------- */

static pid_t children[TASKS];

/* Starts children that end when this end of the pipe is closed. */
static void make_children(void)
{
    make_pipe();
    for (int i = 0; i < TASKS; i++)
        if ((children[i] = fork()) == 0) {
            char byte;
            close(ends[1]);
            while (syscall(SYS_read, ends[0], &byte, 1) < 0)
                ;
            _exit(0);
        } else if (children[i] < 0) {
            die("fork");
        }
}

static void wait_call(unsigned i)
{
    (void)i;
    must(CALL(pid_t(*)(int *), wait, NULL) > 0, "wait");
}

static void waitpid_call(unsigned i)
{
    must(CALL(pid_t(*)(pid_t, int *, int), waitpid, children[i], NULL, 0) == children[i],
         "waitpid");
}

static void wait3_call(unsigned i)
{
    (void)i;
    must(CALL(pid_t(*)(int *, int, struct rusage *), wait3, NULL, 0, NULL) > 0, "wait3");
}

static void wait4_call(unsigned i)
{
    must(CALL(pid_t(*)(pid_t, int *, int, struct rusage *), wait4, children[i], NULL, 0, NULL) ==
             children[i],
         "wait4");
}

static void waitid_call(unsigned i)
{
    siginfo_t info;
    must(CALL(int (*)(idtype_t, id_t, siginfo_t *, int), waitid, P_PID, (id_t)children[i], &info,
              WEXITED) == 0,
         "waitid");
}

static void system_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(const char *), system, "read x < fifo") != -1, "system");
}

/* ---- Queues and semaphore sets -------------------------------------------------------------- */

static int queue;
static mqd_t posix_queue;
static struct {
    long kind;
    char text[1024];
} message;

static void make_queue(void)
{
    queue = msgget(IPC_PRIVATE, 0600);
    must(queue >= 0, "msgget");
    message.kind = 1;
}

static void send_message(void)
{
    must(msgsnd(queue, &message, 1, IPC_NOWAIT) == 0 || errno == EAGAIN, "msgsnd");
}

static void make_full_queue(void)
{
    make_queue();
    while (msgsnd(queue, &message, sizeof message.text, IPC_NOWAIT) == 0)
        ;
}

static void take_message(void)
{
    static struct {
        long kind;
        char text[1024];
    } taken;
    (void)!msgrcv(queue, &taken, sizeof taken.text, 0, IPC_NOWAIT);
}

static void msgrcv_call(unsigned i)
{
    struct {
        long kind;
        char text[1024];
    } taken;
    (void)i;
    must(CALL(ssize_t(*)(int, void *, size_t, long, int), msgrcv, queue, &taken, sizeof taken.text,
              0, 0) >= 0,
         "msgrcv");
}

static void msgsnd_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(int, const void *, size_t, int), msgsnd, queue, &message, sizeof message.text,
              0) == 0,
         "msgsnd");
}

static int set;

static void make_set(void)
{
    set = semget(IPC_PRIVATE, 1, 0600);
    must(set >= 0, "semget");
}

static void up(void)
{
    struct sembuf one = { 0, 1, 0 };
    must(semop(set, &one, 1) == 0, "semop");
}

static void semop_call(unsigned i)
{
    struct sembuf down = { 0, -1, 0 };
    (void)i;
    must(CALL(int (*)(int, struct sembuf *, size_t), semop, set, &down, 1) == 0, "semop");
}

static void semtimedop_call(unsigned i)
{
    struct sembuf down = { 0, -1, 0 };
    struct timespec hour = { 3600, 0 };
    (void)i;
    must(CALL(int (*)(int, struct sembuf *, size_t, const struct timespec *), semtimedop, set,
              &down, 1, &hour) == 0,
         "semtimedop");
}

static void make_posix_queue(void)
{
    char name[64];
    snprintf(name, sizeof name, "/aioshim-blocking-%ld", (long)getpid());
    struct mq_attr attributes = { .mq_maxmsg = 1, .mq_msgsize = 8 };
    posix_queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
    must(posix_queue >= 0, "mq_open");
    mq_unlink(name);
}

static void make_full_posix_queue(void)
{
    make_posix_queue();
    must(mq_send(posix_queue, "x", 1, 0) == 0, "mq_send");
}

static const struct timespec past = { 1, 0 };

static void post_message(void) { (void)!mq_timedsend(posix_queue, "x", 1, 0, &past); }

static void take_posix_message(void)
{
    char text[8];
    (void)!mq_timedreceive(posix_queue, text, sizeof text, NULL, &past);
}

static struct timespec in_an_hour(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec += 3600;
    return now;
}

static void mq_receive_call(unsigned i)
{
    char text[8];
    (void)i;
    must(CALL(ssize_t(*)(mqd_t, char *, size_t, unsigned *), mq_receive, posix_queue, text,
              sizeof text, NULL) == 1,
         "mq_receive");
}

static void mq_timedreceive_call(unsigned i)
{
    char text[8];
    struct timespec until = in_an_hour();
    (void)i;
    must(CALL(ssize_t(*)(mqd_t, char *, size_t, unsigned *, const struct timespec *),
              mq_timedreceive, posix_queue, text, sizeof text, NULL, &until) == 1,
         "mq_timedreceive");
}

static void mq_send_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(mqd_t, const char *, size_t, unsigned), mq_send, posix_queue, "x", 1, 0) == 0,
         "mq_send");
}

static void mq_timedsend_call(unsigned i)
{
    struct timespec until = in_an_hour();
    (void)i;
    must(CALL(int (*)(mqd_t, const char *, size_t, unsigned, const struct timespec *), mq_timedsend,
              posix_queue, "x", 1, 0, &until) == 0,
         "mq_timedsend");
}

static void make_event(void)
{
    ends[0] = ends[1] = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
    must(ends[0] >= 0, "eventfd");
}

static void make_full_event(void)
{
    ends[0] = ends[1] = eventfd(0, EFD_CLOEXEC);
    must(ends[0] >= 0 && eventfd_write(ends[1], UINT64_MAX - 1) == 0, "eventfd");
}

static void raise_event(void) { must(eventfd_write(ends[1], 1) == 0, "eventfd_write"); }

static void lower_event(void)
{
    struct pollfd one = { ends[0], POLLIN, 0 };
    eventfd_t value;
    if (poll(&one, 1, 0) == 1)
        must(eventfd_read(ends[0], &value) == 0, "eventfd_read");
}

static void eventfd_read_call(unsigned i)
{
    eventfd_t value;
    (void)i;
    must(CALL(int (*)(int, eventfd_t *), eventfd_read, ends[0], &value) == 0, "eventfd_read");
}

static void eventfd_write_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(int, eventfd_t), eventfd_write, ends[1], UINT64_MAX - 1) == 0,
         "eventfd_write");
}

/* ---- POSIX asynchronous I/O ----------------------------------------------------------------- */

static struct aiocb one_read;
static char one_byte;

static void begin_read(void)
{
    make_pipe();
    one_read = (struct aiocb){
        .aio_fildes = ends[0], .aio_buf = &one_byte, .aio_nbytes = 1, .aio_lio_opcode = LIO_READ
    };
    must(aio_read(&one_read) == 0, "aio_read");
}

static void aio_suspend_call(unsigned i)
{
    const struct aiocb *list[] = { &one_read };
    (void)i;
    must(CALL(int (*)(const struct aiocb *const[], int, const struct timespec *), aio_suspend, list,
              1, NULL) == 0,
         "aio_suspend");
}

static void lio_listio_call(unsigned i)
{
    static struct aiocb reads[TASKS];
    static char bytes[TASKS];
    reads[i] = (struct aiocb){
        .aio_fildes = ends[0], .aio_buf = &bytes[i], .aio_nbytes = 1, .aio_lio_opcode = LIO_READ
    };
    struct aiocb *list[] = { &reads[i] };
    must(CALL(int (*)(int, struct aiocb *const[], int, struct sigevent *), lio_listio, LIO_WAIT,
              list, 1, NULL) == 0,
         "lio_listio");
}

static const struct blocking waits[] = {
    { "poll __poll", make_pipe, poll_call, feed_pipe, 0, { 0 }, 0 },
    { "__poll_chk", make_pipe, poll_chk_call, feed_pipe, 0, { 0 }, 0 },
    { "ppoll", make_pipe, ppoll_call, feed_pipe, 0, { 0 }, 0 },
    { "__ppoll_chk", make_pipe, ppoll_chk_call, feed_pipe, 0, { 0 }, 0 },
    { "select __select", make_pipe, select_call, feed_pipe, 0, { 0 }, 0 },
    { "pselect", make_pipe, pselect_call, feed_pipe, 0, { 0 }, 0 },
    { "epoll_wait", make_epoll, epoll_wait_call, feed_pipe, 0, { 0 }, 0 },
    { "epoll_pwait", make_epoll, epoll_pwait_call, feed_pipe, 0, { 0 }, 0 },
    { "epoll_pwait2", make_epoll, epoll_pwait2_call, feed_pipe, 0, { 0 }, 0 },
    { "nanosleep __nanosleep", NULL, nanosleep_call, NULL, 1, { 0 }, 0 },
    { "clock_nanosleep", NULL, clock_nanosleep_call, NULL, 1, { 0 }, 0 },
    { "usleep", NULL, usleep_call, NULL, 1, { 0 }, 0 },
    { "sleep", NULL, sleep_call, NULL, 1, { 0 }, 0 },
    { "thrd_sleep", NULL, thrd_sleep_call, NULL, 1, { 0 }, 0 },
    { "pause", handle_signal, pause_call, wait_for_signals, 0, { 0 }, 0 },
    { "sigsuspend __sigsuspend", handle_signal, sigsuspend_call, wait_for_signals, 0, { 0 }, 0 },
    { "sigpause", handle_signal, sigpause_call, wait_for_signals, 0, { 0 }, 0 },
    { "__sigpause", handle_signal, sigpause_either_call, wait_for_signals, 0, { 0 }, 0 },
    { "__xpg_sigpause", handle_signal, sigpause_one_call, wait_for_signals, 0, { 0 }, 0 },
    { "sigwait", block_signal, sigwait_call, send_signal, 0, { 0 }, 0 },
    { "sigwaitinfo", block_signal, sigwaitinfo_call, send_signal, 0, { 0 }, 0 },
    { "sigtimedwait __sigtimedwait", block_signal, sigtimedwait_call, send_signal, 0, { 0 }, 0 },
    { "wait __wait", make_children, wait_call, close_writer, 0, { 0 }, 0 },
    { "waitpid __waitpid", make_children, waitpid_call, close_writer, 0, { 0 }, 0 },
    { "wait3", make_children, wait3_call, close_writer, 0, { 0 }, 0 },
    { "wait4", make_children, wait4_call, close_writer, 0, { 0 }, 0 },
    { "waitid", make_children, waitid_call, close_writer, 0, { 0 }, 0 },
    { "system", make_fifo, system_call, open_for_writing, 0, { 0 }, 0 },
    { "msgrcv", make_queue, msgrcv_call, send_message, 0, { 0 }, 0 },
    { "msgsnd", make_full_queue, msgsnd_call, take_message, 0, { 0 }, 0 },
    { "semop", make_set, semop_call, up, 0, { 0 }, 0 },
    { "semtimedop", make_set, semtimedop_call, up, 0, { 0 }, 0 },
    { "mq_receive", make_posix_queue, mq_receive_call, post_message, 0, { 0 }, 0 },
    { "mq_timedreceive", make_posix_queue, mq_timedreceive_call, post_message, 0, { 0 }, 0 },
    { "mq_send", make_full_posix_queue, mq_send_call, take_posix_message, 0, { 0 }, 0 },
    { "mq_timedsend", make_full_posix_queue, mq_timedsend_call, take_posix_message, 0, { 0 }, 0 },
    { "eventfd_read", make_event, eventfd_read_call, raise_event, 0, { 0 }, 0 },
    { "eventfd_write", make_full_event, eventfd_write_call, lower_event, 0, { 0 }, 0 },
    { "aio_suspend aio_suspend64", begin_read, aio_suspend_call, feed_pipe, 0, { 0 }, 0 },
    { "lio_listio lio_listio64", make_pipe, lio_listio_call, feed_pipe, 0, { 0 }, 0 },
};
