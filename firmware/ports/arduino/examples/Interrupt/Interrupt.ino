// What happens in an interrupt, told as events. The library is not to be called from an interrupt: that puts what it
// has seen into a ring, and the main loop makes events of it.
//
//     import microrpc
//     board = microrpc.connect("/dev/ttyACM0")
//     for event in board.events("pulse"):
//         if not event.is_gap:
//             print(event.values[0], "us;", event.values[1], "were lost in the ring")
#include <MicroRPCDevice.h>

#if !MICRORPC_EVENTS
#error "this board has no events: too little RAM (microrpc_parts.h)"
#endif

static const uint8_t PIN = 2;
static const uint8_t ROOM = 32; // a power of 2, so that both indices may run on

// The interrupt writes `put` and `lost`, the main loop `taken`: each a byte, which is written at once.
static volatile uint32_t times_us[ROOM];
static volatile uint8_t put, taken, lost;

static void on_pulse() {
    if (static_cast<uint8_t>(put - taken) == ROOM) {
        lost = static_cast<uint8_t>(lost + 1);
        return;
    }
    times_us[put % ROOM] = static_cast<uint32_t>(micros());
    put = static_cast<uint8_t>(put + 1); // last of all: from here on it is the main loop's
}

static void pulses_lost(microrpc_call_t *call) {
    microrpc_return_int(call, lost);
}

static const microrpc_function_t functions[] = {MICRORPC_FUNCTION(pulses_lost)};
static MicroRPCDevice<> device(Serial, functions);

void setup() {
    Serial.begin(115200);
    device.begin(static_cast<uint8_t>(analogRead(A0)));
    pinMode(PIN, INPUT_PULLUP);
    attachInterrupt(digitalPinToInterrupt(PIN), on_pulse, FALLING);
}

void loop() {
    device.poll();
    while (taken != put) {
        const microrpc_value_t values[] = {microrpc_value_int(times_us[taken % ROOM]), microrpc_value_int(lost)};
        taken = static_cast<uint8_t>(taken + 1);
        device.event("pulse", values);
    }
}
