// A function that a computer calls:
//
//     import microrpc
//     board = microrpc.connect("/dev/ttyACM0")
//     print(board.function("add")(2, 3))
#include <MicroRPCDevice.h>

static void add(microrpc_call_t *call) {
    // As unsigned numbers: what a host sends may overflow, and then wraps around.
    microrpc_return_int(call, (int64_t)((uint64_t)microrpc_int(call, 0) + (uint64_t)microrpc_int(call, 1)));
}

static const microrpc_function_t functions[] = {
    MICRORPC_FUNCTION_DOC(add, "a: int, b: int -> int", "The sum of two numbers."),
};
static MicroRPCDevice<> device(Serial, functions);

void setup() {
    Serial.begin(115200);
    // The noise of an open pin tells the host one boot from another.
    device.begin(static_cast<uint8_t>(analogRead(A0)));
}

void loop() {
    device.poll();
}
