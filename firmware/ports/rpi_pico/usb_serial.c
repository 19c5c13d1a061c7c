/* A serial port over USB: a CDC device of the subclass ACM, for which systems have a driver (USB CDC 1.2, PSTN 1.2). */
#include "cortex_m.h"
#include "port.h"
#include "rp2040.h"
#include "usb.h"

const char port_name[] = "rpi_pico";

/* Raspberry Pi's own number for an RP2040 with such a port. A product needs one of its maker: the README says where from. */
#ifndef MICRORPC_USB_VENDOR
#define MICRORPC_USB_VENDOR 0x2E8A
#endif
#ifndef MICRORPC_USB_PRODUCT
#define MICRORPC_USB_PRODUCT 0x000A
#endif

/* What is on its way to the host: more than the host takes in a millisecond. */
#define TX_BYTES 2048u
/* A host that takes no packet for so long is not there, or hangs. */
#define MOST_WAIT_US 1000000u
/* How often is looked for room, in either ring. */
#define LOOK_AGAIN_US 500u

#define LOW(value) ((value) & 0xFF)
#define HIGH(value) ((value) >> 8 & 0xFF)

enum { DEVICE = 1, CONFIGURATION, STRING, INTERFACE, ENDPOINT, CS_INTERFACE = 0x24 };
enum { SET_LINE_CODING = 0x20, GET_LINE_CODING, SET_CONTROL_LINE_STATE };
enum { MAKER = 1, PRODUCT };
enum { CDC = 2, CDC_ACM = 2, CDC_DATA = 10, INTERRUPT = 3, BULK = 2, CONFIGURATION_BYTES = 67 };

#define CONTROL_LINE_DTR 1u
#define LINE_CODING_BYTES 7
#define TOUCH_BAUD 1200u

static const uint8_t device[] = {
    18, DEVICE, 0x00, 0x02, CDC, 0, 0, USB_PACKET_BYTES, LOW(MICRORPC_USB_VENDOR), HIGH(MICRORPC_USB_VENDOR),
    LOW(MICRORPC_USB_PRODUCT), HIGH(MICRORPC_USB_PRODUCT), 0x90, 0x00, MAKER, PRODUCT, 0, 1,
};

static const uint8_t configuration[CONFIGURATION_BYTES] = {
    /* two interfaces, power from the bus, 100 mA */
    9, CONFIGURATION, CONFIGURATION_BYTES, 0, 2, 1, 0, 0x80, 50,
    9, INTERFACE, 0, 0, 1, CDC, CDC_ACM, 0, 0,
    5, CS_INTERFACE, 0, 0x20, 0x01, /* header: CDC 1.2 */
    5, CS_INTERFACE, 1, 0, 1,       /* call management: none */
    4, CS_INTERFACE, 2, 2,          /* ACM: line coding, and the state of the control lines */
    5, CS_INTERFACE, 6, 0, 1,       /* union: interface 0 controls 1 */
    7, ENDPOINT, 0x80 | USB_NOTICES, INTERRUPT, 8, 0, 255,
    9, INTERFACE, 1, 0, 2, CDC_DATA, 0, 0, 0,
    7, ENDPOINT, USB_DATA, BULK, USB_PACKET_BYTES, 0, 0,
    7, ENDPOINT, 0x80 | USB_DATA, BULK, USB_PACKET_BYTES, 0, 0,
};

static const uint8_t languages[] = {4, STRING, 0x09, 0x04};
static const char *const texts[] = {"microrpc", "RP2040 with microrpc"};

/* Indices that run on; the main loop writes the first, the interrupt the second, but for a ring that is thrown away. */
static volatile uint8_t tx[TX_BYTES];
static volatile uint32_t tx_put, tx_taken;
static volatile bool is_ready, is_sending, is_given_up;
static bool wants_end; /* a full packet, and nothing after it: the host's driver waits for a shorter one */

static uint8_t line_coding[LINE_CODING_BYTES] = {0x00, 0xC2, 0x01, 0x00, 0, 0, 8}; /* 115200 8N1: it has no effect */
static bool is_receiving, is_open, is_touched;

const uint8_t *usb_descriptor(uint32_t type, uint32_t index, uint32_t *size) {
    static uint8_t text[2 + 2 * 32];
    if (type == DEVICE && index == 0) {
        *size = sizeof device;
        return device;
    }
    if (type == CONFIGURATION && index == 0) {
        *size = sizeof configuration;
        return configuration;
    }
    if (type != STRING || index > PRODUCT) {
        return NULL;
    }
    if (index == 0) {
        *size = sizeof languages;
        return languages;
    }
    *size = 2;
    for (const char *from = texts[index - MAKER]; *from != 0 && *size < sizeof text; from++) {
        text[(*size)++] = (uint8_t)*from;
        text[(*size)++] = 0;
    }
    text[0] = (uint8_t)*size;
    text[1] = STRING;
    return text;
}

