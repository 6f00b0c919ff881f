/* The extension of the room that reads packs: coding is the codec's, reached through its capsule. */
#include "entry.h"

const dv_exports *dv_codec;

/* The codec's table of functions, or NULL with an ImportError. */
static const dv_exports *find_codec(void) {
    PyObject *module = PyImport_ImportModule(DV_EXPORTS_MODULE);
    PyObject *capsule = module ? PyObject_GetAttrString(module, "exports") : NULL;
    const dv_exports *found = capsule ? PyCapsule_GetPointer(capsule, DV_EXPORTS_NAME) : NULL;
    /* The table is static: it stays as long as the process does, as extension modules are never unloaded. */
    Py_XDECREF(capsule);
    Py_XDECREF(module);
    if (found && found->version == DV_EXPORTS_VERSION)
        return found;
    PyErr_Clear();
    PyErr_SetString(PyExc_ImportError, DV_EXPORTS_NAME " is missing or of another version");
    return NULL;
}

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "Reads the entries of packs; not an API.", 0, NULL, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void) {
    dv_codec = find_codec();
    PyObject *module = dv_codec ? PyModule_Create(&definition) : NULL;
    if (module && (dv_entry_init() || PyModule_AddType(module, &dv_entry_type)))
        Py_CLEAR(module);
    return module;
}
