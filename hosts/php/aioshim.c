/* SPDX-License-Identifier: MIT */
/* aioshim - an extension for PHP that runs functions at the same time although they make plain
 * blocking calls. Each function runs on a Fiber, which has a C stack of its own. */
#include <php.h>

#include <pthread.h>
#include <zend_exceptions.h>
#include <zend_fibers.h>

#define AIOSHIM_USE_VERSION 2 /* of the table in aioshim.h */
#include "aioshim_host.h"

/* A function that was given to spawn. It owns its fiber. */
struct task {
    zend_fiber *fiber;
    uint32_t count; /* of arguments, until it begins */
    zval *arguments;
    int unparked;
    struct task *next;                           /* in the run queue */
    struct task *next_parked, **previous_parked; /* in the list of those that are in calls */
};

static aioshim_functions_t shim;
static aioshim_thread_t *thread; /* NULL: not attached, or the child of a fork */
static struct task *first, **last = &first, *current;
static struct task *resumed; /* by run_task, because it was unparked */
static struct task *first_parked;
static unsigned ready, living, parked;
static unsigned unparked;       /* tasks that are ready in the middle of a call */
static uint64_t started, ended; /* tasks */
static int in_run;

static void push(struct task *task)
{
    task->next = NULL;
    *last = task;
    last = &task->next;
    ready++;
}

static struct task *pop(void)
{
    struct task *task = first;
    if (!(first = task->next))
        last = &first;
    ready--;
    return task;
}

static void call_method(const char *name, size_t length, zend_object *object, uint32_t count,
                        zval *arguments)
{
    zend_function *method = zend_hash_str_find_ptr(&zend_ce_fiber->function_table, name, length);
    zval result;
    ZVAL_UNDEF(&result);
    zend_call_known_function(method, object, zend_ce_fiber, &result, count, arguments, NULL);
    zval_ptr_dtor(&result);
}

/* ---- The callbacks -------------------------------------------------------------------------- */

/* A fiber that the program runs inside of a task cannot be left for another task. Neither can a
 * file that is being compiled, nor code in which PHP itself forbids a switch. */
static void *running(void *data)
{
    (void)data;
    if (!current || EG(active_fiber) != current->fiber)
        return NULL;
    return CG(in_compilation) || zend_fiber_switch_blocked() ? NULL : current;
}

/* Tasks that have not begun do not count: a switch takes longer than a read from the page cache. */
static unsigned runnable(void *data)
{
    (void)data;
    return unparked;
}

static void unpark(void *data, void *fiber)
{
    (void)data;
    struct task *task = fiber;
    task->unparked = 1;
    unparked++;
    push(task);
}

/* PHP ends with its fibers: the call ends first. The others stay in the queue. */
static void wait_in_place(struct task *task)
{
    current = NULL;
    while (!task->unparked)
        shim.poll(thread, -1);
}

static void note_parked(struct task *task)
{
    parked++;
    task->next_parked = first_parked;
    task->previous_parked = &first_parked;
    if (first_parked)
        first_parked->previous_parked = &task->next_parked;
    first_parked = task;
}

static void note_resumed(struct task *task)
{
    parked--;
    *task->previous_parked = task->next_parked;
    if (task->next_parked)
        task->next_parked->previous_parked = task->previous_parked;
}

static void park(void *data)
{
    (void)data;
    struct task *self = current;
    zend_object *thrown = NULL;
    note_parked(self);
    resumed = NULL;
    while (resumed != self) { /* The program may have called Fiber::resume. */
        call_method(ZEND_STRL("suspend"), NULL, 0, NULL);
        if (!EG(exception))
            continue;
        /* Thrown into the fiber, in the middle of its call: it is raised at the end of the call,
         * which ends now if it has had no effect yet. */
        int ends = zend_is_unwind_exit(EG(exception)) || zend_is_graceful_exit(EG(exception));
        if (thrown)
            OBJ_RELEASE(thrown);
        thrown = EG(exception);
        EG(exception) = NULL;
        if (!self->unparked)
            shim.cancel(thread, self);
        if (ends) {
            wait_in_place(self);
            break;
        }
    }
    self->unparked = 0;
    unparked--;
    current = self;
    note_resumed(self);
    if (thrown)
        zend_throw_exception_internal(thrown);
}

