/* SPDX-License-Identifier: MIT */
/* _aioshim_gevent - attaches the thread of a gevent hub to libaioshim.so.
 *
 * A greenlet has no stack of its own: whatever it has on the C stack of the thread is copied away
 * while other greenlets run. The kernel writes into the buffers of a parked call, so its stack must
 * stay in place. Therefore the function of each greenlet runs on a stack of its own, and the
 * greenlet itself stays on the C stack, in serve(), where it makes the switches between greenlets
 * that the function asks for.
 *
 * The hub waits in the epoll_wait of its event loop. During that time it is a fiber as well, which
 * parks without switching: it polls the shim, whose wait includes that of the loop. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <greenlet/greenlet.h>
#include <pthread.h>

#define AIOSHIM_USE_VERSION 2 /* of the table in aioshim.h */
#include "aioshim_host.h"
#include "stacks.h"

enum { STACK = 1024 * 1024 };

/* A greenlet that has begun, or a stack to use again. */
struct coroutine {
    stack_context own_stack, c_stack; /* of these, the side that does not run is valid */
    PyObject *greenlet, *function, *args, *kwargs;
    /* What the function asks for: a call on the C stack. */
    PyCFunctionWithKeywords call;
    PyObject *call_self, *call_args, *call_kwargs;
    PyObject *result; /* of that call, or of the function */
    int ended, unparked, parked;
    int holds;                                           /* nested calls of hold() */
    PyObject *thrown_type, *thrown_value, *thrown_trace; /* into it while it was parked */
    struct coroutine *next;                              /* in the run queue or the free list */
};

static aioshim_functions_t shim;
static aioshim_thread_t *thread; /* NULL: not attached */
static unsigned long hub_ident;  /* the thread that attached */
static PyObject *hub, *keep_alive;
static int interrupt_signal;

/* NULL on the C stack. The model saves a function call at every converted call. */
static __thread struct coroutine *current __attribute__((tls_model("initial-exec")));
static struct coroutine *free_coroutines;
static struct coroutine *first, **last = &first; /* unparked, in order */
static unsigned ready, parked_count;
static uint64_t started, ended; /* greenlets */
static unsigned turn; /* how many of the ready ones may still run before the loop goes on */
static int hub_waits, hub_unparked, in_adapter, loop_is_alive;
static char hub_fiber;

/* ---- Functions on stacks of their own ------------------------------------------------------- */

static void first_frame(void)
{
    for (;;) {
        struct coroutine *c = current;
        c->result = PyObject_Call(c->function, c->args, c->kwargs);
        c->ended = 1;
        stack_switch(&c->own_stack, &c->c_stack);
    }
}

static struct coroutine *new_coroutine(void)
{
    struct coroutine *c = free_coroutines;
    if (c) {
        free_coroutines = c->next;
        return c;
    }
    c = calloc(1, sizeof *c);
    void *stack = c ? stack_map(STACK) : NULL;
    if (!stack) {
        free(c);
        PyErr_NoMemory();
        return NULL;
    }
    stack_begin(&c->own_stack, stack, STACK, first_frame);
    return c;
}

/* Calls function(*args, **kwargs) on a stack of its own, and makes the calls that it asks for. */
static PyObject *serve(PyObject *function, PyObject *args, PyObject *kwargs)
{
    struct coroutine *c = new_coroutine();
    if (!c)
        return NULL;
    c->greenlet = (PyObject *)PyGreenlet_GetCurrent();
    c->function = function;
    c->args = args;
    c->kwargs = kwargs;
    c->ended = c->unparked = c->holds = 0;
    started++;
    /* The attribute `run` would keep the greenlet alive. */
    if (PyObject_DelAttrString(c->greenlet, "run") != 0)
        PyErr_Clear();
    for (;;) {
        current = c;
        stack_switch(&c->c_stack, &c->own_stack);
        current = NULL;
        if (c->ended)
            break;
        c->result = c->call(c->call_self, c->call_args, c->call_kwargs);
    }
    ended++;
    PyObject *result = c->result;
    Py_CLEAR(c->greenlet);
    Py_CLEAR(c->thrown_type);
    Py_CLEAR(c->thrown_value);
    Py_CLEAR(c->thrown_trace);
    c->next = free_coroutines;
    free_coroutines = c;
    return result;
}

static PyMethodDef serve_method = { "run", (PyCFunction)(void *)serve, METH_VARARGS | METH_KEYWORDS,
                                    "Runs a function on a stack of its own." };

/* Raises the exception that was thrown into the current coroutine while it was parked. Returns 1 if
 * there is one. */
