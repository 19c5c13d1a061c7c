// As much of Arduino's API as the library and its examples use, for a computer: Serial is the standard input and output.
#ifndef ARDUINO_H
#define ARDUINO_H

#include <stddef.h>
#include <stdint.h>

class Print {
  public:
    virtual ~Print() {}
    virtual size_t write(uint8_t byte) = 0;
    virtual size_t write(const uint8_t *bytes, size_t size) = 0;
};

class Stream : public Print {
  public:
    virtual int available() = 0;
    virtual int read() = 0;
    virtual int peek() = 0;
};

class HardwareSerial : public Stream {
  public:
    void begin(unsigned long baud);
    int available() override;
    int read() override;
    int peek() override;
    size_t write(uint8_t byte) override;
    size_t write(const uint8_t *bytes, size_t size) override;
};

extern HardwareSerial Serial;

enum { A0 = 14, INPUT_PULLUP = 2, FALLING = 3 };

unsigned long micros();
void delayMicroseconds(unsigned int us);
int analogRead(uint8_t pin);
void pinMode(uint8_t pin, uint8_t mode);
inline int digitalPinToInterrupt(int pin) { return pin; }
// It comes whenever the main loop goes round.
void attachInterrupt(int number, void (*function)(), int mode);

void setup();
void loop();

#endif
