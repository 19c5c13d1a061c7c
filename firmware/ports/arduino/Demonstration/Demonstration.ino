// The functions of demo/demo.c as a sketch: what the ports arduino_uno and arduino_mega are.
#include <MicroRPCDevice.h>

extern "C" {
#include "functions.h"
}

static MicroRPCDevice<> device(Serial, board_functions, board_function_count);
#if MICRORPC_RELIABLE_EVENTS
static uint8_t events[512];
#endif

void setup() {
    Serial.begin(115200);
#if MICRORPC_DESCRIBE
    device.identify(board_firmware_name, board_firmware_version);
#endif
#if MICRORPC_RELIABLE_EVENTS
    device.keepEvents(events);
#endif
    device.serveGlobally(board_global_functions, board_global_function_count);
    // The noise of an open pin tells the host one boot from another.
    device.begin(static_cast<uint8_t>(analogRead(A0)));
}

void loop() {
    device.poll();
}