static int raise_thrown(void)
{
    struct coroutine *c = current;
    if (!c || !c->thrown_type)
        return 0;
    PyErr_Restore(c->thrown_type, c->thrown_value, c->thrown_trace);
    c->thrown_type = c->thrown_value = c->thrown_trace = NULL;
    return 1;
}

/* Makes a call on the C stack. */
static PyObject *on_c_stack(PyCFunctionWithKeywords call, PyObject *self, PyObject *args,
                            PyObject *kwargs)
{
    struct coroutine *c = current;
    if (!c)
        return call(self, args, kwargs);
    c->call = call;
    c->call_self = self;
    c->call_args = args;
    c->call_kwargs = kwargs;
    stack_switch(&c->own_stack, &c->c_stack);
    return c->result;
}

/* ---- The functions of greenlet that switch -------------------------------------------------- */

static PyObject *(*greenlet_switch)(PyGreenlet *, PyObject *, PyObject *);
static PyObject *(*greenlet_throw)(PyGreenlet *, PyObject *, PyObject *, PyObject *);
static PyCFunctionWithKeywords switch_method;
static PyCFunction throw_method;
static destructor greenlet_dealloc;

static int on_hub_thread(void) { return thread && PyThread_get_thread_ident() == hub_ident; }

/* A greenlet that has not begun will run its function on a stack of its own. */
static void prepare_start(PyObject *greenlet)
{
    if (!on_hub_thread() || greenlet == hub || PyGreenlet_STARTED((PyGreenlet *)greenlet))
        return;
    PyObject *function = PyObject_GetAttrString(greenlet, "run");
    if (function) {
        PyObject *run = PyCFunction_New(&serve_method, function);
        if (run && PyObject_SetAttrString(greenlet, "run", run) != 0)
            PyErr_Clear(); /* It runs on the C stack, and its calls block. */
        Py_XDECREF(run);
        Py_DECREF(function);
    }
    PyErr_Clear(); /* A dead greenlet may have no `run`. */
}

static PyObject *switch_by_api(PyObject *greenlet, PyObject *args, PyObject *kwargs)
{
    return greenlet_switch((PyGreenlet *)greenlet, args, kwargs);
}

static PyObject *throw_by_api(PyObject *greenlet, PyObject *args, PyObject *kwargs)
{
    (void)kwargs;
    PyObject **parts = (PyObject **)args;
    return greenlet_throw((PyGreenlet *)greenlet, parts[0], parts[1], parts[2]);
}

static PyObject *throw_by_method(PyObject *greenlet, PyObject *args, PyObject *kwargs)
{
    (void)kwargs;
    return throw_method(greenlet, args);
}

static PyObject *dealloc_by_type(PyObject *greenlet, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    greenlet_dealloc(greenlet);
    return NULL;
}

static PyObject *our_api_switch(PyGreenlet *greenlet, PyObject *args, PyObject *kwargs)
{
    if (raise_thrown())
        return NULL;
    prepare_start((PyObject *)greenlet);
    return on_c_stack(switch_by_api, (PyObject *)greenlet, args, kwargs);
}

static PyObject *our_switch_method(PyObject *greenlet, PyObject *args, PyObject *kwargs)
{
    if (raise_thrown())
        return NULL;
    prepare_start(greenlet);
    return on_c_stack(switch_method, greenlet, args, kwargs);
}

static PyObject *our_api_throw(PyGreenlet *greenlet, PyObject *type, PyObject *value,
                               PyObject *trace)
{
    PyObject *parts[3] = { type, value, trace };
    return on_c_stack(throw_by_api, (PyObject *)greenlet, (PyObject *)parts, NULL);
}

static PyObject *our_throw_method(PyObject *greenlet, PyObject *args)
{
    return on_c_stack(throw_by_method, greenlet, args, NULL);
}

/* The end of a greenlet that is in the middle of its function throws GreenletExit into it. */
static void our_dealloc(PyObject *greenlet)
{
    if (current && PyGreenlet_ACTIVE((PyGreenlet *)greenlet))
        on_c_stack(dealloc_by_type, greenlet, NULL, NULL);
    else
        greenlet_dealloc(greenlet);
}

static PyMethodDef *method_of_greenlet(const char *name, int flags)
{
    PyObject *type = (PyObject *)&PyGreenlet_Type;
    PyObject *found = PyObject_GetAttrString(type, name);
    PyMethodDef *method = NULL;
    if (found && Py_IS_TYPE(found, &PyMethodDescr_Type))
        method = ((PyMethodDescrObject *)found)->d_method;
    Py_XDECREF(found); /* The type keeps it. */
    return method && method->ml_flags == flags ? method : NULL;
}

