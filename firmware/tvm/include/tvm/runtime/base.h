/* For <tvm/runtime/base.h>. */
#include "tvm_generated.h"
