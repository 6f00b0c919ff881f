/* Python's door to the kernels: buffers in, lengths proven, GIL released. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>

#include "codec.h"

/* What a call says about its tensor, ahead of its buffers. */
typedef struct {
    dv_model model;
    Py_buffer table_of, freqs;
} call_model;

#define MODEL_FORMAT "iiIpy*y*"
#define MODEL_ARGS(c, width, mantissa, top, is_exp) &(width), &(mantissa), &(top), &(is_exp), &(c).table_of, &(c).freqs

static PyObject *bad(const char *why) {
    PyErr_SetString(PyExc_ValueError, why);
    return NULL;
}

/* Prove the model of a call; `entry` is the size of one table entry, `per_table` their number (0: alphabet). */
static int open_model(call_model *c, int width, int mantissa, unsigned top, int is_exp, size_t entry, size_t per_table) {
    int known = (width == 16 && (mantissa == 7 || mantissa == 10)) || (width == 32 && mantissa == 23);
    if (!known || top >= 1u << (width - 1 - mantissa) || c->table_of.len != DV_CONTEXTS)
        return DV_BAD;
    dv_model_init(&c->model, width, mantissa, top, is_exp);
    memcpy(c->model.table_of, c->table_of.buf, DV_CONTEXTS);
    c->model.n_tables = c->model.table_of[DV_CONTEXTS - 1] + 1;
    for (int i = 0; i < DV_CONTEXTS; i++)
        if (c->model.table_of[i] >= c->model.n_tables || c->model.table_of[0])
            return DV_BAD;
    if (c->model.n_tables > DV_CONTEXTS || (is_exp && c->model.n_tables != 1))
        return DV_BAD;
    per_table = per_table ? per_table : (size_t)c->model.n_tokens;
    return (size_t)c->freqs.len == entry * per_table * (size_t)c->model.n_tables ? DV_OK : DV_BAD;
}

static void release(Py_buffer *buffers[], int n) {
    for (int i = 0; i < n; i++)
        if (buffers[i]->obj)
            PyBuffer_Release(buffers[i]);
}

/* Frequencies of every table must be usable: each row sums to 2048 and can escape. */
static int proven_freqs(const uint8_t *freqs, int n_tables, int n_tokens) {
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
        return bad("malformed tables");
    return PyBytes_FromStringAndSize((char *)freqs, 2 * (Py_ssize_t)n_tables * n_tokens);
}

static PyObject *tables_call(PyObject *args, int what) {
    Py_buffer freqs = {0};
    int n_tables, n_tokens;
    PyObject *found = NULL;
    if (!PyArg_ParseTuple(args, "y*ii", &freqs, &n_tables, &n_tokens))
        return NULL;
    if (!table_shape(n_tables, n_tokens) || freqs.len != 2 * (Py_ssize_t)n_tables * n_tokens ||
        proven_freqs(freqs.buf, n_tables, n_tokens)) {
        PyBuffer_Release(&freqs);
        return bad("frequencies do not fit");
    }
    uint16_t copy[DV_CONTEXTS * DV_MAX_TOKENS];
    memcpy(copy, freqs.buf, (size_t)freqs.len);
    PyBuffer_Release(&freqs);
    Py_ssize_t n_entries = what == 2 ? n_tables * n_tokens : n_tables * DV_PROB_SCALE;
    if (what == 0) {
        uint8_t bits[DV_CONTEXTS * DV_PROB_SCALE] = {0};
        return PyBytes_FromStringAndSize((char *)bits, (Py_ssize_t)dv_write_tables(copy, n_tables, n_tokens, bits));
    }
    found = PyBytes_FromStringAndSize(NULL, 4 * n_entries);
    if (found && what == 1)
        dv_decode_table(copy, n_tables, n_tokens, (uint32_t *)PyBytes_AS_STRING(found));
    else if (found)
        dv_encode_table(copy, n_tables, n_tokens, (uint32_t *)PyBytes_AS_STRING(found));
    return found;
}
static PyObject *py_write_tables(PyObject *self, PyObject *args) { return tables_call(args, 0); }
static PyObject *py_decode_table(PyObject *self, PyObject *args) { return tables_call(args, 1); }
static PyObject *py_encode_table(PyObject *self, PyObject *args) { return tables_call(args, 2); }

