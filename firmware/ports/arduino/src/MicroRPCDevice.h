// The device on a Stream: see examples/Add. microrpc.h says what the functions that are called can do.
#ifndef MICRORPC_DEVICE_H
#define MICRORPC_DEVICE_H

#include <Arduino.h>

#include "microrpc.h"
#if MICRORPC_MEMORY && defined __AVR__
#include "microrpc_avr_stack.h"
#endif
#include "microrpc_ring.h"

// How much memory a device has where the sketch does not say.
#ifndef MICRORPC_MEMORY_BYTES
#ifdef __AVR__
#define MICRORPC_MEMORY_BYTES (RAMEND - RAMSTART < 4096 ? 768 : (RAMEND - RAMSTART) / 2)
#else
#define MICRORPC_MEMORY_BYTES 8192
#endif
#endif
#ifndef MICRORPC_PACKET_BYTES
#ifdef __AVR__
#define MICRORPC_PACKET_BYTES (RAMEND - RAMSTART < 4096 ? 192 : 512)
#else
#define MICRORPC_PACKET_BYTES 512
#endif
#endif

// MemoryBytes is for everything, PacketBytes for the largest message of it; what is left is the heap of arrays.
template <size_t MemoryBytes = MICRORPC_MEMORY_BYTES, uint32_t PacketBytes = MICRORPC_PACKET_BYTES>
class MicroRPCDevice {
  public:
    template <size_t Count>
    MicroRPCDevice(Stream &stream, const microrpc_function_t (&functions)[Count])
        : MicroRPCDevice(stream, functions, Count) {}

    MicroRPCDevice(Stream &stream, const microrpc_function_t *functions, size_t count)
        : stream(stream), config(), device(nullptr) {
        config.write = write;
        config.now_us = nowUs;
        config.port = this;
        config.functions = functions;
        config.function_count = count;
        config.packet_bytes = PacketBytes;
#if MICRORPC_MEMORY && defined __AVR__
        config.stack = microrpc_avr_stack;
#endif
#if MICRORPC_HOOKS
        config.idle = idle;
        config.flush = flush;
#endif
#if MICRORPC_DESCRIBE && defined ARDUINO_BOARD
        config.board_name = ARDUINO_BOARD;
#endif
#if MICRORPC_PROGRESS
        config.read = read;
#endif
    }

    MicroRPCDevice(const MicroRPCDevice &) = delete;
    MicroRPCDevice &operator=(const MicroRPCDevice &) = delete;

    // More functions, which hosts find in the global registry; before begin().
    void serveGlobally(const microrpc_function_t *functions, size_t count) {
        config.global_functions = functions;
        config.global_function_count = count;
    }

#if MICRORPC_DESCRIBE
    // What hosts show as the name of the sketch, and its version; before begin().
    void identify(const char *firmwareName, const char *firmwareVersion) {
        config.firmware_name = firmwareName;
        config.firmware_version = firmwareVersion;
    }
#endif

#if MICRORPC_MODELS
    // The models that hosts can run, by their numbers (microrpc_model.h); before begin().
    template <size_t Count> void serveModels(const struct microrpc_model *const (&models)[Count]) {
        config.models = models;
        config.model_count = Count;
    }
#endif

#if MICRORPC_RELIABLE_EVENTS
    // Where reliable events are kept until the host has them; before begin().
    template <size_t Bytes> void keepEvents(uint8_t (&ring)[Bytes]) {
        config.event_ring = ring;
        config.event_ring_bytes = Bytes;
    }
#endif

#if MICRORPC_HOOKS && MICRORPC_LINK
    // What is called with true when a host comes, and with false when it is gone: at the latest after so many
    // milliseconds of silence, 0 for never. Before begin().
    void onSession(void (*function)(bool begins), uint16_t hostTimeoutMs = 0) {
        whenSession = function;
        config.on_session = session;
        config.host_timeout_ms = hostTimeoutMs;
    }
#endif

