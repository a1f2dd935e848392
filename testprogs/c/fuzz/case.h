/* SPDX-License-Identifier: MIT */
/* case.h - common parts of all scenes of a random program: actors, their random numbers, checked
 * calls and violations.
 *
 * A case consists of a few scenes that run concurrently. A scene has a leader and further actors,
 * each a task with its own random numbers. The seed alone decides which calls every actor makes,
 * but not when. */
#ifndef FUZZ_CASE_H
#define FUZZ_CASE_H

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "task.h"

enum {
    ACTORS = 1024,
    /* No call sets errno to this value, so a call that succeeds must leave it there. */
    ERRNO_UNTOUCHED = 4242,
};

struct actor {
    const char *scene;
    unsigned index;
    uint64_t random;
    void (*work)(struct actor *self, void *data);
    void *data;
    task_t task;
    /* For the watchdog: the call the actor is in, NULL between calls, and since when. */
    const char *volatile call;
    volatile int fd;
    volatile uint64_t since;
    volatile int alive;
};

static struct {
    uint64_t seed;
    unsigned seconds; /* the watchdog's limit */
    int interrupts;   /* a handler without SA_RESTART is installed: calls may fail with EINTR */
    unsigned violations;
    unsigned actor_count;
    sigset_t mask; /* every task starts and ends with this signal mask */
    struct actor actors[ACTORS];
} fuzz;

/* ---- Violations ----------------------------------------------------------------------------- */

/* Prints one line. The case continues and fails when it ends. The line is a single write, so lines
 * never mix. */
__attribute__((format(printf, 2, 3))) static inline void violation(const struct actor *self,
                                                                   const char *format, ...)
{
    char line[512];
    int saved = errno;
    va_list args;
    va_start(args, format);
    int n = snprintf(line, sizeof line, "seed %" PRIu64 ": %s/%u: ", fuzz.seed, self->scene,
                     self->index);
    n += vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    va_end(args);
    if (n > (int)sizeof line - 2)
        n = (int)sizeof line - 2;
    line[n++] = '\n';
    /* The first few violations tell the story. */
    if (__atomic_fetch_add(&fuzz.violations, 1, __ATOMIC_RELAXED) < 8 &&
        syscall(SYS_write, 2, line, (size_t)n) < 0)
        _exit(EXIT_FAILURE);
    errno = saved;
}

#define REQUIRE(self, condition, ...)       \
    do {                                    \
        if (!(condition))                   \
            violation((self), __VA_ARGS__); \
    } while (0)

/* ---- Calls ---------------------------------------------------------------------------------- */

static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static inline void enter_call(struct actor *self, const char *call, int fd)
{
    self->fd = fd;
    self->since = now_ns();
    self->call = call;
    errno = ERRNO_UNTOUCHED;
}

static inline long leave_call(struct actor *self, long result)
{
    int error = errno;
    REQUIRE(self, result == -1 || error == ERRNO_UNTOUCHED, "%s succeeded and set errno to %s",
            self->call, strerror(error));
    self->call = NULL;
    errno = error;
    return result;
}

/* Makes one call on a descriptor. A success must leave errno alone. */
#define CALL(self, fd, call)              \
    __extension__({                       \
        enter_call((self), #call, (fd));  \
        leave_call((self), (long)(call)); \
    })

/* Whether the call that just failed was interrupted. That is correct only if a handler may
 * interrupt it. */
static inline int interrupted(const struct actor *self, const char *call)
{
    if (errno != EINTR)
        return 0;
    REQUIRE(self, fuzz.interrupts, "%s: EINTR though every handler has SA_RESTART", call);
    return 1;
}

/* Makes a call that the kernel restarts after a handler with SA_RESTART; repeats it while it is
 * interrupted. */
#define RESTARTED(self, fd, call)                                     \
    __extension__({                                                   \
        long restarted_result;                                        \
        do                                                            \
            restarted_result = CALL(self, fd, call);                  \
        while (restarted_result == -1 && interrupted((self), #call)); \
        restarted_result;                                             \
    })

/* Makes a call that must succeed. */
#define MUST(self, fd, call)                                                  \
    __extension__({                                                           \
        long must_result = RESTARTED(self, fd, call);                         \
        REQUIRE((self), must_result != -1, "%s: %s", #call, strerror(errno)); \
        must_result;                                                          \
    })

static inline void write_all(struct actor *self, int fd, const void *data, size_t size)
{
    for (const char *at = data; size > 0;) {
        long n = MUST(self, fd, write(fd, at, size));
        if (n <= 0)
            return;
        at += n;
        size -= (size_t)n;
    }
}

static inline size_t read_all(struct actor *self, int fd, void *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        long n = MUST(self, fd, read(fd, (char *)data + done, size - done));
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done;
}

static inline void close_fd(struct actor *self, int fd)
{
    if (CALL(self, fd, close(fd)) == -1 && errno != EINTR)
        violation(self, "close(%d): %s", fd, strerror(errno));
}

/* Sleeps for at least this long, unless a signal ends the sleep. */
static inline void rest(struct actor *self, unsigned microseconds)
{
    struct timespec time = { microseconds / 1000000, microseconds % 1000000 * 1000L };
    if (CALL(self, -1, nanosleep(&time, NULL)) == -1)
        REQUIRE(self, errno == EINTR, "nanosleep: %s", strerror(errno));
}

/* ---- Random numbers ------------------------------------------------------------------------- */

static inline uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (x ^ x >> 31) | 1;
}

static inline unsigned below(struct actor *self, unsigned limit)
{
    return (unsigned)((next_random(&self->random) >> 16) % limit);
}

static inline unsigned between(struct actor *self, unsigned low, unsigned high)
{
    return low + below(self, high - low + 1);
}

static inline int chance(struct actor *self, unsigned percent)
{
    return below(self, 100) < percent;
}

/* ---- Actors --------------------------------------------------------------------------------- */

static inline pid_t thread_id(void) { return (pid_t)syscall(SYS_gettid); }

static inline void check_mask(const struct actor *self, const char *when)
{
    sigset_t mask;
    sigemptyset(&mask);
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    for (int s = 1; s <= SIGRTMAX; s++)
        /* Signals reserved by libc are in neither set. */
        REQUIRE(self, sigismember(&mask, s) == sigismember(&fuzz.mask, s), "signal %d is %s %s", s,
                sigismember(&mask, s) ? "blocked" : "not blocked", when);
}

static inline void *actor_main(void *arg)
{
    struct actor *self = arg;
    self->work(self, self->data);
    check_mask(self, "when the task ends");
    self->alive = 0;
    return NULL;
}

static inline struct actor *new_actor(const char *scene, uint64_t random,
                                      void (*work)(struct actor *, void *), void *data)
{
    unsigned index = __atomic_fetch_add(&fuzz.actor_count, 1, __ATOMIC_RELAXED);
    if (index >= ACTORS)
        wrong("a case has more than %d actors", ACTORS);
    struct actor *actor = &fuzz.actors[index];
    *actor = (struct actor){
        .scene = scene, .index = index, .random = mix(random), .work = work, .data = data
    };
    actor->alive = 1;
    return actor;
}

static inline struct actor *start(struct actor *parent, void (*work)(struct actor *, void *),
                                  void *data)
{
    struct actor *actor = new_actor(parent->scene, next_random(&parent->random), work, data);
    actor->task = task_spawn(actor_main, actor);
    return actor;
}

static inline void *finish(struct actor *self, struct actor *actor)
{
    enter_call(self, "join", (int)actor->index);
    void *result = task_join(actor->task);
    self->call = NULL;
    return result;
}

#endif
