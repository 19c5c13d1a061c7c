/* The RP2040's USB device controller (4.1): control transfers, and packets on the endpoints. Chapters named as "9.4" are
 * those of USB 2.0. A bus that is suspended is like a host that does not read; nothing is to be done for it. */
#include "usb.h"

#include "cortex_m.h"
#include "port.h"
#include "rp2040.h"

#define MEMORY 0x50100000u
#define MEMORY_BYTES 4096u
#define REGISTERS 0x50110000u
#define ADDR_ENDP (REGISTERS + 0x00)
#define MAIN_CTRL (REGISTERS + 0x40)
#define MAIN_CTRL_ON 1u
#define SOF_RD (REGISTERS + 0x48)
#define SIE_CTRL (REGISTERS + 0x4C)
#define SIE_CTRL_EP0_INTERRUPTS (1u << 29)
#define SIE_CTRL_PULL_UP (1u << 16)
#define SIE_STATUS (REGISTERS + 0x50)
#define SIE_STATUS_BUS_RESET (1u << 19)
#define SIE_STATUS_SETUP (1u << 17)
#define BUFF_STATUS (REGISTERS + 0x58)
#define EP_STALL_ARM (REGISTERS + 0x68)
#define EP_STALL_ARM_BOTH 3u
#define USB_MUXING (REGISTERS + 0x74)
#define USB_MUXING_TO_PHY (1u << 0 | 1u << 3)
#define USB_PWR (REGISTERS + 0x78)
#define USB_PWR_VBUS_IS_THERE (1u << 3 | 1u << 2) /* no pin tells: the board has its power from it */
#define INTE (REGISTERS + 0x90)
#define INTS (REGISTERS + 0x98)
#define INT_BUFF_STATUS (1u << 4)
#define INT_BUS_RESET (1u << 12)
#define INT_SETUP (1u << 16)
#define INT_FRAME (1u << 17) /* until SOF_RD is read */
#define INTERRUPTS (INT_BUFF_STATUS | INT_BUS_RESET | INT_SETUP)

/* In the memory (4.1.2.5): the request, then by endpoint and direction what it is, and what is to be done with its buffer. */
#define EP_CONTROL(endpoint, is_out) (MEMORY + 8 * (endpoint) + 4 * (is_out))
#define EP_CONTROL_ON (1u << 31 | 1u << 29)
#define EP_CONTROL_BULK (2u << 26)
#define EP_CONTROL_INTERRUPT (3u << 26)
#define BUFFER_CONTROL(endpoint, is_out) (MEMORY + 0x80 + 8 * (endpoint) + 4 * (is_out))
#define BUFFER_FULL (1u << 15)
#define BUFFER_DATA1 (1u << 13)
#define BUFFER_STALL (1u << 11)
#define BUFFER_AVAILABLE (1u << 10)
#define BUFFER_SIZE 0x3FFu
#define BUFFER_0 0x100u
#define BUFFER_NOTICES 0x180u
#define BUFFER_IN 0x1C0u
#define BUFFER_OUT 0x200u

#define OFF_US 10000u
/* Of a frame, which has 1,000 us. */
#define LATE_US 800u
#define MOST_IDLE_FRAMES 100u

#define IN 0u
#define OUT 1u
#define ENDPOINTS 3u

/* 9.4: requests, and the recipients of bmRequestType. */
enum { GET_STATUS, CLEAR_FEATURE, SET_FEATURE = 3, SET_ADDRESS = 5, GET_DESCRIPTOR, GET_CONFIGURATION = 8 };
enum { SET_CONFIGURATION = 9, GET_INTERFACE, SET_INTERFACE };
#define TYPE_TO_HOST 0x80u
#define TYPE_MASK 0x60u
#define TYPE_CLASS 0x20u
#define RECIPIENT_MASK 0x1Fu
#define RECIPIENT_ENDPOINT 2u
#define FEATURE_HALT 0u

/* Where the transfer on endpoint 0 is. */
typedef enum { IDLE, DATA_IN, DATA_OUT, STATUS_IN, STATUS_OUT } stage_t;

