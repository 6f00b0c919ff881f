/* Entry: the chunks of one stored tensor and of the bases below it, from files to memory or to another file.
 *
 * One call reads, decodes, proves and writes many chunks without the GIL. It does what can go on at full speed
 * and stops at whatever else it meets: a damaged chunk, a mode it does not know, a full disk. The caller does
 * that chunk with the code that can tell what is wrong. */
#include "entry.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#define MIN_CHUNK_LOG2 16
#define MAX_CHUNK_LOG2 26
#define MAX_LINKS 65
#define CHUNK_RECORD 12
/* A file system with large folios asks for as much contiguous memory as one write has bytes; larger blocks are
 * scarce, or memory that was given back to a hypervisor. */
#define WRITE_BYTES ((size_t)1 << 18)

/* Threads that write to one file take turns, a chunk each. Without that the kernel lets them alternate piece by piece:
 * both are done late, at the same time, and so meet again at their next chunks. A turn saves time and guards nothing,
 * so nobody waits for it for long. */
#define N_TURNS 64
#define TURN_MICROSECONDS 1000000

enum { READ_TIME, DECODE_TIME, CHECK_TIME, WAIT_TIME, WRITE_TIME, N_TIMES };

static PyThread_type_lock turns[N_TURNS];

typedef struct entry {
    PyObject_HEAD
    PyObject *coder; /* NULL for RAW */
    struct entry *base; /* NULL if chunks are coded alone */
    Py_buffer starts, chunks;
    uint64_t raw_bytes;
    int chunk_log2, links;
    size_t n_chunks;
    size_t most;    /* bytes of the largest chunk */
    size_t longest; /* bytes of the longest payload that is read */
    size_t room;    /* for a payload of any link, and what decoding it needs besides */
} dv_entry;

/* What is the same for all chunks of a call. */
typedef struct {
    int level, fds[MAX_LINKS], alone;
    uint64_t spent[N_TIMES], since;
} dv_call;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static void lap(dv_call *call, int which) {
    uint64_t at = now();
    call->spent[which] += at - call->since;
    call->since = at;
}

static size_t chunk_bytes(const dv_entry *e, size_t i) {
    uint64_t left = e->raw_bytes - ((uint64_t)i << e->chunk_log2), whole = (uint64_t)1 << e->chunk_log2;
    return (size_t)(left < whole ? left : whole);
}
static const uint8_t *record(const dv_entry *e, size_t i) { return (const uint8_t *)e->chunks.buf + CHUNK_RECORD * i; }
static size_t payload_bytes(const dv_entry *e, size_t i) {
    uint32_t length;
    memcpy(&length, record(e, i), 4);
    return length;
}
static int64_t start_of(const dv_entry *e, size_t i) {
    int64_t start;
    memcpy(&start, (const uint8_t *)e->starts.buf + 8 * i, 8);
    return start;
}
static uint64_t checksum_of(const dv_entry *e, size_t i) {
    uint64_t checksum;
    memcpy(&checksum, record(e, i) + 4, 8);
    return checksum;
}

