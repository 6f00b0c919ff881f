/* What the files of the extension share. */
#ifndef DELTAVCS_ENTRY_H
#define DELTAVCS_ENTRY_H

#include "arguments.h"
#include "exports.h"

#define DV_OK 0
#define DV_BAD (-1)

/* The codec's functions; there once the module is. */
extern const dv_exports *dv_codec;

extern PyTypeObject dv_entry_type;
/* Locks of the type; DV_BAD with an exception set. */
int dv_entry_init(void);

#endif