static stage_t stage;
static usb_request_t request;
static const uint8_t *answer;
static uint32_t answer_left;
static bool answer_has_end; /* the host would wait for more, were the last packet a full one */
static uint8_t answer_room[USB_PACKET_BYTES];
static uint8_t address, configuration;
static bool is_data_1[ENDPOINTS][2];
static bool is_halted[ENDPOINTS][2]; /* but for endpoint 0 */
static bool is_armed[2]; /* USB_DATA: whether a packet waits there to be taken, or room for one */
static uint32_t in_bytes;
static uint32_t frame_begun_us, frames_left; /* which interrupt */
static bool waits_for_frame;                 /* the packet that is to be sent */

static volatile uint8_t *memory_bytes(uint32_t offset) {
    return (volatile uint8_t *)(uintptr_t)(MEMORY + offset);
}

/* The controller, at 48 MHz, may be reading it: what it acts on is written three of its cycles later (4.1.2.5.1). */
static void hand_over(uint32_t endpoint, uint32_t direction, uint32_t value, uint32_t act) {
    volatile uint32_t *control = &REGISTER(BUFFER_CONTROL(endpoint, direction));
    *control = value;
    __asm__ volatile("nop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop");
    *control = value | act;
}

static void arm(uint32_t endpoint, uint32_t direction, uint32_t value) {
    uint32_t data_1 = is_data_1[endpoint][direction] ? BUFFER_DATA1 : 0;
    is_data_1[endpoint][direction] = !is_data_1[endpoint][direction];
    hand_over(endpoint, direction, value | data_1, BUFFER_AVAILABLE);
}

static void fill(uint32_t buffer, const uint8_t *bytes, uint32_t size) {
    volatile uint8_t *to = memory_bytes(buffer);
    for (uint32_t i = 0; i < size; i++) {
        to[i] = bytes[i];
    }
}

/* Erratum RP2040-E15: what is sent at the end of a frame may be spoilt on its way through a hub such that the controller
 * hangs. A packet is not handed over in the last fifth of a frame, but with the next one. Frames interrupt for as long as
 * there is something to send, and some time longer; where they do not, the next one tells when they begin. */
static bool is_late(void) {
    bool is_known = frames_left > 0;
    frames_left = MOST_IDLE_FRAMES;
    if (!is_known) {
        (void)REGISTER(SOF_RD);
        REGISTER(INTE) = INTERRUPTS | INT_FRAME;
    }
    return !is_known || port_now_us(NULL) - frame_begun_us >= LATE_US;
}

static void arm_data(uint32_t direction) {
    if (!is_armed[direction] || is_halted[USB_DATA][direction]) {
        return;
    }
    if (direction == OUT) {
        arm(USB_DATA, OUT, USB_PACKET_BYTES);
        return;
    }
    waits_for_frame = is_late();
    if (!waits_for_frame) {
        arm(USB_DATA, IN, BUFFER_FULL | in_bytes);
    }
}

static void begin_frame(void) {
    (void)REGISTER(SOF_RD);
    frame_begun_us = port_now_us(NULL);
    if (waits_for_frame) {
        waits_for_frame = false;
        arm_data(IN);
    } else if (--frames_left == 0) {
        REGISTER(INTE) = INTERRUPTS;
    }
}

void usb_send(const uint8_t *bytes, uint32_t size) {
    fill(BUFFER_IN, bytes, size);
    in_bytes = size;
    is_armed[IN] = true;
    arm_data(IN);
}

void usb_receive(void) {
    is_armed[OUT] = true;
    arm_data(OUT);
}

/* The control endpoint. */

static void send_answer(void) {
    uint32_t size = answer_left < USB_PACKET_BYTES ? answer_left : USB_PACKET_BYTES;
    fill(BUFFER_0, answer, size);
    answer += size;
    answer_left -= size;
    if (size < USB_PACKET_BYTES) {
        answer_has_end = false;
    }
    arm(0, IN, BUFFER_FULL | size);
}

static bool give(const uint8_t *bytes, uint32_t size) {
    answer = bytes;
    answer_left = size < request.length ? size : request.length;
    answer_has_end = size < request.length;
    stage = DATA_IN;
    send_answer();
    return true;
}

static bool agree(void) {
    stage = STATUS_IN;
    arm(0, IN, BUFFER_FULL);
    return true;
}

