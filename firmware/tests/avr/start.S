/* From reset to main: constants and variables are copied to RAM, where C finds them. */
    .section .start,"ax",@progbits
    .global _start, __do_copy_data, __do_clear_bss
_start:
__do_copy_data:
__do_clear_bss:
    clr r1                          /* C wants a 0 there */
    out 0x3f, r1
    ldi r28, lo8(stack_top)
    ldi r29, hi8(stack_top)
    out 0x3d, r28
    out 0x3e, r29
    ldi r30, lo8(data_load)         /* Z reads flash, X writes RAM, up to r25:r24 */
    ldi r31, hi8(data_load)
    ldi r26, lo8(data_start)
    ldi r27, hi8(data_start)
    ldi r24, lo8(data_end)
    ldi r25, hi8(data_end)
    rjmp 2f
1:  lpm r0, Z+
    st X+, r0
2:  cp r26, r24
    cpc r27, r25
    brne 1b
    ldi r24, lo8(bss_end)
    ldi r25, hi8(bss_end)
    rjmp 4f
3:  st X+, r1
4:  cp r26, r24
    cpc r27, r25
    brne 3b
    call main
5:  rjmp 5b
