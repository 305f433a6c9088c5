// A cycle of the virtual board (virtual_board.cpp, WORLD) with a power monitor on its I2C bus.
//
// The monitor is behind the socket that the line "monitor DESCRIPTOR" on stdin names: every change
// of the lines is said there, and the answer awaited (sim/rtl/virtual_board.py).

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "Vtop.h"

static int monitor = -1;
static uint8_t before, device;    // lines that are low, and that the device pulls: bit 0 SCL, 1 SDA
static uint64_t cycles;

void world_cycle(Vtop *top) {
    top->clk = 0;
    top->eval();
    top->clk = 1;
    top->eval();
    ++cycles;
    const uint8_t master = top->scl_low | top->sda_low << 1;
    // A device that holds SCL is asked every cycle, for how long it counts itself.
    if (monitor >= 0 && ((master | device) != before || device & 1)) {
        before = master | device;
        uint8_t message[10] = {master, uint8_t(top->running)};
        memcpy(message + 2, &cycles, sizeof cycles);
        if (write(monitor, message, sizeof message) != sizeof message
            || read(monitor, &device, 1) != 1)
            _exit(1);
    }
    top->scl = !((master | device) & 1);
    top->sda = !((master | device) & 2);
}

void world_command(Vtop *, const char *line) {
    sscanf(line, "monitor %d", &monitor);
}

void world_finish(Vtop *) {}
