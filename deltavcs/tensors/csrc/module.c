/* Python's door to the kernels: buffers in, lengths proven, GIL released.
 *
 * Every kernel runs in the default floating-point environment, whatever the thread's: nearest even, subnormal
 * numbers kept, no traps.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <fenv.h>

#include "arith.h"

#define BEGIN_KERNEL                                                                                                   \
    Py_BEGIN_ALLOW_THREADS fenv_t environment;                                                                         \
    fegetenv(&environment);                                                                                            \
    fesetenv(FE_DFL_ENV);
#define END_KERNEL                                                                                                     \
    fesetenv(&environment);                                                                                            \
    Py_END_ALLOW_THREADS

static int best_level(void) {
#ifdef DV_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return DV_AVX512;
    if (__builtin_cpu_supports("avx2"))
        return DV_AVX2;
#endif
    return DV_SCALAR;
}

static int best = DV_SCALAR;

static const dv_kernels *kernels_of(int level) {
#ifdef DV_X86
    if (level >= DV_AVX512 && best >= DV_AVX512)
        return &dv_kernels_avx512;
    if (level >= DV_AVX2 && best >= DV_AVX2)
        return &dv_kernels_avx2;
#endif
    return &dv_kernels_any;
}

static void release(Py_buffer *buffers, Py_ssize_t n) {
    for (Py_ssize_t i = 0; i < n; i++)
        if (buffers[i].obj)
            PyBuffer_Release(&buffers[i]);
}

static PyObject *refuse(Py_buffer *buffers, Py_ssize_t n) {
    release(buffers, n);
    PyErr_SetString(PyExc_ValueError, "buffers do not fit");
    return NULL;
}

static int known(int dtype) { return dtype >= 0 && dtype < DV_N_DTYPES; }

/* The elements in a buffer, or -1 if they are not whole. */
static Py_ssize_t elements(const Py_buffer *buffer, int dtype) {
    Py_ssize_t size = known(dtype) ? (Py_ssize_t)dv_itemsize(dtype) : 0;
    return size && buffer->len % size == 0 ? buffer->len / size : -1;
}

static PyObject *py_widen(PyObject *self, PyObject *args) {
    Py_buffer b[2] = {{0}};
    int level, dtype;
    if (!PyArg_ParseTuple(args, "iiy*w*", &level, &dtype, &b[0], &b[1]))
        return NULL;
    Py_ssize_t n = elements(&b[0], dtype);
    if (n < 0 || elements(&b[1], DV_F64) != n)
        return refuse(b, 2);
    BEGIN_KERNEL
    kernels_of(level)->widen(dtype, b[0].buf, (size_t)n, b[1].buf);
    END_KERNEL
    release(b, 2);
    Py_RETURN_NONE;
}

static PyObject *py_round(PyObject *self, PyObject *args) {
    Py_buffer b[2] = {{0}};
    int level, dtype;
    if (!PyArg_ParseTuple(args, "iiy*w*", &level, &dtype, &b[0], &b[1]))
        return NULL;
    Py_ssize_t n = elements(&b[1], dtype);
    if (n < 0 || elements(&b[0], DV_F64) != n)
        return refuse(b, 2);
    BEGIN_KERNEL
    kernels_of(level)->round(dtype, b[0].buf, (size_t)n, b[1].buf);
    END_KERNEL
    release(b, 2);
    Py_RETURN_NONE;
}

static PyObject *py_count(PyObject *self, PyObject *args) {
    Py_buffer b[2] = {{0}};
    int level, size;
    if (!PyArg_ParseTuple(args, "iiy*y*", &level, &size, &b[0], &b[1]))
        return NULL;
    if ((size != 1 && size != 2 && size != 4 && size != 8) || b[0].len % size || b[0].len != b[1].len)
        return refuse(b, 2);
    size_t changed;
    BEGIN_KERNEL
    changed = kernels_of(level)->count(size, b[0].buf, b[1].buf, (size_t)(b[0].len / size));
    END_KERNEL
    release(b, 2);
    return PyLong_FromSize_t(changed);
}

