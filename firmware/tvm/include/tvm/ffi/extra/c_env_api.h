/* For <tvm/ffi/extra/c_env_api.h>. */
#include "tvm_generated.h"
