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
    dv_coder *coder = (dv_coder *)type->tp_alloc(type, 0);
    if (coder) {
        coder->model = m;
        coder->freqs = PyMem_Malloc((size_t)freqs.len);
        if (coder->freqs) {
            memcpy(coder->freqs, freqs.buf, (size_t)freqs.len);
        } else {
            Py_CLEAR(coder);
            PyErr_NoMemory();
        }
    }
    dv_release(all, 2);
    return (PyObject *)coder;
}

static void coder_dealloc(PyObject *self) {
    dv_coder *coder = (dv_coder *)self;
    PyMem_Free(coder->freqs);
    PyMem_Free(coder->decode_table);
    PyMem_Free(coder->encode_table);
    Py_TYPE(self)->tp_free(self);
}

const uint32_t *dv_coder_decode_table(dv_coder *coder) {
    const dv_model *m = &coder->model;
    if (!coder->decode_table) {
        uint32_t *table = PyMem_Malloc(4 * (size_t)m->n_tables * DV_PROB_SCALE);
        if (!table)
            return (uint32_t *)PyErr_NoMemory();
        dv_decode_table(coder->freqs, m->n_tables, m->n_tokens, table);
        coder->decode_table = table;
    }
    return coder->decode_table;
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
    const uint32_t *table = dv_coder_decode_table(coder);
    uint8_t *own = NULL;
    if (!table || (n_own && !(own = malloc(n_own)))) {
        dv_release(all, 3);
        return PyErr_NoMemory();
    }
    int status;
    Py_BEGIN_ALLOW_THREADS
    status = dv_decode_chunk(level, m, table, payload.buf, (size_t)payload.len, base.buf, out.buf, n, own);
    free(own);
    Py_END_ALLOW_THREADS
    dv_release(all, 3);
    if (status != DV_OK)
        return dv_raise("payload does not follow the format");
    Py_RETURN_NONE;
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