static int read_all(int fd, uint8_t *out, size_t n, int64_t at) {
    while (n) {
        ssize_t got = pread(fd, out, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return DV_BAD;
        out += got;
        at += got;
        n -= (size_t)got;
    }
    return DV_OK;
}
static int write_all(int fd, const uint8_t *data, size_t n, int64_t at) {
    while (n) {
        ssize_t put = pwrite(fd, data, n < WRITE_BYTES ? n : WRITE_BYTES, (off_t)at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return DV_BAD;
        data += put;
        at += put;
        n -= (size_t)put;
    }
    return DV_OK;
}

/* Write a chunk when it is this thread's turn. */
static int write_chunk(dv_call *call, int fd, const uint8_t *data, size_t n, int64_t at) {
    PyThread_type_lock turn = turns[fd % N_TURNS];
    int mine = !call->alone && PyThread_acquire_lock_timed(turn, TURN_MICROSECONDS, 0) == PY_LOCK_ACQUIRED;
    call->alone = !mine; /* Whoever has the turn hangs, perhaps on another disk: once is enough. */
    lap(call, WAIT_TIME);
    int status = write_all(fd, data, n, at);
    if (mine)
        PyThread_release_lock(turn);
    lap(call, WRITE_TIME);
    return status;
}

/* Bytes of scratch that decoding needs: for the chunks of bases, and in all. */
static size_t base_bytes(const dv_entry *e) { return e->most * (size_t)(e->links > 2 ? 2 : e->links - 1); }
static size_t scratch_bytes(const dv_entry *e) { return base_bytes(e) + e->room; }

/* Read and decode chunk i of one link over its base, and prove it. `room` holds a payload and more. */
static int decode_link(dv_call *call, const dv_entry *e, int link, size_t i, const uint8_t *base, uint8_t *out,
                       uint8_t *room) {
    const int fd = call->fds[link];
    const size_t n_bytes = chunk_bytes(e, i), n_payload = payload_bytes(e, i);
    int status;
    if (!e->coder) {
        status = n_payload == n_bytes ? read_all(fd, out, n_bytes, start_of(e, i)) : DV_BAD;
        lap(call, READ_TIME);
    } else {
        if (n_payload > e->longest || read_all(fd, room, n_payload, start_of(e, i)))
            return DV_BAD;
        lap(call, READ_TIME);
        status = dv_codec->decode(call->level, e->coder, link > 0, room, n_payload, base, out, n_bytes,
                                  room + e->longest);
        lap(call, DECODE_TIME);
    }
    if (status || dv_codec->xxh3(call->level, out, n_bytes) != checksum_of(e, i))
        return DV_BAD;
    lap(call, CHECK_TIME);
    return DV_OK;
}

/* False if some link has this chunk in a mode that is not done here: better known before its bases are decoded. */
static int all_coded(const dv_call *call, const dv_entry *e, size_t i) {
    for (int link = 0; e; e = e->base, link++) {
        uint8_t mode;
        if (e->coder && (read_all(call->fds[link], &mode, 1, start_of(e, i)) || mode))
            return 0;
    }
    return 1;
}

/* From the lowest base up; two buffers take turns, so that memory does not depend on the depth. */
static int decode(dv_call *call, const dv_entry *e, size_t i, uint8_t *out, uint8_t *scratch) {
    const dv_entry *links[MAX_LINKS];
    uint8_t *room = scratch + base_bytes(e), *base = NULL;
    if (chunk_bytes(e, i) < dv_codec->xxh3_least || !all_coded(call, e, i))
        return DV_BAD;
    for (int link = 0; link < e->links; link++)
        links[link] = link ? links[link - 1]->base : e;
    for (int link = e->links - 1; link >= 0; link--) {
        uint8_t *to = !link ? out : link & 1 ? scratch : scratch + e->most;
        if (decode_link(call, links[link], link, i, base, to, room))
            return DV_BAD;
        base = to;
    }
    return DV_OK;
}

static int fill_entry(dv_entry *e, PyObject *coder, PyObject *base) {
    if (coder != Py_None) {
        if (!dv_codec->is_coder(coder))
            return DV_BAD;
        e->coder = Py_NewRef(coder);
    }
    if (base != Py_None) {
        if (!PyObject_TypeCheck(base, &dv_entry_type))
            return DV_BAD;
        e->base = (dv_entry *)Py_NewRef(base);
    }
    const uint64_t whole = (uint64_t)1 << e->chunk_log2;
    e->n_chunks = (size_t)(e->chunks.len / CHUNK_RECORD);
    e->links = 1 + (e->base ? e->base->links : 0);
    if (e->links > MAX_LINKS || e->n_chunks != (e->raw_bytes + whole - 1) >> e->chunk_log2 ||
        e->chunks.len != (Py_ssize_t)(CHUNK_RECORD * e->n_chunks) || e->starts.len != (Py_ssize_t)(8 * e->n_chunks) ||
        (e->coder && e->raw_bytes % (uint64_t)dv_codec->itemsize(e->coder)) ||
        (e->coder && dv_codec->needs_base(e->coder)) != (e->base != NULL))
        return DV_BAD;
    if (e->base && (e->base->raw_bytes != e->raw_bytes || e->base->chunk_log2 != e->chunk_log2))
        return DV_BAD;
    for (size_t i = 0; i < e->n_chunks; i++) {
        if (start_of(e, i) < 0)
            return DV_BAD;
        if (e->coder && payload_bytes(e, i) > e->longest)
            e->longest = payload_bytes(e, i);
    }
    e->most = (size_t)(e->raw_bytes < whole ? e->raw_bytes : whole);
    /* What is longer than any encoder stores is left to the caller. */
    size_t limit = dv_codec->longest_payload(e->most);
    e->longest = e->longest < limit ? e->longest : limit;
    e->room = e->longest + (e->coder ? dv_codec->decode_room(e->coder, e->most) : 0);
    if (e->base && e->base->room > e->room)
        e->room = e->base->room;
    return DV_OK;
}

/* Entry(coder or None, base Entry or None, chunk_log2, raw_bytes, starts, chunk table) */
static PyObject *entry_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    PyObject *coder, *base;
    Py_buffer starts = {0}, chunks = {0};
    int chunk_log2;
    unsigned long long raw_bytes;
    if (keywords && PyDict_GET_SIZE(keywords))
        return dv_raise("no keywords");
    if (!PyArg_ParseTuple(args, "OOiKy*y*", &coder, &base, &chunk_log2, &raw_bytes, &starts, &chunks))
        return NULL;
    dv_entry *e = NULL;
    if (chunk_log2 >= MIN_CHUNK_LOG2 && chunk_log2 <= MAX_CHUNK_LOG2 && raw_bytes < 1ull << 62)
        e = (dv_entry *)type->tp_alloc(type, 0);
    if (!e) {
        Py_buffer *all[] = {&starts, &chunks};
        dv_release(all, 2);
        return PyErr_Occurred() ? NULL : dv_raise("no such chunks");
    }
    e->starts = starts;
    e->chunks = chunks;
    e->chunk_log2 = chunk_log2;
    e->raw_bytes = raw_bytes;
    if (fill_entry(e, coder, base)) {
        Py_DECREF(e);
        return PyErr_Occurred() ? NULL : dv_raise("parts do not fit");
    }
    return (PyObject *)e;
}

static void entry_dealloc(PyObject *self) {
    dv_entry *e = (dv_entry *)self;
    Py_buffer *all[] = {&e->starts, &e->chunks};
    dv_release(all, 2);
    Py_XDECREF(e->coder);
    Py_XDECREF(e->base);
    Py_TYPE(self)->tp_free(self);
}

static int open_call(dv_call *call, const dv_entry *e, int level, PyObject *fds) {
    memset(call, 0, sizeof *call);
    call->level = level;
    if (!PyTuple_Check(fds) || PyTuple_GET_SIZE(fds) != e->links)
        return DV_BAD;
    for (int i = 0; i < e->links; i++) {
        long fd = PyLong_AsLong(PyTuple_GET_ITEM(fds, i));
        if (fd < 0 || fd > INT32_MAX) /* also what is no number */
            return DV_BAD;
        call->fds[i] = (int)fd;
    }
    return DV_OK;
}

static PyObject *result(const dv_call *call, size_t done) {
    double seconds[N_TIMES];
    for (int i = 0; i < N_TIMES; i++)
        seconds[i] = 1e-9 * (double)call->spent[i];
    return Py_BuildValue("n(ddddd)", (Py_ssize_t)done, seconds[READ_TIME], seconds[DECODE_TIME], seconds[CHECK_TIME],
                         seconds[WAIT_TIME], seconds[WRITE_TIME]);
}

static PyObject *unfit(void) { return PyErr_Occurred() ? NULL : dv_raise("arguments do not fit"); }

/* read(level, fds, first, out, scratch) -> chunks done, seconds (read, decode, check, wait, write).
 * `out` holds whole chunks from `first` on. */
static PyObject *entry_read(PyObject *self, PyObject *args) {
    dv_entry *e = (dv_entry *)self;
    PyObject *fds;
    Py_buffer out = {0}, scratch = {0};
    int level;
    Py_ssize_t first;
    if (!PyArg_ParseTuple(args, "iOnw*w*", &level, &fds, &first, &out, &scratch))
        return NULL;
    Py_buffer *all[] = {&out, &scratch};
    dv_call call;
    size_t i = (size_t)first, done = 0, n_out = (size_t)out.len;
    if (open_call(&call, e, level, fds) || first < 0 || i > e->n_chunks || (size_t)scratch.len < scratch_bytes(e)) {
        dv_release(all, 2);
        return unfit();
    }
    Py_BEGIN_ALLOW_THREADS
    uint8_t *at = out.buf;
    call.since = now();
    for (; i < e->n_chunks && chunk_bytes(e, i) <= n_out; i++, done++) {
        if (decode(&call, e, i, at, scratch.buf))
            break;
        at += chunk_bytes(e, i);
        n_out -= chunk_bytes(e, i);
    }
    Py_END_ALLOW_THREADS
    dv_release(all, 2);
    return result(&call, done);
}

/* copy(level, fds, first, n, to_fd, to_at, scratch) -> as read(). Chunk `first` goes to `to_at` of the file. */
static PyObject *entry_copy(PyObject *self, PyObject *args) {
    dv_entry *e = (dv_entry *)self;
    PyObject *fds;
    Py_buffer scratch = {0};
    int level, to;
    Py_ssize_t first, n;
    long long to_at;
    if (!PyArg_ParseTuple(args, "iOnniLw*", &level, &fds, &first, &n, &to, &to_at, &scratch))
        return NULL;
    Py_buffer *all[] = {&scratch};
    dv_call call;
    size_t done = 0;
    if (open_call(&call, e, level, fds) || first < 0 || n < 0 || to < 0 || (size_t)first > e->n_chunks ||
        (size_t)n > e->n_chunks - (size_t)first || to_at < 0 || (size_t)scratch.len < scratch_bytes(e) + e->most) {
        dv_release(all, 1);
        return unfit();
    }
    Py_BEGIN_ALLOW_THREADS
    uint8_t *chunk = scratch.buf;
    call.since = now();
    for (; done < (size_t)n; done++) {
        size_t i = (size_t)first + done, n_bytes = chunk_bytes(e, i);
        if (decode(&call, e, i, chunk, chunk + e->most) || write_chunk(&call, to, chunk, n_bytes, to_at))
            break;
        to_at += (long long)n_bytes;
    }
    Py_END_ALLOW_THREADS
    dv_release(all, 1);
    return result(&call, done);
}

static PyObject *entry_scratch(PyObject *self, void *closure) {
    const dv_entry *e = (dv_entry *)self;
    return PyLong_FromSize_t(scratch_bytes(e) + e->most);
}

static PyMethodDef methods[] = {
    {"read", entry_read, METH_VARARGS, "(level, fds, first, out, scratch) -> chunks done, seconds"},
    {"copy", entry_copy, METH_VARARGS, "(level, fds, first, n, to_fd, to_at, scratch) -> chunks done, seconds"},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef getters[] = {
    {"scratch_bytes", entry_scratch, NULL, "bytes of scratch that a call needs", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

int dv_entry_init(void) {
    for (int i = 0; i < N_TURNS; i++)
        if (!turns[i] && !(turns[i] = PyThread_allocate_lock())) {
            PyErr_NoMemory();
            return DV_BAD;
        }
    return DV_OK;
}

PyTypeObject dv_entry_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "deltavcs.objects._native.Entry",
    .tp_basicsize = sizeof(dv_entry),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "(coder|None, base|None, chunk_log2, raw_bytes, starts, chunk table): reads stored chunks",
    .tp_new = entry_new,
    .tp_dealloc = entry_dealloc,
    .tp_methods = methods,
    .tp_getset = getters,
};
