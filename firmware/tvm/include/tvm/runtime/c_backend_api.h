#include "tvm_generated.h"
