"""Call functions and move tensors on a microcontroller over a serial port."""
