/* SPDX-License-Identifier: MIT */
/* thread_state - state that C++ and libc keep per thread is per task: exceptions, static
 * initialisation, the locale.
 *
 * usage: kept WORKERS. Tasks are fibers, or pthreads if WORKERS is 0. Prints the same in all cases.
 */
#include <atomic>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <langinfo.h>
#include <locale.h>
#include <pthread.h>
#include <sched.h>
#include <string>

#include <fiber.h>

enum { TASKS = 6 };

static bool fibers;

static void give_way()
{
    if (fibers)
        fiber_yield();
    else
        sched_yield();
}

/* Runs body(0) to body(TASKS - 1), each in its own task. */
static void each(void *(*body)(void *))
{
    fiber_t *fiber[TASKS];
    pthread_t thread[TASKS];
    for (long i = 0; i < TASKS; i++)
        if (fibers ? fiber_create(&fiber[i], nullptr, body, (void *)i)
                   : pthread_create(&thread[i], nullptr, body, (void *)i))
            abort();
    for (int i = 0; i < TASKS; i++)
        if (fibers ? fiber_join(fiber[i], nullptr) : pthread_join(thread[i], nullptr))
            abort();
}

/* Waits until all tasks have arrived here. */
static void meet()
{
    static std::atomic<int> here;
    int round = here++ / TASKS;
    while (here < (round + 1) * TASKS)
        give_way();
}

static std::atomic<int> wrong;

static void expect(bool right, const char *what)
{
    if (!right && wrong++ < 5)
        printf("wrong: %s\n", what);
}

/* ---- Exceptions --------------------------------------------------------------------------------------------- */

struct Failure {
    long number;
};

/* Its destructor waits while an exception passes. */
struct Waits {
    ~Waits()
    {
        meet();
        expect(std::uncaught_exceptions() == 1, "exceptions being thrown, in a destructor");
    }
};

static void *throws(void *arg)
{
    long me = (long)arg;
    expect(!std::current_exception() && std::uncaught_exceptions() == 0,
           "a task begins with an exception");
    meet();
    try {
        try {
            Waits waits;
            throw Failure{ me };
        } catch (Failure &failure) {
            /* All tasks are in here at once, and continue in a different order. */
            meet();
            for (long turns = 0; turns < TASKS - me; turns++)
                give_way();
            try {
                throw std::string("inner");
            } catch (std::string &) {
                meet();
            }
            expect(failure.number == me, "the exception that is handled");
            throw;
        }
    } catch (Failure &failure) {
        expect(failure.number == me, "the exception that was thrown on");
        meet();
    }
    expect(!std::current_exception() && std::uncaught_exceptions() == 0,
           "an exception is left over");
    return nullptr;
}

/* A task that begins while all the others handle an exception. */
static void *begins_late(void *)
{
    expect(!std::current_exception(), "a fresh task handles another's exception");
    return nullptr;
}

static void *makes_one_while_handling(void *arg)
{
    try {
        throw Failure{ (long)arg };
    } catch (Failure &failure) {
        fiber_t *fiber = nullptr;
        pthread_t thread;
        if (fibers ? fiber_create(&fiber, nullptr, begins_late, nullptr)
                   : pthread_create(&thread, nullptr, begins_late, nullptr))
            abort();
        give_way();
        if (fibers ? fiber_join(fiber, nullptr) : pthread_join(thread, nullptr))
            abort();
        expect(failure.number == (long)arg, "the exception handled over a join");
    }
    return nullptr;
}

/* A fiber that ends in a catch block leaves no exception for the next one. */
static void *ends_while_handling(void *arg)
{
    try {
        throw Failure{ (long)arg };
    } catch (Failure &) {
        if (fibers && (long)arg % 2)
            fiber_exit(nullptr);
    }
    expect(!std::current_exception(), "the exception of a fiber that ended");
    return nullptr;
}

/* ---- Ends --------------------------------------------------------------------------------------------------- */

static std::atomic<int> destroyed, passed;

struct Counts {
    ~Counts()
    {
        give_way();
        destroyed++;
    }
};

static void *leaves(void *arg)
{
    Counts outer;
    try {
        Counts inner;
        meet();
        pthread_exit(arg);
    } catch (...) {
        passed++;
        throw;
    }
    return nullptr;
}

