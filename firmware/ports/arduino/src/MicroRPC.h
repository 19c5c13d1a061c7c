// The library under its own name.
#include "MicroRPCDevice.h"
