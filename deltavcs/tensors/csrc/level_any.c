/* Kernels for any processor. */
#include "arith.h"

#define DV_KERNELS dv_kernels_any
#include "kernels.inc"
