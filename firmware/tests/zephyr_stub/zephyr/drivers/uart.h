#ifndef ZEPHYR_DRIVERS_UART_H
#define ZEPHYR_DRIVERS_UART_H

#include <stdint.h>
#include <zephyr/device.h>

enum uart_rx_stop_reason { UART_ERROR_OVERRUN = 1 << 0, UART_ERROR_PARITY = 1 << 1, UART_ERROR_FRAMING = 1 << 2 };

int uart_err_check(const struct device *device);
int uart_poll_in(const struct device *device, unsigned char *byte);
void uart_poll_out(const struct device *device, unsigned char byte);

/* As in Zephyr, these link only where the application asked for them. */
#ifdef CONFIG_UART_INTERRUPT_DRIVEN
typedef void (*uart_irq_callback_user_data_t)(const struct device *device, void *data);

int uart_irq_callback_user_data_set(const struct device *device, uart_irq_callback_user_data_t callback, void *data);
void uart_irq_rx_enable(const struct device *device);
int uart_irq_update(const struct device *device);
int uart_irq_rx_ready(const struct device *device);
int uart_fifo_read(const struct device *device, uint8_t *bytes, const int size);
#endif

#endif