/* count(level, width, mantissa, target, base or None, counts): add a histogram to uint32 counts. */
static PyObject *py_count(PyObject *self, PyObject *args) {
    Py_buffer target = {0}, base = {0}, counts = {0};
    int level, width, mantissa;
    if (!PyArg_ParseTuple(args, "iiiy*z*w*", &level, &width, &mantissa, &target, &base, &counts))
        return NULL;
    Py_buffer *all[] = {&target, &base, &counts};
    int known = (width == 16 && (mantissa == 7 || mantissa == 10)) || (width == 32 && mantissa == 23);
    size_t n = known ? (size_t)target.len / (size_t)(width / 8) : 0;
    size_t bins = known ? ((size_t)1 << (width - 1 - mantissa)) * (base.obj ? 4 * (size_t)width : 1) : 0;
    if (!known || (base.obj && base.len != target.len) || (size_t)counts.len != 4 * bins || n > UINT32_MAX ||
        (uintptr_t)counts.buf % 4) {
        release(all, 3);
        return bad("buffers do not fit");
    }
    dv_model m;
    dv_model_init(&m, width, mantissa, 0, !base.obj);
    Py_BEGIN_ALLOW_THREADS
    if (base.obj)
        dv_count_delta(level, &m, target.buf, base.buf, n, counts.buf);
    else
        dv_count_exponents(&m, target.buf, n, counts.buf);
    Py_END_ALLOW_THREADS
    release(all, 3);
    Py_RETURN_NONE;
}

/* tune(width, mantissa, counts) -> (top, table_of, frequencies, bits of the counted weights) */
static PyObject *py_tune(PyObject *self, PyObject *args) {
    Py_buffer counts = {0};
    int width, mantissa;
    if (!PyArg_ParseTuple(args, "iiy*", &width, &mantissa, &counts))
        return NULL;
    int known = (width == 16 && (mantissa == 7 || mantissa == 10)) || (width == 32 && mantissa == 23);
    size_t bins = known ? ((size_t)1 << (width - 1 - mantissa)) * 4 * (size_t)width : 0;
    if (!known || (size_t)counts.len != 4 * bins || (uintptr_t)counts.buf % 4) {
        PyBuffer_Release(&counts);
        return bad("buffers do not fit");
    }
    dv_model m;
    uint16_t freqs[DV_CONTEXTS * DV_MAX_TOKENS];
    double bits;
    dv_model_init(&m, width, mantissa, 0, 0);
    Py_BEGIN_ALLOW_THREADS
    bits = dv_tune_delta(&m, counts.buf, freqs);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&counts);
    return Py_BuildValue("Iy#y#d", m.top, (char *)m.table_of, (Py_ssize_t)DV_CONTEXTS, (char *)freqs,
                         (Py_ssize_t)(2 * m.n_tables * m.n_tokens), bits);
}

static PyObject *assemble(const dv_section *s, int n_sections, const uint8_t *planes, size_t n_planes) {
    size_t n_bytes = 4 + (size_t)n_sections * (4 + 4 * DV_LANES) + n_planes;
    for (int i = 0; i < n_sections; i++)
        n_bytes += (size_t)(s[i].words_end - s[i].head);
    PyObject *payload = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n_bytes);
    if (!payload)
        return NULL;
    uint8_t *at = (uint8_t *)PyBytes_AS_STRING(payload);
    /* Nobody else knows this object yet. */
    Py_BEGIN_ALLOW_THREADS
    dv_store32(at, (uint32_t)n_sections << 8);
    at += 4;
    for (int i = 0; i < n_sections; i++, at += 4)
        dv_store32(at, (uint32_t)((s[i].words_end - s[i].head) / 2));
    for (int i = 0; i < n_sections; i++, at += 4 * DV_LANES)
        memcpy(at, s[i].x, 4 * DV_LANES);
    for (int i = 0; i < n_sections; i++) {
        size_t n = (size_t)(s[i].words_end - s[i].head);
        memcpy(at, s[i].head, n);
        at += n;
    }
    if (n_planes)
        memcpy(at, planes, n_planes);
    Py_END_ALLOW_THREADS
    return payload;
}

/* encode(level, width, mantissa, top, is_exp, table_of, encode_table, n_sections, target, base or None)
 * -> payload, or None if it would be longer than the chunk. */
static PyObject *py_encode(PyObject *self, PyObject *args) {
    call_model c = {0};
    Py_buffer target = {0}, base = {0};
    int level, width, mantissa, is_exp, n_sections;
    unsigned top;
    if (!PyArg_ParseTuple(args, "i" MODEL_FORMAT "iy*z*", &level, MODEL_ARGS(c, width, mantissa, top, is_exp),
                          &n_sections, &target, &base))
        return NULL;
    Py_buffer *all[] = {&c.table_of, &c.freqs, &target, &base};
    if (open_model(&c, width, mantissa, top, is_exp, 4, 0) || n_sections < 1 || n_sections > DV_MAX_SECTIONS ||
        target.len % (width / 8) || (!is_exp && (!base.obj || base.len != target.len))) {
        release(all, 4);
        return bad("buffers do not fit");
    }
    const dv_model *m = &c.model;
    size_t n = (size_t)target.len / (size_t)(width / 8);
    size_t n_planes = is_exp ? n * (size_t)((1 + mantissa) / 8) : 0, n_values = is_exp ? 2 * n : 0;
    size_t n_room = dv_encode_room(m, n, n_sections);
    uint32_t table[DV_CONTEXTS * DV_MAX_TOKENS];
    memcpy(table, c.freqs.buf, (size_t)c.freqs.len);
    dv_section s[DV_MAX_SECTIONS];
    uint8_t *room = NULL;
    int status;
    Py_BEGIN_ALLOW_THREADS
    room = malloc(n_room + n_planes + n_values + 1);
    status = DV_BAD;
    if (room) {
        uint8_t *planes = room + n_room, *values = planes + n_planes;
        if (is_exp)
            dv_exp_split(level, m, target.buf, n, values, planes);
        status = dv_encode_sections(level, m, table, is_exp ? values : target.buf, base.buf, n, s, n_sections, room);
    }
    Py_END_ALLOW_THREADS
    PyObject *payload = NULL;
    if (status == DV_OK) {
        for (int i = 0; i < n_sections; i++)
            s[i].words_end = room + (size_t)(i + 1) * (n_room / (size_t)n_sections);
        payload = assemble(s, n_sections, room + n_room, n_planes);
    } else if (!room) {
        PyErr_NoMemory();
    } else {
        payload = Py_NewRef(Py_None);
    }
    free(room);
    release(all, 4);
    return payload;
}

