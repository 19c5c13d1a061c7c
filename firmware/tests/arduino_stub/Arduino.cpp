#include "Arduino.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

HardwareSerial Serial;

void HardwareSerial::begin(unsigned long) {}

int HardwareSerial::available() {
    int count = 0;
    return ioctl(0, FIONREAD, &count) < 0 ? 0 : count;
}

int HardwareSerial::read() {
    uint8_t byte;
    return available() > 0 && ::read(0, &byte, 1) == 1 ? byte : -1;
}

int HardwareSerial::peek() { return -1; }

size_t HardwareSerial::write(uint8_t byte) { return write(&byte, 1); }

size_t HardwareSerial::write(const uint8_t *bytes, size_t size) {
    ssize_t count = ::write(1, bytes, size);
    return count < 0 ? 0 : static_cast<size_t>(count);
}

unsigned long micros() {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint32_t>(now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

void delayMicroseconds(unsigned int us) { usleep(us); }

int analogRead(uint8_t) {
    static int value = 0;
    return value = (value + 37) & 1023;
}

void pinMode(uint8_t, uint8_t) {}

static void (*interrupt)();

void attachInterrupt(int, void (*function)(), int) { interrupt = function; }

int main() {
    setup();
    for (;;) {
        struct pollfd input = {0, POLLIN, 0};
        ::poll(&input, 1, 1000);
        if (input.revents & POLLHUP) {
            return 0;
        }
        if (interrupt != nullptr) {
            interrupt();
        }
        loop();
    }
}