/* Replaces greenlet's functions by ours. Returns 0 if this version of greenlet has other ones. */
static int replace_switches(void **api)
{
    PyMethodDef *switching = method_of_greenlet("switch", METH_VARARGS | METH_KEYWORDS);
    PyMethodDef *throwing = method_of_greenlet("throw", METH_VARARGS);
    if (!switching || !throwing)
        return 0;
    switch_method = (PyCFunctionWithKeywords)(void *)switching->ml_meth;
    switching->ml_meth = (PyCFunction)(void *)our_switch_method;
    throw_method = throwing->ml_meth;
    throwing->ml_meth = our_throw_method;
    memcpy(&greenlet_switch, &api[PyGreenlet_Switch_NUM], sizeof greenlet_switch);
    api[PyGreenlet_Switch_NUM] = (void *)our_api_switch;
    memcpy(&greenlet_throw, &api[PyGreenlet_Throw_NUM], sizeof greenlet_throw);
    api[PyGreenlet_Throw_NUM] = (void *)our_api_throw;
    greenlet_dealloc = PyGreenlet_Type.tp_dealloc;
    PyGreenlet_Type.tp_dealloc = our_dealloc;
    return 1;
}

/* ---- The callbacks -------------------------------------------------------------------------- */

static void *running(void *data)
{
    (void)data;
    if (in_adapter)
        return NULL;
    if (current)
        return current->holds ? NULL : (void *)current;
    return hub_waits ? &hub_fiber : NULL;
}

/* gevent does not tell how many greenlets are runnable: these are the ones of the shim. */
static unsigned runnable(void *data)
{
    (void)data;
    return ready;
}

static void unpark(void *data, void *fiber)
{
    (void)data;
    if (fiber == &hub_fiber) {
        hub_unparked = 1;
        return;
    }
    struct coroutine *c = fiber;
    c->next = NULL;
    *last = c;
    last = &c->next;
    ready++;
}

/* Takes the next one from the run queue; NULL if the loop continues. */
static struct coroutine *next_in_turn(void)
{
    struct coroutine *c = first;
    if (turn == 0 || !c)
        return NULL;
    if (!(first = c->next))
        last = &first;
    turn--;
    ready--;
    c->unparked = 1;
    return c;
}

/* Switches to the next greenlet in turn, without a detour through the hub, or to the hub. */
static PyObject *switch_away(void)
{
    struct coroutine *next = next_in_turn();
    PyObject *to = next ? next->greenlet : hub;
    Py_INCREF(to);
    PyObject *result = on_c_stack(switch_by_api, to, NULL, NULL);
    Py_DECREF(to);
    return result;
}

static void park_hub(void)
{
    while (!hub_unparked) {
        shim.poll(thread, ready ? 0 : -1);
        if (ready && !hub_unparked)
            shim.expire(thread, &hub_fiber);
    }
    hub_unparked = 0;
}

/* A loop without active watchers ends, and gevent raises LoopExit in the main greenlet. */
static void keep_loop_alive(int alive)
{
    if (alive == loop_is_alive)
        return;
    loop_is_alive = alive;
    if (PyObject_SetAttrString(keep_alive, "ref", alive ? Py_True : Py_False) != 0)
        PyErr_WriteUnraisable(keep_alive);
}

/* Keeps the exception that gevent has thrown into a parked greenlet, in order to kill it or because
 * a time limit has expired. */
static void remember_thrown(struct coroutine *c)
{
    Py_CLEAR(c->thrown_type);
    Py_CLEAR(c->thrown_value);
    Py_CLEAR(c->thrown_trace);
    PyErr_Fetch(&c->thrown_type, &c->thrown_value, &c->thrown_trace);
}

static void park_coroutine(struct coroutine *c)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    parked_count++;
    keep_loop_alive(1);
    if (c->thrown_type)
        shim.cancel(thread, c);
    while (!c->unparked) {
        in_adapter = 0;
        PyObject *result = switch_away();
        in_adapter = 1;
        if (result) {
            Py_DECREF(result);
            continue;
        }
        remember_thrown(c);
        if (!c->unparked)
            shim.cancel(thread, c);
    }
    c->unparked = 0;
    parked_count--;
    PyErr_Restore(type, value, trace);
    /* Python looks for signals when a call was interrupted, or else before its next instruction.
     * The handler of this one raises the exception. */
    if (c->thrown_type)
        PyErr_SetInterruptEx(interrupt_signal);
}

