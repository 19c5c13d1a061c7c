/* From the reset to main(), the part that is the same on all CPUs. */
#ifndef START_H
#define START_H

/* Lay out the RAM as C expects it and run main(). The stack must be there. */
__attribute__((noreturn)) void start(void);

/* Reset the board: its host learns of it by the boot message. */
__attribute__((noreturn)) void start_again(void);

int main(void);

#endif
