/* Coder: encodes and decodes the chunks of one tensor from memory to memory. */
#include "module.h"

static int fill_model(dv_model *m, int width, int mantissa, unsigned top, int is_exp, const Py_buffer *table_of) {
    if (!dv_known_format(width, mantissa) || top >= 1u << (width - 1 - mantissa) || table_of->len != DV_CONTEXTS)
        return DV_BAD;
    dv_model_init(m, width, mantissa, top, is_exp);
    memcpy(m->table_of, table_of->buf, DV_CONTEXTS);
    m->n_tables = m->table_of[DV_CONTEXTS - 1] + 1;
    if (m->n_tables > DV_CONTEXTS || (is_exp && m->n_tables != 1) || m->table_of[0])
        return DV_BAD;
    for (int i = 0; i < DV_CONTEXTS; i++)
        if (m->table_of[i] >= m->n_tables)
            return DV_BAD;
    return DV_OK;
}

/* A coder of a proven model; NULL with an exception set. */
static PyObject *make_coder(PyTypeObject *type, const dv_model *m, const void *freqs) {
    size_t n_bytes = sizeof(uint16_t) * (size_t)m->n_tables * (size_t)m->n_tokens;
    dv_coder *coder = (dv_coder *)type->tp_alloc(type, 0);
    if (!coder)
        return NULL;
    static uint64_t made;
    coder->number = ++made;
    coder->model = *m;
    coder->freqs = PyMem_Malloc(n_bytes);
    if (!coder->freqs) {
        Py_DECREF(coder);
        return PyErr_NoMemory();
    }
    memcpy(coder->freqs, freqs, n_bytes);
    return (PyObject *)coder;
}

/* Coder(width, mantissa, top, is_exp, table_of, frequencies) */
static PyObject *coder_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    Py_buffer table_of = {0}, freqs = {0};
    int width, mantissa, is_exp;
    unsigned top;
    if (keywords && PyDict_GET_SIZE(keywords))
        return dv_raise("no keywords");
    if (!PyArg_ParseTuple(args, "iiIpy*y*", &width, &mantissa, &top, &is_exp, &table_of, &freqs))
        return NULL;
    Py_buffer *all[] = {&table_of, &freqs};
    dv_model m;
    if (fill_model(&m, width, mantissa, top, is_exp, &table_of) ||
        freqs.len != 2 * (Py_ssize_t)m.n_tables * m.n_tokens || dv_proven_freqs(freqs.buf, m.n_tables, m.n_tokens)) {
        dv_release(all, 2);
        return dv_raise("the tables do not fit the format");
    }
    PyObject *coder = make_coder(type, &m, freqs.buf);
    dv_release(all, 2);
    return coder;
}

static void coder_dealloc(PyObject *self) {
    dv_coder *coder = (dv_coder *)self;
    PyMem_Free(coder->freqs);
    PyMem_Free(coder->encode_table);
    Py_TYPE(self)->tp_free(self);
}

/* Made again in memory of the thread rather than kept with each coder: pages that are new to the process take longer
 * than filling tables does, and those of every tensor would take 139 KB. */
const uint32_t *dv_coder_tables(const dv_coder *coder, int slot) {
    static _Thread_local uint32_t tables[2][DV_CONTEXTS * DV_PROB_SCALE];
    static _Thread_local uint64_t numbers[2];
    if (numbers[slot] != coder->number) {
        dv_decode_table(&coder->model, coder->freqs, tables[slot]);
        numbers[slot] = coder->number;
    }
    return tables[slot];
}

static const uint32_t *coder_encode_table(dv_coder *coder) {
    const dv_model *m = &coder->model;
    if (!coder->encode_table) {
        uint32_t *table = PyMem_Malloc(4 * (size_t)m->n_tables * (size_t)m->n_tokens);
        if (!table)
            return (uint32_t *)PyErr_NoMemory();
        dv_encode_table(coder->freqs, m->n_tables, m->n_tokens, table);
        coder->encode_table = table;
    }
    return coder->encode_table;
}

static PyObject *assemble(const dv_section *s, int n_sections, const uint8_t *planes, size_t n_planes) {
    size_t n_bytes = 4 + (size_t)n_sections * (4 + 4 * DV_LANES) + n_planes;
    for (int i = 0; i < n_sections; i++)
        n_bytes += (size_t)(s[i].words_end - s[i].head);
    PyObject *payload = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n_bytes);
    if (!payload)
        return NULL;
    uint8_t *at = (uint8_t *)PyBytes_AS_STRING(payload);
    /* Nobody else knows this object yet. Copying is brief even where coding is not. */
    PyThreadState *state = dv_leave_python((Py_ssize_t)n_bytes / 8);
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
    dv_enter_python(state);
    return payload;
}