static void park(void *data)
{
    (void)data;
    struct coroutine *c = current;
    if (!c) {
        park_hub();
        return;
    }
    in_adapter = 1;
    /* Python releases its lock around most calls that block. */
    PyThreadState *state = PyGILState_GetThisThreadState();
    int locked = PyGILState_Check();
    if (!locked)
        PyEval_RestoreThread(state);
    park_coroutine(c);
    if (!locked)
        PyEval_SaveThread();
    in_adapter = 0;
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

static aioshim_host_t table = {
    .size = sizeof table,
    .running = running,
    .park = park,
    .unpark = unpark,
    .runnable = runnable,
    .wake = wake,
    .flags = AIOSHIM_HOST_SLEEPS_IN_POLL | AIOSHIM_HOST_NO_YIELDS,
    .library = "gevent",
    .counts = counts,
};

/* ---- The module ----------------------------------------------------------------------------- */

/* Nothing in the shim can wake the greenlets that are parked there. If the loop has nothing to wait
 * for either, it ends. */
static int is_deadlock(void)
{
    return !ready && shim.blocked(thread) > 0 && aioshim_is_deadlock(&shim, thread, 0);
}

/* Called before the loop waits. */
static PyObject *before_wait(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    keep_loop_alive(parked_count > 0 && !is_deadlock());
    hub_waits = 1;
    Py_RETURN_NONE;
}

/* Called after the loop has waited: runs the greenlets whose calls have completed. */
static PyObject *after_wait(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    hub_waits = 0;
    shim.poll(thread, 0);
    struct coroutine *c;
    turn = ready;
    while ((c = next_in_turn())) {
        PyObject *greenlet = c->greenlet;
        Py_INCREF(greenlet);
        PyObject *result = greenlet_switch((PyGreenlet *)greenlet, NULL, NULL);
        Py_DECREF(greenlet);
        if (!result) {
            turn = 0;
            return NULL;
        }
        Py_DECREF(result);
    }
    turn = 0;
    Py_RETURN_NONE;
}

/* In the child of a fork the shim passes calls through. The parent's greenlets stay parked. */
static void after_fork_in_child(void)
{
    first = NULL;
    last = &first;
    ready = turn = 0;
}

/* attach(hub, keep_alive, signal): attaches the calling thread. Returns whether that succeeded. */
static PyObject *attach(PyObject *self, PyObject *args)
{
    (void)self;
    if (thread)
        Py_RETURN_TRUE;
    if (!PyArg_ParseTuple(args, "OOi", &hub, &keep_alive, &interrupt_signal))
        return NULL;
    if (!aioshim_find(&shim))
        Py_RETURN_FALSE;
    if (!shim.expire || !replace_switches(_PyGreenlet_API)) {
        PyErr_SetString(PyExc_ImportError, "this version of libaioshim.so or greenlet is not "
                                           "supported");
        return NULL;
    }
    /* Without libaioshim_greenlet.so Python's global lock cannot be told from other locks. */
    if (!dlsym(RTLD_DEFAULT, "aioshim_runtime_locks"))
        table.flags |= AIOSHIM_HOST_PLAIN_LOCKS;
    hub_ident = PyThread_get_thread_ident();
    if (shim.attach(&table, NULL, &thread) != 0) {
        thread = NULL;
        Py_RETURN_FALSE;
    }
    Py_INCREF(hub);
    Py_INCREF(keep_alive);
    pthread_atfork(NULL, NULL, after_fork_in_child);
    Py_RETURN_TRUE;
}

/* Between hold() and release() the calls of this greenlet block the thread. */
static PyObject *hold(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    if (current)
        current->holds++;
    Py_RETURN_NONE;
}

static PyObject *release(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    if (current)
        current->holds--;
    Py_RETURN_NONE;
}

/* The handler of the signal that a thrown exception pretends to be. */
static PyObject *on_signal(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    if (raise_thrown())
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    { "attach", attach, METH_VARARGS, NULL },
    { "before_wait", before_wait, METH_NOARGS, NULL },
    { "after_wait", after_wait, METH_NOARGS, NULL },
    { "hold", hold, METH_NOARGS, NULL },
    { "release", release, METH_NOARGS, NULL },
    { "on_signal", on_signal, METH_VARARGS, NULL },
    { NULL, NULL, 0, NULL },
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_aioshim_gevent",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__aioshim_gevent(void)
{
    PyGreenlet_Import();
    return _PyGreenlet_API ? PyModule_Create(&definition) : NULL;
}