static bool set_up(uint8_t new_configuration) {
    if (new_configuration > 1) {
        return false;
    }
    configuration = new_configuration;
    for (uint32_t endpoint = 1; endpoint < ENDPOINTS; endpoint++) {
        for (uint32_t direction = IN; direction <= OUT; direction++) {
            REGISTER(BUFFER_CONTROL(endpoint, direction)) = 0;
            is_data_1[endpoint][direction] = is_halted[endpoint][direction] = false;
        }
    }
    is_armed[IN] = is_armed[OUT] = false;
    uint32_t on = configuration == 1 ? EP_CONTROL_ON : 0;
    REGISTER(EP_CONTROL(USB_NOTICES, IN)) = on | EP_CONTROL_INTERRUPT | BUFFER_NOTICES;
    REGISTER(EP_CONTROL(USB_DATA, IN)) = on | EP_CONTROL_BULK | BUFFER_IN;
    REGISTER(EP_CONTROL(USB_DATA, OUT)) = on | EP_CONTROL_BULK | BUFFER_OUT;
    usb_configured(configuration == 1);
    return true;
}

/* 9.4.1, 9.4.5, 9.4.9: whether an endpoint is halted, and to halt it or go on. */
static bool use_endpoint(void) {
    uint32_t endpoint = request.index & 0xFu, direction = request.index & 0x80u ? IN : OUT;
    if (endpoint >= ENDPOINTS || (endpoint == USB_NOTICES && direction == OUT)) {
        return false;
    }
    if (request.request == GET_STATUS) {
        answer_room[0] = is_halted[endpoint][direction];
        answer_room[1] = 0;
        return give(answer_room, 2);
    }
    if (request.value != FEATURE_HALT) {
        return false;
    }
    if (endpoint != 0) {
        is_halted[endpoint][direction] = request.request == SET_FEATURE;
        is_data_1[endpoint][direction] = false;
        hand_over(endpoint, direction, 0, is_halted[endpoint][direction] ? BUFFER_STALL : 0);
        if (endpoint == USB_DATA) {
            arm_data(direction);
        }
    }
    return agree();
}

static bool do_standard(void) {
    uint32_t size;
    const uint8_t *descriptor;
    switch (request.request) {
    case GET_STATUS:
        if ((request.type & RECIPIENT_MASK) == RECIPIENT_ENDPOINT) {
            return use_endpoint();
        }
        answer_room[0] = answer_room[1] = 0;
        return give(answer_room, 2);
    case CLEAR_FEATURE:
    case SET_FEATURE:
        return (request.type & RECIPIENT_MASK) == RECIPIENT_ENDPOINT && use_endpoint();
    case SET_ADDRESS:
        address = request.value & 0x7Fu;
        return agree();
    case GET_DESCRIPTOR:
        descriptor = usb_descriptor(request.value >> 8, request.value & 0xFFu, &size);
        return descriptor != NULL && give(descriptor, size);
    case GET_CONFIGURATION:
        return give(&configuration, 1);
    case SET_CONFIGURATION:
        return set_up((uint8_t)request.value) && agree();
    case GET_INTERFACE:
        answer_room[0] = 0;
        return give(answer_room, 1);
    case SET_INTERFACE:
        return request.value == 0 && agree();
    default:
        return false;
    }
}

static bool do_class(void) {
    if (!(request.type & TYPE_TO_HOST) && request.length > 0) {
        stage = DATA_OUT;
        arm(0, OUT, USB_PACKET_BYTES);
        return request.length <= USB_PACKET_BYTES;
    }
    int32_t size = usb_class_request(&request, answer_room);
    if (size < 0) {
        return false;
    }
    return request.type & TYPE_TO_HOST ? give(answer_room, (uint32_t)size) : agree();
}

static void refuse(void) {
    stage = IDLE;
    REGISTER(EP_STALL_ARM) = EP_STALL_ARM_BOTH;
    hand_over(0, IN, 0, BUFFER_STALL);
    hand_over(0, OUT, 0, BUFFER_STALL);
}