static PyObject *py_difference(PyObject *self, PyObject *args) {
    Py_buffer b[2] = {{0}};
    int level, dtype;
    if (!PyArg_ParseTuple(args, "iiy*y*", &level, &dtype, &b[0], &b[1]))
        return NULL;
    Py_ssize_t n = elements(&b[0], dtype);
    if (n < 0 || b[0].len != b[1].len)
        return refuse(b, 2);
    size_t changed;
    double squares;
    BEGIN_KERNEL
    changed = kernels_of(level)->difference(dtype, b[0].buf, b[1].buf, (size_t)n, &squares);
    END_KERNEL
    release(b, 2);
    return Py_BuildValue("n" "d", (Py_ssize_t)changed, squares);
}

static PyObject *py_pair(PyObject *self, PyObject *args) {
    Py_buffer b[2] = {{0}};
    int level, dtype;
    if (!PyArg_ParseTuple(args, "iiy*y*", &level, &dtype, &b[0], &b[1]))
        return NULL;
    Py_ssize_t n = elements(&b[0], dtype);
    if (n < 0 || b[0].len != b[1].len)
        return refuse(b, 2);
    size_t changed;
    double sums[DV_N_PAIR];
    BEGIN_KERNEL
    changed = kernels_of(level)->pair(dtype, b[0].buf, b[1].buf, (size_t)n, sums);
    END_KERNEL
    release(b, 2);
    return Py_BuildValue("ndddd", (Py_ssize_t)changed, sums[DV_MOVE], sums[DV_AA], sums[DV_BB], sums[DV_AB]);
}

static PyObject *py_geometry(PyObject *self, PyObject *args) {
    Py_buffer b[3] = {{0}};
    dv_input in[3];
    int level, dtypes[3];
    if (!PyArg_ParseTuple(args, "iiy*iy*iy*", &level, &dtypes[0], &b[0], &dtypes[1], &b[1], &dtypes[2], &b[2]))
        return NULL;
    Py_ssize_t n = elements(&b[0], dtypes[0]);
    for (int i = 0; i < 3; i++) {
        if (n < 0 || elements(&b[i], dtypes[i]) != n)
            return refuse(b, 3);
        in[i] = (dv_input){b[i].buf, (size_t)n, dtypes[i]};
    }
    double sums[DV_N_GEOMETRY];
    BEGIN_KERNEL
    kernels_of(level)->geometry(in, sums);
    END_KERNEL
    release(b, 3);
    return Py_BuildValue("dddd", sums[DV_BASE], sums[DV_DRIFT], sums[DV_DELTA], sums[DV_DOT]);
}

/* Prove that a program finds its inputs and operands and leaves one value. */
static int proven(const dv_token *program, size_t n_tokens, Py_ssize_t n_inputs) {
    int depth = 0;
    if (n_tokens < 1 || n_tokens > DV_MAX_TOKENS)
        return 0;
    for (size_t i = 0; i < n_tokens; i++) {
        const dv_token *t = &program[i];
        if (t->op < 0 || t->op >= DV_N_OPS || (t->op == DV_PUSH && (t->input < 0 || t->input >= n_inputs)))
            return 0;
        int binary = t->op == DV_ADD || t->op == DV_SUBTRACT;
        if (depth < (t->op == DV_PUSH ? 0 : binary ? 2 : 1))
            return 0;
        depth += t->op == DV_PUSH ? 1 : -binary;
        if (depth > DV_MAX_STACK)
            return 0;
    }
    return depth == 1;
}

/* The inputs of linear(), bounded and held. */
typedef struct {
    Py_buffer held[DV_MAX_INPUTS];
    dv_input in[DV_MAX_INPUTS];
    dv_token program[DV_MAX_TOKENS];
} linear_call;

