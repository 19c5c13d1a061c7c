// An array that the board fills, and one that it works on:
//
//     import microrpc
//     board = microrpc.connect("/dev/ttyACM0")
//     samples = board.function("sample")(100, 1000)  # 100 samples, one in 1000 us
//     board.function("scale")(samples, 3.3 / 1023)
//     print(samples.numpy())
#include <MicroRPCDevice.h>

static void sample(microrpc_call_t *call) {
    int64_t count = microrpc_int(call, 0);
    int64_t pauseUs = microrpc_int(call, 1);
    if (count < 1 || count > 1000 || pauseUs < 0 || pauseUs > 10000) {
        microrpc_fail(call, "sample: want 1 to 1000 samples, and 0 to 10000 us");
        return;
    }
    const size_t extents[] = {static_cast<size_t>(count)};
    const microrpc_dtype_t float32 = {MICRORPC_DTYPE_FLOAT, 32, 1};
    float *samples = static_cast<float *>(microrpc_return_tensor(call, float32, 1, extents));
    if (samples == nullptr) {
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        samples[i] = static_cast<float>(analogRead(A0));
        delayMicroseconds(static_cast<unsigned int>(pauseUs));
    }
}

static void scale(microrpc_call_t *call) {
    microrpc_tensor_t values = microrpc_float32(call, 0);
    float factor = static_cast<float>(microrpc_float(call, 1));
    if (microrpc_has_failed(call)) {
        return;
    }
    float *value = static_cast<float *>(values.data);
    for (size_t i = 0; i < values.count; i++) {
        value[i] *= factor;
    }
}

static const microrpc_function_t functions[] = {
    MICRORPC_FUNCTION_DOC(sample, "count: int(1..1000), pause: int(0..10000) [us] -> float32[n]",
                          "Read the pin that many times."),
    MICRORPC_FUNCTION_DOC(scale, "values: float32[...], factor: float -> None", "Multiply an array where it lies."),
};
static MicroRPCDevice<> device(Serial, functions);

void setup() {
    Serial.begin(115200);
    device.begin(static_cast<uint8_t>(analogRead(A0)));
}

void loop() {
    device.poll();
}
