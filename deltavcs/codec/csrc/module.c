/* Python's door to the kernels: buffers in, lengths proven, GIL released. */
#include "module.h"

int dv_proven_freqs(const uint8_t *freqs, int n_tables, int n_tokens) {
    for (int i = 0; i < n_tables; i++, freqs += 2 * n_tokens) {
        uint32_t sum = 0;
        for (int t = 0; t < n_tokens; t++)
            sum += dv_load16(freqs + 2 * t);
        if (sum != DV_PROB_SCALE || !dv_load16(freqs + 2 * (n_tokens - 1)))
            return DV_BAD;
    }
    return DV_OK;
}

static int table_shape(int n_tables, int n_tokens) {
    return n_tables >= 1 && n_tables <= DV_CONTEXTS && (n_tokens == 64 || n_tokens == 128);
}

static PyObject *py_read_tables(PyObject *self, PyObject *args) {
    Py_buffer bits = {0};
    int n_tables, n_tokens;
    uint16_t freqs[DV_CONTEXTS * DV_MAX_TOKENS];
    if (!PyArg_ParseTuple(args, "y*ii", &bits, &n_tables, &n_tokens))
        return NULL;
    int ok = table_shape(n_tables, n_tokens) &&
             !dv_read_tables(bits.buf, (size_t)bits.len, n_tables, n_tokens, freqs);
    PyBuffer_Release(&bits);
    if (!ok)
        return dv_raise("malformed tables");
    return PyBytes_FromStringAndSize((char *)freqs, 2 * (Py_ssize_t)n_tables * n_tokens);
}

/* write_tables(frequencies, n_tables, n_tokens) -> bits */
static PyObject *py_write_tables(PyObject *self, PyObject *args) {
    Py_buffer freqs = {0};
    int n_tables, n_tokens;
    if (!PyArg_ParseTuple(args, "y*ii", &freqs, &n_tables, &n_tokens))
        return NULL;
    if (!table_shape(n_tables, n_tokens) || freqs.len != 2 * (Py_ssize_t)n_tables * n_tokens ||
        dv_proven_freqs(freqs.buf, n_tables, n_tokens)) {
        PyBuffer_Release(&freqs);
        return dv_raise("frequencies do not fit");
    }
    uint16_t copy[DV_CONTEXTS * DV_MAX_TOKENS];
    uint8_t bits[DV_CONTEXTS * DV_PROB_SCALE] = {0};
    memcpy(copy, freqs.buf, (size_t)freqs.len);
    PyBuffer_Release(&freqs);
    return PyBytes_FromStringAndSize((char *)bits, (Py_ssize_t)dv_write_tables(copy, n_tables, n_tokens, bits));
}

/* count(level, width, mantissa, target, base or None, counts): add a histogram to uint32 counts. */
static PyObject *py_count(PyObject *self, PyObject *args) {
    Py_buffer target = {0}, base = {0}, counts = {0};
    int level, width, mantissa;
    if (!PyArg_ParseTuple(args, "iiiy*z*w*", &level, &width, &mantissa, &target, &base, &counts))
        return NULL;
    Py_buffer *all[] = {&target, &base, &counts};
    int known = dv_known_format(width, mantissa);
    size_t n = known ? (size_t)target.len / (size_t)(width / 8) : 0;
    size_t bins = known ? ((size_t)1 << (width - 1 - mantissa)) * (base.obj ? 4 * (size_t)width : 1) : 0;
    if (!known || (base.obj && base.len != target.len) || (size_t)counts.len != 4 * bins || n > UINT32_MAX ||
        (uintptr_t)counts.buf % 4) {
        dv_release(all, 3);
        return dv_raise("buffers do not fit");
    }
    dv_model m;
    dv_model_init(&m, width, mantissa, 0, !base.obj);
    PyThreadState *state = dv_leave_python(target.len);
    if (base.obj)
        dv_count_delta(level, &m, target.buf, base.buf, n, counts.buf);
    else
        dv_count_exponents(&m, target.buf, n, counts.buf);
    dv_enter_python(state);
    dv_release(all, 3);
    Py_RETURN_NONE;
}

/* planes(level, itemsize, join, source, base or None, out): split or join byte planes. */
static PyObject *py_planes(PyObject *self, PyObject *args) {
    Py_buffer source = {0}, base = {0}, out = {0};
    int level, itemsize, join;
    if (!PyArg_ParseTuple(args, "iipy*z*w*", &level, &itemsize, &join, &source, &base, &out))
        return NULL;
    Py_buffer *all[] = {&source, &base, &out};
    if (itemsize < 1 || itemsize > 16 || source.len != out.len || (base.obj && base.len != out.len) ||
        out.len % itemsize) {
        dv_release(all, 3);
        return dv_raise("buffers do not fit");
    }
    PyThreadState *state = dv_leave_python(out.len);
    (join ? dv_join : dv_split)(level, source.buf, base.buf, (size_t)out.len / (size_t)itemsize, itemsize, out.buf);
    dv_enter_python(state);
    dv_release(all, 3);
    Py_RETURN_NONE;
}

static PyObject *py_levels(PyObject *self, PyObject *ignored) {
    static const char *const names[DV_N_LEVELS] = {"scalar", "avx2", "avx512", "avx512-loads"};
    int levels[DV_N_LEVELS], n = dv_levels(levels);
    PyObject *all = PyTuple_New(n);
    for (int i = 0; all && i < n; i++) {
        PyObject *one = Py_BuildValue("si", names[levels[i]], levels[i]);
        if (!one)
            Py_CLEAR(all);
        else
            PyTuple_SET_ITEM(all, i, one);
    }
    return all;
}

static PyMethodDef methods[] = {
    {"levels", py_levels, METH_NOARGS, "() -> name and number of what this processor can run, slowest first"},
    {"read_tables", py_read_tables, METH_VARARGS, "(bits, n_tables, n_tokens) -> uint16 frequencies"},
    {"write_tables", py_write_tables, METH_VARARGS, "(frequencies, n_tables, n_tokens) -> bits"},
    {"count", py_count, METH_VARARGS, "(level, width, mantissa, target, base|None, counts): add a histogram"},
    {"open_coder", dv_open_coder, METH_VARARGS, "(side, width, mantissa, is_exp) -> Coder"},
    {"tune", dv_tune, METH_VARARGS, "(level, width, mantissa, narrow, pairs) -> (Coder, side, bits)"},
    {"planes", py_planes, METH_VARARGS, "(level, itemsize, join, source, base|None, out)"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "Kernels of deltavcs.codec; not an API.", 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void) {
#ifdef DV_X86
    dv_avx2_init();
#endif
    PyObject *module = PyModule_Create(&definition), *exports = module ? dv_make_exports() : NULL;
    if (module && (!exports || PyModule_AddObjectRef(module, "exports", exports) ||
                   PyModule_AddType(module, &dv_coder_type)))
        Py_CLEAR(module);
    Py_XDECREF(exports);
    return module;
}
