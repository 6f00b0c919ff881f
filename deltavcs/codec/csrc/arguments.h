/* What every door between Python and C needs: refusals, and buffers given back. */
#ifndef DELTAVCS_ARGUMENTS_H
#define DELTAVCS_ARGUMENTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

static inline PyObject *dv_raise(const char *why) {
    PyErr_SetString(PyExc_ValueError, why);
    return NULL;
}
static inline void dv_release(Py_buffer *buffers[], int n) {
    for (int i = 0; i < n; i++)
        if (buffers[i]->obj)
            PyBuffer_Release(buffers[i]);
}

#endif