/* ---- Statics ------------------------------------------------------------------------------------------------ */

static std::atomic<int> arrived, made, failed;

struct Slow {
    int value;
    Slow()
    {
        while (arrived < TASKS)
            give_way();
        for (int turns = 0; turns < 3; turns++)
            give_way();
        if (made++ == 0)
            throw Failure{ 0 };
        value = 42;
    }
};

static Slow &slow()
{
    static Slow it;
    return it;
}

static void *uses_static(void *)
{
    arrived++;
    for (;;) {
        try {
            expect(slow().value == 42, "a static that is not made yet");
            return nullptr;
        } catch (Failure &) {
            failed++;
        }
    }
}

/* ---- A static that a plain thread makes, and a fiber waits for ------------------------------------------------ */

static std::atomic<int> is_making, may_go_on;

struct Shared {
    int value;
    Shared()
    {
        is_making = 1;
        while (!may_go_on)
            give_way();
        value = 7;
    }
};

static Shared &shared()
{
    static Shared it;
    return it;
}

static void *thread_makes(void *)
{
    shared();
    return nullptr;
}

static void *fiber_waits(void *)
{
    expect(shared().value == 7, "a static that a thread makes");
    return nullptr;
}

static void *lets_go_on(void *)
{
    may_go_on = 1;
    return nullptr;
}

static void a_thread_makes_one()
{
    pthread_t thread;
    if (pthread_create(&thread, nullptr, thread_makes, nullptr))
        abort();
    while (!is_making)
        give_way();
    fiber_t *fiber[2];
    pthread_t pthread[2];
    void *(*bodies[2])(void *) = { fiber_waits, lets_go_on };
    for (int i = 0; i < 2; i++)
        if (fibers ? fiber_create(&fiber[i], nullptr, bodies[i], nullptr)
                   : pthread_create(&pthread[i], nullptr, bodies[i], nullptr))
            abort();
    for (int i = 0; i < 2; i++)
        if (fibers ? fiber_join(fiber[i], nullptr) : pthread_join(pthread[i], nullptr))
            abort();
    pthread_join(thread, nullptr);
}

/* ---- The locale --------------------------------------------------------------------------------------------- */

static void *has_locale(void *arg)
{
    bool own = (long)arg % 2;
    locale_t locale = own ? newlocale(LC_ALL_MASK, "C.UTF-8", nullptr) : nullptr;
    if (own)
        uselocale(locale);
    for (int turns = 0; turns < 4; turns++) {
        meet();
        bool is_utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
        expect(is_utf8 == (own && locale), "the locale");
    }
    expect(uselocale(nullptr) == (own && locale ? locale : LC_GLOBAL_LOCALE), "the locale in use");
    if (own && locale) {
        uselocale(LC_GLOBAL_LOCALE);
        freelocale(locale);
    }
    return nullptr;
}

static void *test(void *)
{
    /* fiber_run may be called from a catch block, and does not affect its exception. */
    expect(!std::current_exception() || !fibers, "the first fiber handles its caller's exception");
    each(throws);
    each(makes_one_while_handling);
    each(ends_while_handling);
    each(leaves);
    printf("destroyed %d, passed %d\n", destroyed.load(), passed.load());
    each(uses_static);
    printf("made %d, failed %d\n", made.load(), failed.load());
    a_thread_makes_one();
    each(has_locale);
    printf("wrong: %d\n", wrong.load());
    return nullptr;
}

int main(int argc, char **argv)
{
    int workers = argc > 1 ? atoi(argv[1]) : 0;
    fibers = workers > 0;
    setvbuf(stdout, nullptr, _IOLBF, 0);
    if (!fibers) {
        test(nullptr);
        return wrong != 0;
    }
    try {
        throw Failure{ -1 };
    } catch (Failure &failure) {
        fiber_options_t options = FIBER_OPTIONS_INIT;
        options.workers = (unsigned)workers;
        if (fiber_run(&options, test, nullptr, nullptr))
            abort();
        expect(failure.number == -1 && std::current_exception(),
               "fiber_run took its caller's exception");
    }
    return wrong != 0;
}
