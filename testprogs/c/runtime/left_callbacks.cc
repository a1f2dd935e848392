/* SPDX-License-Identifier: MIT */
/* left_callbacks - callbacks of nftw and ftw that do not return: they throw, jump, or end their
 * fiber. No thread is left behind.
 *
 * usage: left WORKERS. Tasks are fibers, or pthreads if WORKERS is 0. Prints the same in both
 * cases. */
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <dirent.h>
#include <ftw.h>
#include <pthread.h>

#include <fiber.h>

enum { TASKS = 4, TIMES = 8, MOST_THREADS = 20 };

static bool fibers;

struct Task {
    jmp_buf back;
    int caught, jumped, walked;
};

static thread_local Task *of_thread;
static Task tasks[TASKS];
static fiber_key_t key;

static Task *me() { return fibers ? (Task *)fiber_getspecific(key) : of_thread; }

static int throws(const char *, const struct stat *, int, struct FTW *) { throw 1; }

/* Leaves the walk that called it, and a walk that it starts itself. */
static int throws_through_two(const char *, const struct stat *, int)
{
    nftw("/proc/self/fdinfo", throws, 4, FTW_PHYS);
    return 0;
}

static int jumps(const char *, const struct stat *, int, struct FTW *) { longjmp(me()->back, 1); }

static int ends(const char *, const struct stat *, int, struct FTW *)
{
    if (fibers && me() - tasks < 2)
        fiber_exit(nullptr);
    pthread_exit(nullptr);
}

static int counts(const char *, const struct stat *, int, struct FTW *)
{
    me()->walked++;
    return 0;
}

__attribute__((noinline)) static void leaves_three_ways(Task *self)
{
    try {
        nftw("/etc", throws, 8, FTW_PHYS);
    } catch (int) {
        self->caught++;
    }
    try {
        ftw("/proc/self/fdinfo", throws_through_two, 8);
    } catch (int) {
        self->caught++;
    }
    if (setjmp(self->back))
        self->jumped++;
    else
        nftw("/etc", jumps, 8, FTW_PHYS);
}

static void *task(void *arg)
{
    Task *self = (Task *)arg;
    of_thread = self;
    if (fibers)
        fiber_setspecific(key, self);
    for (int i = 0; i < TIMES; i++)
        leaves_three_ways(self);
    nftw("/proc/self/fdinfo", counts, 8, FTW_PHYS);
    nftw("/etc", ends, 8, FTW_PHYS);
    return nullptr;
}

static int threads()
{
    DIR *directory = opendir("/proc/self/task");
    int n = 0;
    while (readdir(directory))
        n++;
    closedir(directory);
    return n - 2;
}

static void *test(void *)
{
    fiber_t *fiber[TASKS];
    pthread_t thread[TASKS];
    for (int i = 0; i < TASKS; i++)
        if (fibers ? fiber_create(&fiber[i], nullptr, task, &tasks[i])
                   : pthread_create(&thread[i], nullptr, task, &tasks[i]))
            abort();
    for (int i = 0; i < TASKS; i++)
        if (fibers ? fiber_join(fiber[i], nullptr) : pthread_join(thread[i], nullptr))
            abort();
    for (Task &task : tasks)
        printf("caught %d, jumped %d, %s\n", task.caught, task.jumped,
               task.walked > 0 ? "walked" : "did not walk");
    int n = threads();
    if (n > MOST_THREADS)
        printf("%d threads are left\n", n);
    return nullptr;
}

int main(int argc, char **argv)
{
    int workers = argc > 1 ? atoi(argv[1]) : 0;
    fibers = workers > 0;
    if (!fibers) {
        test(nullptr);
        return 0;
    }
    fiber_options_t options = FIBER_OPTIONS_INIT;
    options.workers = (unsigned)workers;
    if (fiber_key_create(&key, nullptr))
        abort();
    return fiber_run(&options, test, nullptr, nullptr);
}
