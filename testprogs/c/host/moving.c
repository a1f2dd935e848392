/* SPDX-License-Identifier: MIT */
/* moving - a scheduler that moves its fibers from thread to thread between their calls. A fiber
 * that the shim has parked stays on its thread until its call has returned. */
#define _GNU_SOURCE
#include "scheduler.h"

#include <errno.h>
#include <locale.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>

enum { THREADS = 3, ROUNDS = 30, MOVING = 24 };

static struct scheduler schedulers[THREADS];
static _Thread_local struct scheduler *here;

static struct {
    pthread_mutex_t lock;
    struct fiber *arrivals[THREADS][FIBERS];
    unsigned count[THREADS];
} moves = { .lock = PTHREAD_MUTEX_INITIALIZER };
static atomic_int left = MOVING, crossed;

static const aioshim_host_t table = {
    .size = sizeof table,
    .running = running,
    .park = park,
    .unpark = unpark,
    .runnable = runnable,
    .wake = wake,
    .flags = AIOSHIM_HOST_SLEEPS_IN_POLL,
};

/* The compiler must not keep the address of a thread-local variable across a move. */
static __attribute__((noinline)) struct scheduler *scheduler_here(void)
{
    __asm__ volatile("" ::: "memory");
    return here;
}

static __attribute__((noinline)) int errno_here(void)
{
    __asm__ volatile("" ::: "memory");
    return errno;
}

static __attribute__((noinline)) void move_to(struct scheduler *other)
{
    aioshim_values_t values;
    struct scheduler *s = scheduler_here();
    struct fiber *self = s->current;
    shim.save(s->thread, &values);
    self->next_home = other;
    swapcontext(&self->context, &s->context);
    shim.restore(scheduler_here()->thread, &values);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int counter;

static void work(int number)
{
    char path[64], text[64], back[64];
    int ends[2];
    locale_t locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    snprintf(path, sizeof path, "moving.%d", number);
    expect(pipe(ends) == 0, "pipe");
    FILE *file = fopen(path, "w+");
    expect(file != NULL, "fopen");
    uselocale(locale);
    for (int i = 0; i < ROUNDS; i++) {
        pid_t before = (pid_t)syscall(SYS_gettid);
        expect(read(-1, text, 1) == -1, "read of no file");
        move_to(&schedulers[(number + 2 * i + 1) % THREADS]);
        expect(errno_here() == EBADF, "errno after a move");
        expect(uselocale((locale_t)0) == locale, "the locale after a move");
        crossed += before != (pid_t)syscall(SYS_gettid);
        nanosleep(&(struct timespec){ 0, 100000 }, NULL);
        int n = snprintf(text, sizeof text, "fiber %d round %d\n", number, i);
        expect(write(ends[1], text, (size_t)n) == n, "write");
        expect(read(ends[0], back, sizeof back) == n && !memcmp(text, back, (size_t)n), "read");
        rewind(file);
        expect(fputs(text, file) >= 0 && fflush(file) == 0, "fputs");
        rewind(file);
        expect(fgets(back, sizeof back, file) && strcmp(text, back) == 0, "fgets");
        /* The lock is held over a wait and over a move. */
        pthread_mutex_lock(&mutex);
        int count = counter;
        nanosleep(&(struct timespec){ 0, 10000 }, NULL);
        move_to(&schedulers[(number + 2 * i + 2) % THREADS]);
        counter = count + 1;
        expect(pthread_mutex_unlock(&mutex) == 0, "pthread_mutex_unlock");
    }
    uselocale(LC_GLOBAL_LOCALE);
    freelocale(locale);
    fclose(file);
    unlink(path);
    close(ends[0]);
    close(ends[1]);
}

/* Passes a fiber that has asked for it to another thread. */
static void pass_on(struct fiber *fiber, struct scheduler *to)
{
    unsigned at = (unsigned)(to - schedulers);
    fiber->next_home = NULL;
    pthread_mutex_lock(&moves.lock);
    moves.arrivals[at][moves.count[at]++] = fiber;
    pthread_mutex_unlock(&moves.lock);
    shim.wake(to->thread);
}

static void receive(struct scheduler *s)
{
    unsigned at = (unsigned)(s - schedulers);
    pthread_mutex_lock(&moves.lock);
    while (moves.count[at] > 0) {
        struct fiber *fiber = moves.arrivals[at][--moves.count[at]];
        fiber->context.uc_link = &s->context;
        unpark(s, fiber);
    }
    pthread_mutex_unlock(&moves.lock);
}

static pthread_barrier_t all_attached, all_ended;

static void *run_thread(void *arg)
{
    struct scheduler *s = here = arg;
    expect(shim.attach(&table, s, &s->thread) == 0, "aioshim_attach");
    shim.prepare(s->thread);
    pthread_barrier_wait(&all_attached);
    while (left > 0) {
        receive(s);
        while (s->count > 0) {
            struct fiber *ran = run_one(s);
            if (ran->next_home)
                pass_on(ran, ran->next_home);
            else if (ran->done && --left == 0)
                for (int i = 0; i < THREADS; i++)
                    shim.wake(schedulers[i].thread);
        }
        if (left > 0)
            shim.poll(s->thread, -1);
    }
    pthread_barrier_wait(&all_ended);
    expect(shim.detach(s->thread) == 0, "aioshim_detach");
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    if (!aioshim_find(&shim))
        fail("not preloaded");
    pthread_barrier_init(&all_attached, NULL, THREADS);
    pthread_barrier_init(&all_ended, NULL, THREADS);
    for (int i = 0; i < MOVING; i++)
        make(&schedulers[i % THREADS], i, work);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, run_thread, &schedulers[i]);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    expect(counter == MOVING * ROUNDS, "the count under the mutex");
    expect(crossed > 0, "no fiber has moved");
    puts("done");
    return 0;
}