static void wake(void *data)
{
    (void)data;
    shim.wake(thread);
}

static void counts(void *data, aioshim_counts_t *out)
{
    (void)data;
    out->started = &started;
    out->ended = &ended;
}

static const aioshim_host_t table = {
    .size = sizeof table,
    .running = running,
    .park = park,
    .unpark = unpark,
    .runnable = runnable,
    .wake = wake,
    .flags = AIOSHIM_HOST_SLEEPS_IN_POLL | AIOSHIM_HOST_NO_YIELDS,
    .library = "PHP " PHP_VERSION,
    .counts = counts,
};

/* ---- The functions of the extension --------------------------------------------------------- */

ZEND_BEGIN_ARG_INFO_EX(spawn_arguments, 0, 0, 1)
ZEND_ARG_INFO(0, callable)
ZEND_ARG_VARIADIC_INFO(0, arguments)
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_INFO(no_arguments, 0)
ZEND_END_ARG_INFO()

/* spawn(callable, ...arguments): run() will call it. */
PHP_FUNCTION(spawn)
{
    zval *callable, *arguments = NULL, fiber;
    uint32_t count = 0;
    ZEND_PARSE_PARAMETERS_START(1, -1)
    Z_PARAM_ZVAL(callable)
    Z_PARAM_VARIADIC('*', arguments, count)
    ZEND_PARSE_PARAMETERS_END();
    object_init_ex(&fiber, zend_ce_fiber);
    zend_call_known_instance_method_with_1_params(zend_ce_fiber->constructor, Z_OBJ(fiber), NULL,
                                                  callable);
    if (EG(exception)) {
        zval_ptr_dtor(&fiber);
        return;
    }
    struct task *task = ecalloc(1, sizeof *task);
    task->fiber = (zend_fiber *)Z_OBJ(fiber);
    task->count = count;
    if (count)
        task->arguments = safe_emalloc(count, sizeof *arguments, 0);
    for (uint32_t i = 0; i < count; i++)
        ZVAL_COPY(&task->arguments[i], &arguments[i]);
    living++;
    push(task);
}

static void begin_task(struct task *task)
{
    started++;
    call_method(ZEND_STRL("start"), &task->fiber->std, task->count, task->arguments);
    for (uint32_t i = 0; i < task->count; i++)
        zval_ptr_dtor(&task->arguments[i]);
    if (task->arguments)
        efree(task->arguments);
    task->arguments = NULL;
    task->count = 0;
}

static void end_task(struct task *task)
{
    if (thread)
        shim.ended(thread, task);
    OBJ_RELEASE(&task->fiber->std);
    efree(task);
    living--;
    ended++;
}

/* Runs the next task in the queue until it waits, suspends itself or ends. */
static void run_task(void)
{
    struct task *task = current = pop();
    resumed = task->unparked ? task : NULL;
    unsigned parked_before = parked - (unsigned)task->unparked;
    if (task->fiber->context.status == ZEND_FIBER_STATUS_INIT)
        begin_task(task);
    else if (task->fiber->context.status != ZEND_FIBER_STATUS_DEAD) /* The program may resume it. */
        call_method(ZEND_STRL("resume"), &task->fiber->std, 0, NULL);
    current = NULL;
    if (task->fiber->context.status == ZEND_FIBER_STATUS_DEAD)
        end_task(task);
    else if (parked == parked_before && !EG(exception))
        push(task); /* It called Fiber::suspend: others run. */
}

static void wait_for_tasks(void)
{
    if (!ready && aioshim_is_deadlock(&shim, thread, 0)) {
        fprintf(stderr,
                "aioshim: PHP: deadlock: %u fibers wait for locks, and nothing can wake any of "
                "them\n",
                parked);
        abort();
    }
    shim.poll(thread, ready ? 0 : -1);
}

