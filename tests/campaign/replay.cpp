// Runs the script of lanes.cpp on one design in Verilator, and prints its answers.
//
// Usage: Vtop DIVISOR. Where a frame does not come in time the answer is what came of it.

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

static const int kAnswerCycles = 50000;

static Vtop *top;
static int divisor;
static unsigned received, bits, left;
static std::vector<uint8_t> bytes;

static void step() {
    top->clk = 0;
    top->eval();
    top->clk = 1;
    top->eval();
    if (bits == 0) {
        if (!top->tx) {
            bits = 9;
            left = divisor + divisor / 2 - 1;
        }
    } else if (--left == 0) {
        left = divisor;
        if (--bits == 0) bytes.push_back(received);
        else received = received >> 1 | (top->tx ? 0x80 : 0);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) return 1;
    divisor = atoi(argv[1]);
    top = new Vtop;
    top->rx = 1;
    std::ifstream script("script");
    std::string line, word, label, rest;
    while (std::getline(script, line)) {
        std::istringstream words(line);
        words >> word >> label >> rest;
        if (word == "run") {
            for (long k = atol(rest.c_str()); k; k--) step();
            continue;
        }
        bytes.clear();
        for (size_t at = 0; at + 1 < rest.size(); at += 2)
            for (unsigned bit = 0, frame = 1u << 9 | std::stoi(rest.substr(at, 2), nullptr, 16) << 1;
                 bit < 10; bit++)
                for (int k = 0; k < divisor; k++) {
                    top->rx = frame >> bit & 1;
                    step();
                }
        for (int k = 0; k < kAnswerCycles && (bytes.empty() || bytes.back()); k++) step();
        printf("answer %s ", label.c_str());
        for (uint8_t byte : bytes) printf("%02x", byte);
        printf("\n");
        for (int k = 0; k < 20 * divisor; k++) step();
    }
    top->final();
}