/* 0, or -1 with an exception set; `*n_held` buffers must be released either way. */
static int hold_inputs(linear_call *call, PyObject *inputs, const Py_buffer *dtypes, Py_ssize_t *n_held) {
    Py_ssize_t n = PyTuple_GET_SIZE(inputs);
    if (n > DV_MAX_INPUTS || dtypes->len != n) {
        PyErr_SetString(PyExc_ValueError, "inputs and dtypes do not fit");
        return -1;
    }
    for (; *n_held < n; ++*n_held) {
        Py_buffer *buffer = &call->held[*n_held];
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(inputs, *n_held), buffer, PyBUF_SIMPLE))
            return -1;
        int dtype = ((const uint8_t *)dtypes->buf)[*n_held];
        Py_ssize_t count = elements(buffer, dtype);
        call->in[*n_held] = (dv_input){buffer->buf, (size_t)(count < 0 ? 0 : count), dtype};
        if (count < 0) {
            ++*n_held;
            PyErr_SetString(PyExc_ValueError, "an input does not hold whole elements");
            return -1;
        }
    }
    return 0;
}

/* linear(level, program, dtypes, inputs, dtype, out) */
static PyObject *py_linear(PyObject *self, PyObject *args) {
    Py_buffer b[3] = {{0}}; /* program, dtypes, out */
    PyObject *inputs;
    int level, dtype;
    if (!PyArg_ParseTuple(args, "iy*y*O!iw*", &level, &b[0], &b[1], &PyTuple_Type, &inputs, &dtype, &b[2]))
        return NULL;
    Py_ssize_t n = elements(&b[2], dtype), n_held = 0;
    size_t n_tokens = (size_t)b[0].len / sizeof(dv_token);
    if (n < 0 || b[0].len % (Py_ssize_t)sizeof(dv_token) || n_tokens > DV_MAX_TOKENS)
        return refuse(b, 3);
    linear_call *call = PyMem_Malloc(sizeof *call);
    if (!call) {
        release(b, 3);
        return PyErr_NoMemory();
    }
    memcpy(call->program, b[0].buf, n_tokens * sizeof(dv_token));
    int held = hold_inputs(call, inputs, &b[1], &n_held);
    if (!held && !proven(call->program, n_tokens, n_held)) {
        PyErr_SetString(PyExc_ValueError, "the program does not fit");
        held = -1;
    }
    if (!held) {
        BEGIN_KERNEL
        kernels_of(level)->linear(call->program, n_tokens, call->in, dtype, (size_t)n, b[2].buf);
        END_KERNEL
    }
    release(call->held, n_held);
    PyMem_Free(call);
    release(b, 3);
    return held ? NULL : Py_NewRef(Py_None);
}

static PyObject *py_levels(PyObject *self, PyObject *ignored) {
    if (best == DV_AVX512)
        return Py_BuildValue("((si)(si)(si))", "scalar", DV_SCALAR, "avx2", DV_AVX2, "avx512", DV_AVX512);
    if (best == DV_AVX2)
        return Py_BuildValue("((si)(si))", "scalar", DV_SCALAR, "avx2", DV_AVX2);
    return Py_BuildValue("((si))", "scalar", DV_SCALAR);
}

static PyMethodDef methods[] = {
    {"levels", py_levels, METH_NOARGS, "() -> name and number of what this processor can run, slowest first"},
    {"widen", py_widen, METH_VARARGS, "(level, dtype, source, out): elements to float64"},
    {"round", py_round, METH_VARARGS, "(level, dtype, float64, out): one rounding to nearest even"},
    {"count", py_count, METH_VARARGS, "(level, itemsize, a, b) -> elements that differ"},
    {"difference", py_difference, METH_VARARGS, "(level, dtype, a, b) -> (elements that differ, sum of (a-b)^2)"},
    {"pair", py_pair, METH_VARARGS, "(level, dtype, a, b) -> (differ, (b-a)^2, a^2, b^2, ab)"},
    {"geometry", py_geometry, METH_VARARGS, "(level, dtype, t, dtype, f, dtype, s) -> four sums"},
    {"linear", py_linear, METH_VARARGS, "(level, program, dtypes, inputs, dtype, out): run a postfix program"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "Kernels of deltavcs.tensors; not an API.", 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void) {
    best = best_level();
    return PyModule_Create(&definition);
}
