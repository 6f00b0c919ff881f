/* What the Python types of the extension share. */
#ifndef DELTAVCS_MODULE_H
#define DELTAVCS_MODULE_H

#include "arguments.h"
#include "codec.h"

/* One tensor's model and frequencies, proven, with the tables made of them when they are first needed. Immutable
 * to whoever holds it: the table for encoding is made under the GIL and then stays. */
typedef struct {
    PyObject_HEAD
    dv_model model;
    uint16_t *freqs;
    uint32_t *encode_table;
    uint64_t number; /* no other coder of this process has it */
} dv_coder;

extern PyTypeObject dv_coder_type;

/* The tables for decoding, in memory of this thread: valid until it asks for those of another coder in the same slot,
 * 0 or 1. Needs no GIL. */
const uint32_t *dv_coder_tables(const dv_coder *coder, int slot);

/* Let other threads run, unless the work on so many bytes is over before one of them would have woken up. */
#define DV_BRIEF_BYTES (1 << 15)
static inline PyThreadState *dv_leave_python(Py_ssize_t n_bytes) {
    return n_bytes > DV_BRIEF_BYTES ? PyEval_SaveThread() : NULL;
}
static inline void dv_enter_python(PyThreadState *state) {
    if (state)
        PyEval_RestoreThread(state);
}

static inline int dv_known_format(int width, int mantissa) {
    return (width == 16 && (mantissa == 7 || mantissa == 10)) || (width == 32 && mantissa == 23);
}
/* exports.c: the capsule for other extensions. */
PyObject *dv_make_exports(void);
/* coder.c: open_coder(side, width, mantissa, is_exp) and tune(level, width, mantissa, narrow, pairs) */
PyObject *dv_open_coder(PyObject *self, PyObject *args);
PyObject *dv_tune(PyObject *self, PyObject *args);
/* Frequencies of every table must be usable: each row sums to 2048 and can escape. */
int dv_proven_freqs(const uint8_t *freqs, int n_tables, int n_tokens);

#endif
