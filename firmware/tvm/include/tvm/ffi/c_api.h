/* For <tvm/ffi/c_api.h>. */
#include "tvm_generated.h"
