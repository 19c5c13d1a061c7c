/* The MPS2 board with the AN385 image, a Cortex-M3: all but its name is in ports/mps2/mps2.c. */
#include "port.h"

const char port_name[] = "qemu_mps2_an385";