/* Keeps the first exception that a task has not caught, for the end of run(). Returns 0 if the
 * program is to end at once. */
static int keep_exception(zend_object **kept)
{
    if (!EG(exception))
        return 1;
    if (zend_is_unwind_exit(EG(exception)) || zend_is_graceful_exit(EG(exception)))
        return 0;
    if (!*kept) {
        *kept = EG(exception);
        GC_ADDREF(*kept);
    }
    zend_clear_exception();
    return 1;
}

/* The child of a fork has one task, and its calls block. */
static void after_fork_in_child(void)
{
    thread = NULL;
    first = NULL;
    last = &first;
    first_parked = NULL;
    unparked = 0;
    ready = 0; /* `parked` stays: run_task compares it with what it was before the fork. */
    living = current != NULL;
    /* The other fibers are in the middle of calls of the parent, and cannot be unwound here. */
    for (uint32_t i = 1; i < EG(objects_store).top; i++) {
        zend_object *object = EG(objects_store).object_buckets[i];
        if (IS_OBJ_VALID(object) && object->ce == zend_ce_fiber &&
            !(current && object == &current->fiber->std))
            GC_ADD_FLAGS(object, IS_OBJ_DESTRUCTOR_CALLED);
    }
}

static void attach(void)
{
    static int handles_forks;
    if (thread || !aioshim_find(&shim) || !shim.ended || !shim.blocked)
        return;
    if (shim.attach(&table, NULL, &thread) != 0) {
        thread = NULL;
        return;
    }
    if (!handles_forks)
        pthread_atfork(NULL, NULL, after_fork_in_child);
    handles_forks = 1;
}

/* run(): returns when all tasks have ended. Throws the first exception that one has not caught. */
PHP_FUNCTION(run)
{
    zend_object *kept = NULL;
    ZEND_PARSE_PARAMETERS_NONE();
    if (in_run || EG(active_fiber)) {
        zend_throw_error(NULL, "AIOShim\\run must be called once, outside of fibers");
        return;
    }
    attach();
    in_run = 1;
    int goes_on = 1;
    while (living > 0 && goes_on) {
        for (unsigned left = ready; left > 0 && ready > 0 && goes_on; left--) {
            run_task();
            goes_on = keep_exception(&kept);
        }
        if (living > 0 && goes_on && thread)
            wait_for_tasks();
    }
    in_run = 0;
    if (kept && goes_on)
        zend_throw_exception_internal(kept);
    else if (kept)
        OBJ_RELEASE(kept);
}

static const zend_function_entry functions[] = { ZEND_NS_FE(
    "AIOShim", spawn, spawn_arguments) ZEND_NS_FE("AIOShim", run, no_arguments) PHP_FE_END };

/* After a fatal error, fibers are left in the middle of calls and never run again. The kernel or a
 * pool thread may still write to memory that PHP is about to free, so the calls end first. A wait
 * for a lock writes nothing. */
static void end_calls(void)
{
    for (struct task *task = first_parked; task; task = task->next_parked)
        if (!task->unparked)
            shim.cancel(thread, task);
    while (shim.in_flight(thread) > shim.blocked(thread))
        shim.poll(thread, -1);
}

/* The end of a request frees the tasks that are left. */
PHP_RSHUTDOWN_FUNCTION(aioshim)
{
    current = NULL;
    if (thread && first_parked)
        end_calls();
    first = first_parked = NULL;
    last = &first;
    ready = living = parked = unparked = 0;
    in_run = 0;
    if (thread && shim.detach(thread) == 0)
        thread = NULL;
    return SUCCESS;
}

zend_module_entry aioshim_module_entry = {
    STANDARD_MODULE_HEADER,
    "aioshim",
    functions,
    NULL,
    NULL,
    NULL,
    PHP_RSHUTDOWN(aioshim),
    NULL,
    "0.1",
    STANDARD_MODULE_PROPERTIES,
};

ZEND_GET_MODULE(aioshim)
