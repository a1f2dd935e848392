/* SPDX-License-Identifier: MIT */
/* The conformance test as a Python module: conformance.py calls it. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "conformance.h"

static PyObject *begin(PyObject *self, PyObject *args)
{
    (void)self;
    char *words[8] = { "conformance" };
    Py_ssize_t count = PyTuple_GET_SIZE(args);
    for (Py_ssize_t i = 0; i < count && i < 7; i++)
        if (!(words[i + 1] = (char *)PyUnicode_AsUTF8(PyTuple_GET_ITEM(args, i))))
            return NULL;
    return PyLong_FromLong(conformance_begin((int)count + 1, words));
}

/* Python's global lock is held in every second body, and released around the others. */
static PyObject *body(PyObject *self, PyObject *number)
{
    (void)self;
    int n = (int)PyLong_AsLong(number);
    if (n % 2) {
        conformance_body(n);
    } else {
        PyThreadState *state = PyEval_SaveThread();
        conformance_body(n);
        PyEval_RestoreThread(state);
    }
    Py_RETURN_NONE;
}

static PyObject *result(PyObject *self, PyObject *args)
{
    (void)self;
    int number;
    unsigned long long value;
    if (!PyArg_ParseTuple(args, "iK", &number, &value))
        return NULL;
    conformance_result(number, value);
    Py_RETURN_NONE;
}

static PyObject *timers(PyObject *self, PyObject *number)
{
    (void)self;
    return PyBool_FromLong(conformance_timers((int)PyLong_AsLong(number)));
}

static PyObject *finish(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyLong_FromLong(conformance_end());
}

static PyMethodDef functions[] = {
    { "begin", begin, METH_VARARGS, NULL },   { "body", body, METH_O, NULL },
    { "result", result, METH_VARARGS, NULL }, { "timers", timers, METH_O, NULL },
    { "finish", finish, METH_NOARGS, NULL },  { NULL, NULL, 0, NULL },
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "checks",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit_checks(void) { return PyModule_Create(&definition); }