/* encode(level, n_sections, target, base or None) -> payload, or None if it would be longer than the chunk. */
static PyObject *coder_encode(PyObject *self, PyObject *args) {
    dv_coder *coder = (dv_coder *)self;
    const dv_model *m = &coder->model;
    Py_buffer target = {0}, base = {0};
    int level, n_sections, is_exp = m->is_exp;
    if (!PyArg_ParseTuple(args, "iiy*z*", &level, &n_sections, &target, &base))
        return NULL;
    Py_buffer *all[] = {&target, &base};
    if (n_sections < 1 || n_sections > DV_MAX_SECTIONS || target.len % (m->width / 8) ||
        (!is_exp && (!base.obj || base.len != target.len))) {
        dv_release(all, 2);
        return dv_raise("buffers do not fit");
    }
    size_t n = (size_t)target.len / (size_t)(m->width / 8);
    size_t n_planes = dv_plane_bytes(m, n), n_values = is_exp ? 2 * n : 0;
    size_t n_room = dv_encode_room(m, n, n_sections);
    const uint32_t *table = coder_encode_table(coder);
    if (!table) {
        dv_release(all, 2);
        return NULL;
    }
    dv_section s[DV_MAX_SECTIONS];
    uint8_t *room = NULL;
    int status;
    PyThreadState *state = dv_leave_python(target.len);
    room = malloc(n_room + n_planes + n_values + 1);
    status = DV_BAD;
    if (room) {
        uint8_t *planes = room + n_room, *values = planes + n_planes;
        if (is_exp)
            dv_exp_split(level, m, target.buf, n, values, planes);
        status = dv_encode_sections(level, m, table, is_exp ? values : target.buf, base.buf, n, s, n_sections, room);
    }
    dv_enter_python(state);
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
    dv_release(all, 2);
    return payload;
}

/* decode(level, payload, base or None, out); ValueError if the payload is not in mode 0 of the format. */
static PyObject *coder_decode(PyObject *self, PyObject *args) {
    dv_coder *coder = (dv_coder *)self;
    const dv_model *m = &coder->model;
    Py_buffer payload = {0}, base = {0}, out = {0};
    int level;
    if (!PyArg_ParseTuple(args, "iy*z*w*", &level, &payload, &base, &out))
        return NULL;
    Py_buffer *all[] = {&payload, &base, &out};
    if (out.len % (m->width / 8) || (!m->is_exp && (!base.obj || base.len != out.len))) {
        dv_release(all, 3);
        return dv_raise("buffers do not fit");
    }
    size_t n = (size_t)out.len / (size_t)(m->width / 8), n_own = dv_decode_room(m, n);
    uint8_t *own = NULL;
    if (n_own && !(own = malloc(n_own))) {
        dv_release(all, 3);
        return PyErr_NoMemory();
    }
    PyThreadState *state = dv_leave_python(out.len);
    int status = dv_decode_chunk(level, m, dv_coder_tables(coder, 0), payload.buf, (size_t)payload.len, base.buf, out.buf,
                                 n, own);
    free(own);
    dv_enter_python(state);
    dv_release(all, 3);
    if (status != DV_OK)
        return dv_raise("payload does not follow the format");
    Py_RETURN_NONE;
}

/* The buffers of (target, base) tuples, to be released by the caller whatever comes back. */
static int open_pairs(PyObject *pairs, Py_buffer *buffers) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(pairs); i++) {
        PyObject *pair = PyTuple_GET_ITEM(pairs, i);
        Py_buffer *target = buffers + 2 * i, *base = target + 1;
        if (!PyTuple_Check(pair) || !PyArg_ParseTuple(pair, "y*y*", target, base) || target->len != base->len ||
            target->len > UINT32_MAX)
            return DV_BAD;
    }
    return DV_OK;
}

#define SIDE_HEAD 6

/* The side of a tensor (spec 6.2): format, flags, top exponent, contexts that begin a table, tables. */
static PyObject *write_side(const dv_model *m, int narrow, const uint16_t *freqs) {
    uint8_t side[SIDE_HEAD + DV_CONTEXTS * DV_PROB_SCALE] = {1, (uint8_t)(narrow != 0)};
    uint32_t begins = 0;
    for (int c = 1; c < DV_CONTEXTS; c++)
        begins |= (uint32_t)(m->table_of[c] != m->table_of[c - 1]) << (c - 1);
    dv_store16(side + 2, m->top);
    dv_store16(side + 4, begins);
    size_t n = dv_write_tables(freqs, m->n_tables, m->n_tokens, side + SIDE_HEAD);
    return PyBytes_FromStringAndSize((char *)side, (Py_ssize_t)(SIDE_HEAD + n));
}

