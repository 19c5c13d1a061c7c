// A sensor that reports: each value that differs from the last one, and nobody has to ask.
//
//     import microrpc
//     board = microrpc.connect("/dev/ttyACM0")
//     for event in board.events("sample"):
//         if not event.is_gap:
//             millivolts, pin = event.values
//             print(event.time_us, millivolts)
#include <MicroRPCDevice.h>

#if !MICRORPC_EVENTS
#error "this board has no events: too little RAM (microrpc_parts.h)"
#endif

static int64_t threshold = 20;

static void set_threshold(microrpc_call_t *call) {
    threshold = microrpc_int(call, 0);
}

static const microrpc_function_t functions[] = {MICRORPC_FUNCTION(set_threshold)};
static MicroRPCDevice<> device(Serial, functions);

void setup() {
    Serial.begin(115200);
    device.begin(static_cast<uint8_t>(analogRead(A0)));
}

void loop() {
    static int64_t last = 0;
    device.poll();
    int64_t value = static_cast<int64_t>(analogRead(A0)) * 3300 / 1023;
    if (value - last < threshold && last - value < threshold) {
        return;
    }
    last = value;
    // Without a host that listens it is not sent, and a host that comes later knows that it has missed it.
    const microrpc_value_t values[] = {microrpc_value_int(value), microrpc_value_text("A0")};
    device.event("sample", values);
}