int32_t usb_class_request(const usb_request_t *request, uint8_t *bytes) {
    uint32_t baud;
    switch (request->request) {
    case SET_LINE_CODING:
        if (request->length != LINE_CODING_BYTES) {
            return -1;
        }
        for (uint32_t i = 0; i < LINE_CODING_BYTES; i++) {
            line_coding[i] = bytes[i];
        }
        return 0;
    case GET_LINE_CODING:
        for (uint32_t i = 0; i < LINE_CODING_BYTES; i++) {
            bytes[i] = line_coding[i];
        }
        return LINE_CODING_BYTES;
    case SET_CONTROL_LINE_STATE:
        baud = line_coding[0] | (uint32_t)line_coding[1] << 8 | (uint32_t)line_coding[2] << 16;
        if (is_open && !(request->value & CONTROL_LINE_DTR)) {
            tx_taken = tx_put; /* it was for the program that has closed the port */
            wants_end = false;
            is_touched = baud == TOUCH_BAUD;
        }
        is_open = request->value & CONTROL_LINE_DTR;
        return 0;
    default:
        return -1;
    }
}

/* What Arduino boards do, too: who opens the port at 1200 baud and closes it wants the boot loader, which shows up as a
 * disk. The boot ROM has a function for it (2.8.3.1.5), which does not come back. */
static void enter_boot_loader(void) {
    typedef void (*reset_usb_boot_t)(uint32_t led_pins, uint32_t without_interfaces);
    typedef reset_usb_boot_t (*lookup_t)(const uint16_t *table, uint32_t code);
    volatile uint32_t lookup_at = ROM_TABLE_LOOKUP, table_at = ROM_FUNCTION_TABLE;
    lookup_t lookup = (lookup_t)(uintptr_t) * (const uint16_t *)(uintptr_t)lookup_at;
    const uint16_t *table = (const uint16_t *)(uintptr_t) * (const uint16_t *)(uintptr_t)table_at;
    lookup(table, 'U' | 'B' << 8)(0, 0);
}

void usb_class_done(void) {
    if (is_touched) {
        enter_boot_loader();
    }
}

/* From the board. */

/* With interrupts closed. */
static void send_next(void) {
    if (!is_ready || is_sending) {
        return;
    }
    uint8_t packet[USB_PACKET_BYTES];
    uint32_t taken = tx_taken, size = tx_put - taken;
    if (size == 0 && !wants_end) {
        return;
    }
    if (size > USB_PACKET_BYTES) {
        size = USB_PACKET_BYTES;
    }
    for (uint32_t i = 0; i < size; i++) {
        packet[i] = tx[(taken + i) % TX_BYTES];
    }
    tx_taken = taken + size;
    wants_end = size == USB_PACKET_BYTES;
    is_sending = true;
    usb_send(packet, size);
}

void usb_sent(void) {
    is_sending = is_given_up = false;
    send_next();
}

/* Wait for room: false after a second in which the host has taken nothing, and at once until it does, or where the
 * interrupt that makes room cannot come. */
static bool wait_for_room(void) {
    uint32_t begun_us = port_now_us(NULL);
    while (tx_put - tx_taken == TX_BYTES) {
        if (!cortex_m_is_open()) {
            return false;
        }
        if (is_given_up || !is_ready || port_now_us(NULL) - begun_us > MOST_WAIT_US) {
            is_given_up = true;
            return false;
        }
        /* Closed, so that nothing comes between: an alarm whose time has gone by never comes. What is pending ends wfi. */
        uint32_t primask = cortex_m_close();
        REGISTER(TIMER_ALARM0) = port_now_us(NULL) + LOOK_AGAIN_US;
        __asm__ volatile("dsb\n\twfi" ::: "memory");
        cortex_m_restore(primask);
    }
    return true;
}

/* What is said before there is a host is kept for it, as far as there is room: that the board has booted. */
void port_write(void *port, const uint8_t *bytes, size_t size) {
    (void)port;
    for (size_t i = 0; i < size && wait_for_room(); i++) {
        tx[tx_put % TX_BYTES] = bytes[i];
        tx_put++;
    }
    uint32_t primask = cortex_m_close();
    send_next();
    cortex_m_restore(primask);
}

/* To the board. */

/* Take the next packet when the ring has room for all of it: until then the host waits, and nothing is lost. */
static void receive_next(void) {
    if (!is_ready || is_receiving) {
        return;
    }
    if (RING_BYTES - (port_ring.put - ring_load(&port_ring.taken)) >= USB_PACKET_BYTES) {
        is_receiving = true;
        usb_receive();
    } else {
        REGISTER(TIMER_ALARM0) = port_now_us(NULL) + LOOK_AGAIN_US;
    }
}

void usb_received(const volatile uint8_t *bytes, uint32_t size) {
    is_receiving = false;
    for (uint32_t i = 0; i < size; i++) {
        ring_put(&port_ring, bytes[i]);
    }
    receive_next();
}

static void look_again(void) {
    REGISTER(TIMER_INTR) = 1;
    receive_next();
}

void usb_configured(bool is_configured) {
    is_ready = is_configured;
    is_receiving = is_sending = is_given_up = is_open = is_touched = false;
    receive_next();
    send_next();
}

void line_start(void) {
    REGISTER(TIMER_INTE) = 1;
    cortex_m_enable(TIMER_INTERRUPT);
    usb_start();
}

CORTEX_M_VECTORS(26, [TIMER_INTERRUPT] = look_again, [USB_INTERRUPT] = usb_interrupt);