/* decode(level, width, mantissa, top, is_exp, table_of, decode_table, payload, base or None, out);
 * ValueError if the payload does not follow the format. */
static PyObject *py_decode(PyObject *self, PyObject *args) {
    call_model c = {0};
    Py_buffer payload = {0}, base = {0}, out = {0};
    int level, width, mantissa, is_exp;
    unsigned top;
    if (!PyArg_ParseTuple(args, "i" MODEL_FORMAT "y*z*w*", &level, MODEL_ARGS(c, width, mantissa, top, is_exp),
                          &payload, &base, &out))
        return NULL;
    Py_buffer *all[] = {&c.table_of, &c.freqs, &payload, &base, &out};
    if (open_model(&c, width, mantissa, top, is_exp, 4, DV_PROB_SCALE) || out.len % (width / 8) ||
        (uintptr_t)c.freqs.buf % 4 || (!is_exp && (!base.obj || base.len != out.len))) {
        release(all, 5);
        return bad("buffers do not fit");
    }
    const dv_model *m = &c.model;
    size_t n = (size_t)out.len / (size_t)(width / 8), n_payload = (size_t)payload.len;
    size_t n_planes = is_exp ? n * (size_t)((1 + mantissa) / 8) : 0;
    int status = DV_BAD, no_memory = 0;
    if (n_payload >= n_planes) {
        Py_BEGIN_ALLOW_THREADS
        uint8_t *own = is_exp && width == 32 ? malloc(2 * n + 1) : NULL;
        uint8_t *values = own ? own : out.buf;
        no_memory = is_exp && width == 32 && !own;
        if (!no_memory)
            status = dv_decode_payload(level, m, c.freqs.buf, payload.buf, n_payload - n_planes, base.buf, values, n);
        if (is_exp && status == DV_OK)
            dv_exp_join(level, m, values, (const uint8_t *)payload.buf + (n_payload - n_planes), n, out.buf);
        free(own);
        Py_END_ALLOW_THREADS
    }
    release(all, 5);
    if (no_memory)
        return PyErr_NoMemory();
    if (status != DV_OK)
        return bad("payload does not follow the format");
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
        release(all, 3);
        return bad("buffers do not fit");
    }
    Py_BEGIN_ALLOW_THREADS
    (join ? dv_join : dv_split)(level, source.buf, base.buf, (size_t)out.len / (size_t)itemsize, itemsize, out.buf);
    Py_END_ALLOW_THREADS
    release(all, 3);
    Py_RETURN_NONE;
}

static PyObject *py_best_level(PyObject *self, PyObject *ignored) { return PyLong_FromLong(dv_best_level()); }

static PyMethodDef methods[] = {
    {"best_level", py_best_level, METH_NOARGS, "2 AVX-512, 1 AVX2, 0 portable: what this processor can run."},
    {"read_tables", py_read_tables, METH_VARARGS, "(bits, n_tables, n_tokens) -> uint16 frequencies"},
    {"write_tables", py_write_tables, METH_VARARGS, "(frequencies, n_tables, n_tokens) -> bits"},
    {"decode_table", py_decode_table, METH_VARARGS, "(frequencies, n_tables, n_tokens) -> table for decode()"},
    {"encode_table", py_encode_table, METH_VARARGS, "(frequencies, n_tables, n_tokens) -> table for encode()"},
    {"count", py_count, METH_VARARGS, "(level, width, mantissa, target, base|None, counts): add a histogram"},
    {"tune", py_tune, METH_VARARGS, "(width, mantissa, counts) -> (top, table_of, frequencies, bits)"},
    {"encode", py_encode, METH_VARARGS, "(level, model…, n_sections, target, base|None) -> payload|None"},
    {"decode", py_decode, METH_VARARGS, "(level, model…, payload, base|None, out)"},
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
    return PyModule_Create(&definition);
}