    // In setup(), after the port's begin(). `nonce` should differ from boot to boot. Gives false where MemoryBytes is
    // too little.
    bool begin(uint8_t nonce, uint32_t ringBytes = MICRORPC_RING_BYTES) {
        config.nonce = nonce;
        config.ring_bytes = ringBytes;
#if MICRORPC_EVENTS
        config.boot_id = static_cast<uint32_t>(micros()) << 8 | nonce;
#endif
        device = microrpc_start(memory, sizeof memory, &config);
        return device != nullptr;
    }

    // In loop(), often: do what came over the port.
    void poll() {
        uint8_t bytes[64];
        size_t count;
        while (device != nullptr && (count = read(this, bytes, sizeof bytes)) > 0) {
            microrpc_receive(device, bytes, count);
        }
#if MICRORPC_HOOKS
        if (device != nullptr) {
            microrpc_receive(device, nullptr, 0); // a host that is gone says nothing
        }
#endif
    }

#if MICRORPC_EVENTS
    // Tell the host that `name` has happened, with values from microrpc_value_int() and its like: from loop() or a
    // function, not from an interrupt. True if it was sent: a host wants events, and has given credit.
    template <size_t Count> bool event(const char *name, const microrpc_value_t (&values)[Count]) {
        return device != nullptr && microrpc_event(device, name, values, Count);
    }

    bool event(const char *name, const microrpc_value_t &value) {
        return device != nullptr && microrpc_event(device, name, &value, 1);
    }
#endif

#if MICRORPC_RELIABLE_EVENTS
    // The same, but it is kept, and sent again, until the host has it. False where there is no room to keep it.
    template <size_t Count> bool eventReliable(const char *name, const microrpc_value_t (&values)[Count]) {
        return device != nullptr && microrpc_event_reliable(device, name, values, Count);
    }

    bool eventReliable(const char *name, const microrpc_value_t &value) {
        return device != nullptr && microrpc_event_reliable(device, name, &value, 1);
    }
#endif

    // A line for the host's log.
    void log(const char *text) {
        if (device != nullptr) {
            microrpc_log(device, text);
        }
    }

    void log(microrpc_level_t level, const char *text) {
        if (device != nullptr) {
            microrpc_log_at(device, level, text);
        }
    }

#if MICRORPC_HOOKS
    // What is called while the library waits, besides yield(): feed a watchdog there.
    void onIdle(void (*function)()) { whenIdle = function; }
#endif

  private:
    static void write(void *port, const uint8_t *bytes, size_t size) {
        Stream &stream = static_cast<MicroRPCDevice *>(port)->stream;
        while (size > 0) {
            size_t count = stream.write(bytes, size);
            if (count == 0) {
                return; // a USB port that nobody has opened takes nothing
            }
            bytes += count;
            size -= count;
        }
    }

    static size_t read(void *port, uint8_t *bytes, size_t size) {
        Stream &stream = static_cast<MicroRPCDevice *>(port)->stream;
        size_t count = 0;
        while (count < size && stream.available() > 0) {
            bytes[count++] = static_cast<uint8_t>(stream.read());
        }
        return count;
    }

#if MICRORPC_HOOKS && MICRORPC_LINK
    static void session(void *port, bool begins) { static_cast<MicroRPCDevice *>(port)->whenSession(begins); }

    void (*whenSession)(bool begins) = nullptr;
#endif

    static uint32_t nowUs(void *) { return static_cast<uint32_t>(micros()); }

#if MICRORPC_HOOKS
    static void idle(void *port) {
        yield();
        if (static_cast<MicroRPCDevice *>(port)->whenIdle != nullptr) {
            static_cast<MicroRPCDevice *>(port)->whenIdle();
        }
    }

    // USB sends what is left of a packet then, and does not wait for more.
    static void flush(void *port) { static_cast<MicroRPCDevice *>(port)->stream.flush(); }

    void (*whenIdle)() = nullptr;
#endif

    Stream &stream;
    microrpc_config_t config;
    microrpc_t *device;
    alignas(8) uint8_t memory[MemoryBytes];
};

#endif
