// What is around a virtual board with a flash or a card: the device's bytes come from another
// process (sim/rtl/boot_board.py), over the socket whose number is in the environment variable
// SPI_SOCKET; here are the bits.
//
// Messages of two bytes go there: 'S' 0 select, 'D' w deselect behind a whole byte (1) or not, 'X' b
// a byte was received, 'C' n clocks without select, 'L' v the LEDs changed, 'T' b the board has sent
// a byte. 'S' and 'X' are answered with two bytes: whether the device drives its line, and what it
// sends next. Before the first cycle one byte is awaited.

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "Vtop.h"

static int link_fd = -1;
static bool clk, selected, driven;
static uint8_t leds, out, got;
static int bits;
static uint64_t rises;

static void gone() { _exit(0); }

static void say(char kind, uint8_t value) {
    uint8_t message[2] = {(uint8_t)kind, value};
    if (write(link_fd, message, 2) != 2) gone();
}

static uint8_t hear() {
    uint8_t byte;
    if (read(link_fd, &byte, 1) != 1) gone();
    return byte;
}

static void ask(char kind, uint8_t value) {
    say(kind, value);
    driven = hear();
    out = hear();
    got = bits = 0;
}

static void drive(Vtop *top) {
    top->spi_cipo = driven ? out >> (7 - bits) & 1 : 1;
}

void world_cycle(Vtop *top) {
    if (link_fd < 0) {
        const char *number = getenv("SPI_SOCKET");
        if (!number) exit(1);
        link_fd = atoi(number);
        hear();
    }
    top->clk = 0;
    top->eval();
    top->clk = 1;
    top->eval();
    if (top->sent_valid) say('T', top->sent);
    if (top->leds != leds) say('L', leds = top->leds);
    if (top->spi_select != selected) {
        selected = top->spi_select;
        if (selected) ask('S', 0);
        else say('D', bits == 0);
        if (!selected) driven = false;
        drive(top);
    }
    if (top->spi_clk != clk) {
        clk = top->spi_clk;
        if (clk && selected) {
            got = got << 1 | top->spi_copi;
            bits++;
            ++rises;
        } else if (clk) {
            say('C', 1);
        } else if (selected) {
            if (bits == 8) ask('X', got);
            drive(top);
        }
    }
}

void world_command(Vtop *, const char *) {}

void world_finish(Vtop *) {
    printf("BITS %llu\n", (unsigned long long)rises);
}
