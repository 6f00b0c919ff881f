/* The table of functions for other extensions. */
#include "exports.h"
#include "module.h"

static const dv_model *model_of(PyObject *coder) { return &((const dv_coder *)coder)->model; }

static int is_coder(PyObject *object) { return PyObject_TypeCheck(object, &dv_coder_type); }

static int itemsize(PyObject *coder) { return model_of(coder)->width / 8; }

static int needs_base(PyObject *coder) { return !model_of(coder)->is_exp; }

/* The chunk and the heads of its sections. */
static size_t longest_payload(size_t n) { return 2 * n + 4 + DV_MAX_SECTIONS * (4 + 4 * DV_LANES); }

static size_t decode_room(PyObject *coder, size_t n) {
    return dv_decode_room(model_of(coder), n / (size_t)itemsize(coder));
}

static int decode(int level, PyObject *coder, int slot, const uint8_t *payload, size_t n_payload, const uint8_t *base,
                  uint8_t *out, size_t n, uint8_t *room) {
    const uint32_t *tables = dv_coder_tables((const dv_coder *)coder, slot);
    return dv_decode_chunk(level, model_of(coder), tables, payload, n_payload, base, out, n / (size_t)itemsize(coder),
                           room);
}

static const dv_exports exports = {
    .version = DV_EXPORTS_VERSION,
    .xxh3_least = DV_XXH3_LEAST,
    .is_coder = is_coder,
    .itemsize = itemsize,
    .needs_base = needs_base,
    .longest_payload = longest_payload,
    .decode_room = decode_room,
    .decode = decode,
    .xxh3 = dv_xxh3,
};

PyObject *dv_make_exports(void) { return PyCapsule_New((void *)&exports, DV_EXPORTS_NAME, NULL); }
