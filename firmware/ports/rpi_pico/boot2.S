/* The second stage of the boot (RP2040 data sheet 2.8.1.3): the boot ROM copies these 256 bytes from the flash to the end
 * of the RAM, checks them, and runs them there. They make the flash readable as memory, and start the program behind them.
 *
 * The flash is read by the command 03h, a bit at a time: slower than what a certain flash can do, but each knows it. */
    .syntax unified
    .cpu cortex-m0plus
    .thumb
    .section .boot2, "ax", %progbits
    .balign 4

    ldr r3, =0x18000000     /* XIP_SSI, 4.10.13 */
    movs r1, #0
    str r1, [r3, #0x08]     /* SSIENR: off while it is set up */
    movs r1, #4
    str r1, [r3, #0x14]     /* BAUDR: 31 MHz of 125, which is what the slowest take */
    ldr r1, =0x001F0300     /* CTRLR0: 32 bits of data; TMOD 3: a command, then data */
    str r1, [r3, #0x00]
    movs r1, #0
    str r1, [r3, #0x04]     /* CTRLR1: one word at a time */
    ldr r1, =0x03000218     /* SPI_CTRLR0: command 03h of 8 bits, 24 bits of address, one line */
    ldr r0, =0x180000F4
    str r1, [r0]
    movs r1, #1
    str r1, [r3, #0x08]

    ldr r0, =0x10000100     /* the vectors of the program */
    ldr r1, =0xE000ED08     /* VTOR */
    str r0, [r1]
    ldr r1, [r0, #0]
    msr msp, r1
    ldr r1, [r0, #4]
    bx r1

    .ltorg
    .org 252, 0
    .word 0x48C9507E        /* CRC-32 of the bytes above, 2.8.1.3.1; tests/firmware/test_rp2040.py computes it */
