/* The USB device controller, and what a device on it has to do: usb.c has the former, usb_serial.c the latter. */
#ifndef USB_H
#define USB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of all endpoints; a full-speed device may have no larger ones. */
#define USB_PACKET_BYTES 64u

/* The three besides the control endpoint 0. */
#define USB_NOTICES 1u /* to the host, interrupt; nothing is ever sent there */
#define USB_DATA 2u    /* both ways, bulk */

/* A request to the control endpoint (USB 2.0, 9.3). */
typedef struct {
    uint8_t type, request;
    uint16_t value, index, length;
} usb_request_t;

/* Show up on the bus; then `usb_interrupt` is what interrupt USB_INTERRUPT is for. */
void usb_start(void);
void usb_interrupt(void);
#define USB_INTERRUPT 5

/* With interrupts closed, or from the functions below: send a packet of `size` bytes on USB_DATA; usb_sent() comes when
 * the host has it. Be ready for one; usb_received() comes with it, and until this is called again the host waits. */
void usb_send(const uint8_t *bytes, uint32_t size);
void usb_receive(void);

/* What usb_serial.c has. All are called from the interrupt. */

/* The descriptor of this type and index, and its size; NULL where there is none. */
const uint8_t *usb_descriptor(uint32_t type, uint32_t index, uint32_t *size);

/* A request of the device's class, with what the host has sent after it, or room for what it is to get: give how many
 * bytes that is, or a negative number for what is not known. */
int32_t usb_class_request(const usb_request_t *request, uint8_t *bytes);

/* That request has been answered, and the host knows. */
void usb_class_done(void);

/* The host has configured the device, or has taken that back. */
void usb_configured(bool is_configured);

void usb_sent(void);
void usb_received(const volatile uint8_t *bytes, uint32_t size);

#endif
