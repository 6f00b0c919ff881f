/* What other extensions of this package call of the codec: a table of functions in the capsule `exports` of its
 * module, so that no kernel is compiled twice. A coder is a Python object of the type `Coder`. */
#ifndef DELTAVCS_EXPORTS_H
#define DELTAVCS_EXPORTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stddef.h>
#include <stdint.h>

#define DV_EXPORTS_MODULE "deltavcs.codec._native"
#define DV_EXPORTS_NAME DV_EXPORTS_MODULE ".exports"
/* Another one whenever the table or what its functions do changes: extensions are built together, and may not be
 * installed together. */
#define DV_EXPORTS_VERSION 1u

/* All but `is_coder` need no GIL and take coders that `is_coder` has proven, kept alive by the caller. */
typedef struct {
    uint32_t version;
    size_t xxh3_least; /* bytes */

    int (*is_coder)(PyObject *object);
    int (*itemsize)(PyObject *coder);
    int (*needs_base)(PyObject *coder);
    /* No encoder stores a chunk of n bytes in more. */
    size_t (*longest_payload)(size_t n);
    /* Bytes of `room` for a chunk of n bytes, whole elements. */
    size_t (*decode_room)(PyObject *coder, size_t n);
    /* Decode a payload in mode 0 to a chunk of n bytes. Tables are made in memory of the thread, `slot` is 0 or 1: what
     * takes turns on a thread does best with different ones. Checks every length. 0, or -1 if it is malformed. */
    int (*decode)(int level, PyObject *coder, int slot, const uint8_t *payload, size_t n_payload, const uint8_t *base,
                  uint8_t *out, size_t n, uint8_t *room);
    /* The checksum of n bytes, not fewer than `xxh3_least`. */
    uint64_t (*xxh3)(int level, const uint8_t *data, size_t n);
} dv_exports;

#endif