PyObject *dv_open_coder(PyObject *self, PyObject *args) {
    Py_buffer side = {0};
    int width, mantissa, is_exp;
    if (!PyArg_ParseTuple(args, "y*iip", &side, &width, &mantissa, &is_exp))
        return NULL;
    const uint8_t *bytes = side.buf;
    uint16_t freqs[DV_CONTEXTS * DV_MAX_TOKENS];
    dv_model m;
    int status = DV_BAD;
    if (dv_known_format(width, mantissa) && side.len >= SIDE_HEAD && bytes[0] == 1 && bytes[1] <= 1) {
        uint32_t begins = dv_load16(bytes + 4);
        dv_model_init(&m, width, mantissa, dv_load16(bytes + 2), is_exp);
        for (int c = 1; c < DV_CONTEXTS; c++)
            m.table_of[c] = (uint8_t)(m.table_of[c - 1] + (begins >> (c - 1) & 1u));
        m.n_tables = m.table_of[DV_CONTEXTS - 1] + 1;
        if (m.top <= m.exp_mask && (!is_exp || m.n_tables == 1))
            status = dv_read_tables(bytes + SIDE_HEAD, (size_t)side.len - SIDE_HEAD, m.n_tables, m.n_tokens, freqs);
    }
    PyBuffer_Release(&side);
    return status ? dv_raise("malformed side") : make_coder(&dv_coder_type, &m, freqs);
}

PyObject *dv_tune(PyObject *self, PyObject *args) {
    PyObject *pairs;
    int level, width, mantissa, narrow;
    if (!PyArg_ParseTuple(args, "iiipO!", &level, &width, &mantissa, &narrow, &PyTuple_Type, &pairs))
        return NULL;
    if (!dv_known_format(width, mantissa))
        return dv_raise("no such format");
    dv_model m;
    dv_model_init(&m, width, mantissa, 0, 0);
    const size_t n_pairs = (size_t)PyTuple_GET_SIZE(pairs);
    Py_buffer *buffers = calloc(2 * n_pairs + 1, sizeof *buffers);
    uint32_t *counts = calloc(((size_t)m.exp_mask + 1) * (size_t)m.n_tokens, sizeof *counts);
    uint16_t freqs[DV_CONTEXTS * DV_MAX_TOKENS];
    double bits = 0;
    int status = buffers && counts ? open_pairs(pairs, buffers) : DV_BAD;
    if (!status) {
        Py_BEGIN_ALLOW_THREADS
        for (size_t i = 0; i < 2 * n_pairs; i += 2)
            dv_count_delta(level, &m, buffers[i].buf, buffers[i + 1].buf,
                           (size_t)buffers[i].len / (size_t)(width / 8), counts);
        bits = dv_tune_delta(&m, counts, freqs);
        Py_END_ALLOW_THREADS
    }
    int no_memory = !buffers || !counts;
    for (size_t i = 0; buffers && i < 2 * n_pairs; i++)
        if (buffers[i].obj)
            PyBuffer_Release(buffers + i);
    free(buffers);
    free(counts);
    if (status)
        return no_memory ? PyErr_NoMemory() : PyErr_Occurred() ? NULL : dv_raise("buffers do not fit");
    PyObject *coder = make_coder(&dv_coder_type, &m, freqs), *side = coder ? write_side(&m, narrow, freqs) : NULL;
    if (!side) {
        Py_XDECREF(coder);
        return NULL;
    }
    return Py_BuildValue("NNd", coder, side, bits);
}

static PyMethodDef methods[] = {
    {"encode", coder_encode, METH_VARARGS, "(level, n_sections, target, base|None) -> payload|None"},
    {"decode", coder_decode, METH_VARARGS, "(level, payload, base|None, out)"},
    {NULL, NULL, 0, NULL},
};

PyTypeObject dv_coder_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "deltavcs.codec._native.Coder",
    .tp_basicsize = sizeof(dv_coder),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "(width, mantissa, top, is_exp, table_of, frequencies): codes the chunks of one tensor",
    .tp_new = coder_new,
    .tp_dealloc = coder_dealloc,
    .tp_methods = methods,
};