/* Whatever the transfer before it has not done is left (8.5.3). */
static void set_up_transfer(void) {
    uint32_t low = REGISTER(MEMORY), high = REGISTER(MEMORY + 4);
    request = (usb_request_t){(uint8_t)low, (uint8_t)(low >> 8), (uint16_t)(low >> 16), (uint16_t)high,
                              (uint16_t)(high >> 16)};
    stage = IDLE;
    REGISTER(BUFFER_CONTROL(0, IN)) = 0;
    REGISTER(BUFFER_CONTROL(0, OUT)) = 0;
    is_data_1[0][IN] = is_data_1[0][OUT] = true;
    bool is_done = false;
    if ((request.type & TYPE_MASK) == 0) {
        is_done = do_standard();
    } else if ((request.type & TYPE_MASK) == TYPE_CLASS) {
        is_done = do_class();
    }
    if (!is_done) {
        refuse();
    }
}

static void go_on_in(void) {
    if (stage == DATA_IN && (answer_left > 0 || answer_has_end)) {
        send_answer();
    } else if (stage == DATA_IN) {
        stage = STATUS_OUT;
        is_data_1[0][OUT] = true;
        arm(0, OUT, USB_PACKET_BYTES);
    } else if (stage == STATUS_IN) {
        stage = IDLE;
        REGISTER(ADDR_ENDP) = address; /* from now on, where SET_ADDRESS was what has been answered (9.4.6) */
        if ((request.type & TYPE_MASK) == TYPE_CLASS) {
            usb_class_done();
        }
    }
}

static void go_on_out(void) {
    if (stage != DATA_OUT) {
        stage = IDLE;
        return;
    }
    uint32_t size = REGISTER(BUFFER_CONTROL(0, OUT)) & BUFFER_SIZE;
    const volatile uint8_t *from = memory_bytes(BUFFER_0);
    for (uint32_t i = 0; i < size && i < sizeof answer_room; i++) {
        answer_room[i] = from[i];
    }
    if (size != request.length || usb_class_request(&request, answer_room) < 0) {
        refuse();
        return;
    }
    is_data_1[0][IN] = true;
    agree();
}

static void reset_bus(void) {
    address = 0;
    stage = IDLE;
    REGISTER(ADDR_ENDP) = 0;
    set_up(0);
}

void usb_interrupt(void) {
    uint32_t status = REGISTER(INTS);
    if (status & INT_FRAME) {
        begin_frame();
    }
    if (status & INT_BUS_RESET) {
        REGISTER(SIE_STATUS) = SIE_STATUS_BUS_RESET;
        REGISTER(BUFF_STATUS) = REGISTER(BUFF_STATUS);
        reset_bus();
    }
    uint32_t done = REGISTER(BUFF_STATUS);
    REGISTER(BUFF_STATUS) = done;
    if (done & 1u << (2 * 0 + IN)) {
        go_on_in();
    }
    if (done & 1u << (2 * 0 + OUT)) {
        go_on_out();
    }
    if (done & 1u << (2 * USB_DATA + IN)) {
        is_armed[IN] = false;
        usb_sent();
    }
    if (done & 1u << (2 * USB_DATA + OUT)) {
        is_armed[OUT] = false;
        usb_received(memory_bytes(BUFFER_OUT), REGISTER(BUFFER_CONTROL(USB_DATA, OUT)) & BUFFER_SIZE);
    }
    /* After what ended before it came. */
    if (status & INT_SETUP) {
        REGISTER(SIE_STATUS) = SIE_STATUS_SETUP;
        set_up_transfer();
    }
}

void usb_start(void) {
    /* Off the bus for long enough that the host notices: where a fault was what reset the CPU, it was still on it. */
    SET(RESETS_RESET) = RESETS_USBCTRL;
    rp2040_pause(OFF_US);
    rp2040_reset(RESETS_USBCTRL);
    for (uint32_t at = 0; at < MEMORY_BYTES; at += 4) {
        REGISTER(MEMORY + at) = 0;
    }
    REGISTER(USB_MUXING) = USB_MUXING_TO_PHY;
    REGISTER(USB_PWR) = USB_PWR_VBUS_IS_THERE;
    REGISTER(MAIN_CTRL) = MAIN_CTRL_ON;
    REGISTER(INTE) = INTERRUPTS;
    cortex_m_enable(USB_INTERRUPT);
    REGISTER(SIE_CTRL) = SIE_CTRL_EP0_INTERRUPTS | SIE_CTRL_PULL_UP;
}
