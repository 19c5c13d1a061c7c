/* For <tvm/runtime/c_backend_api.h>. */
#include "tvm_generated.h"
