// What is around a routed design with SDRAM: its clocks, the phase that the design moves, the wires
// to the memory chip and back, each with a delay of its own, and the chip (sim/twin/sdram_chip.py).
//
// Times are in femtoseconds. Reads the file "world" in the working folder: "NAME VALUE" lines.
// Lines of stdin: "clear": the chip forgets which rules were broken; "load": words of the file
// "words" (ADDRESS and WORD, hexadecimal) into the chip; "save FIRST COUNT": words of the chip into
// the file "saved". Each makes an empty file of its first word when it is done.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <string>

#include "Vtop.h"
#include "verilated.h"
#include "verilated_syms.h"

typedef int64_t fs;

static const int kPads = 53;    // cke ras cas we ba2 a13 dqm2 dq16 tristate16
static const int kData = 16;

static std::map<std::string, fs> world;
static fs now, next_edge[4], half[4];
static int level[4];
enum { BOARD, SYNC, SDRAM, CHIP };
static uint64_t noise, *words, pads;
static bool step_before, chip_level;
static fs changed[kPads][4];    // when a pad changed, the latest first
static int values[kPads][4];    // and what it became
static fs read_changed[4];      // edges of the chip's clock behind which its data changed
static unsigned read_values[4];
static uint64_t steps;
static fs out_delay[kPads], in_delay[kData];
static fs chip_clock, chip_setup, chip_hold, chip_access, chip_output_hold, pad_setup, pad_hold;

static fs get(const char *name) {
    auto found = world.find(name);
    if (found == world.end()) {
        fprintf(stderr, "world: no %s\n", name);
        exit(1);
    }
    return found->second;
}

static int random_bit() {
    noise ^= noise << 13;
    noise ^= noise >> 7;
    noise ^= noise << 17;
    return noise & 1;
}

static void find_words() {
    for (const auto &scope : *Verilated::scopeNameMap()) {
        const VerilatedVar *found = scope.second->varFind("words");
        if (found) words = static_cast<uint64_t *>(found->datap());
    }
    if (!words) exit(1);
}

static void start(Vtop *top) {
    std::ifstream file("world");
    std::string name;
    for (fs value; file >> name >> value;) world[name] = value;
    const char *names[] = {"board", "sync", "sdram", "sdram"};
    for (int clock = 0; clock < 4; clock++) {
        half[clock] = get(names[clock]) / 2;
        next_edge[clock] = half[clock];
    }
    // Not in step with the others, as PLLs are not.
    next_edge[SYNC] += get("sync_offset");
    for (int pad = 0; pad < kPads; pad++)    // a tristate has the wire of its data pin
        out_delay[pad] = get(("out" + std::to_string(pad < kPads - kData ? pad : pad - kData)).c_str());
    for (int bit = 0; bit < kData; bit++) in_delay[bit] = get(("in" + std::to_string(bit)).c_str());
    chip_clock = get("chip_clock"), chip_setup = get("chip_setup"), chip_hold = get("chip_hold");
    chip_access = get("chip_access"), chip_output_hold = get("chip_output_hold");
    pad_setup = get("pad_setup"), pad_hold = get("pad_hold");
    noise = get("seed") * 0x9e3779b97f4a7c15 | 1;
    top->eval();
    find_words();
    pads = top->pads;
    for (int pad = 0; pad < kPads; pad++)
        for (int k = 0; k < 4; k++) values[pad][k] = pads >> pad & 1, changed[pad][k] = -1;
}

// What a pad's wire carries at a time, either value within the setup and hold time around a change.
static int sampled(int pad, fs time, fs setup, fs hold) {
    for (int k = 0; k < 3; k++) {
        if (time < changed[pad][k] - setup) continue;
        if (time < changed[pad][k] + hold && values[pad][k] != values[pad][k + 1])
            return random_bit();
        return values[pad][k];
    }
    return values[pad][3];
}

// All pads as the chip sees them at an edge of its clock that leaves the design now.
static uint64_t at_chip() {
    uint64_t found = 0;
    for (int pad = 0; pad < kPads; pad++)
        found |= (uint64_t)sampled(pad, now + chip_clock - out_delay[pad], chip_setup, chip_hold)
                 << pad;
    return found;
}

// The chip's data as an edge of the controller's clock finds them in the pads.
static unsigned at_design() {
    unsigned found = 0;
    for (int bit = 0; bit < kData; bit++) {
        fs time = now - in_delay[bit], from = time - pad_setup, to = time + pad_hold;
        int value = read_values[3] >> bit & 1;
        for (int k = 2; k >= 0; k--) {
            // Between these the chip drives nothing that one may count on.
            fs first = read_changed[k] + chip_output_hold;
            fs last = read_changed[k] + chip_access;
            int after = read_values[k] >> bit & 1;
            if (after != value && to > first && from < last) value = random_bit();
            else if (from >= last) value = after;
        }
        found |= (unsigned)value << bit;
    }
    return found;
}

static void note(Vtop *top) {
    uint64_t other = top->pads ^ pads;
    pads = top->pads;
    for (int pad = 0; other; pad++, other >>= 1) {
        if (!(other & 1)) continue;
        for (int k = 3; k > 0; k--) changed[pad][k] = changed[pad][k - 1],
                                    values[pad][k] = values[pad][k - 1];
        changed[pad][0] = now;
        values[pad][0] = pads >> pad & 1;
    }
    // Each falling edge moves the chip's clock by a step (FPGA-TN-02200).
    if (step_before && !top->phase_step) {
        steps++;
        next_edge[CHIP] += get("phase");
    }
    step_before = top->phase_step;
    if (top->chip_clock == chip_level) return;
    chip_level = top->chip_clock;
    if (chip_level) top->chip_pads = at_chip();
    unsigned before = top->chip_data;
    top->chip_clk = chip_level;
    top->eval();
    if (!chip_level) return;
    fs edge = now + chip_clock;
    if (top->chip_data != before || read_changed[0] == 0) {
        for (int k = 3; k > 0; k--) read_changed[k] = read_changed[k - 1],
                                    read_values[k] = read_values[k - 1];
        read_changed[0] = edge;
        read_values[0] = top->chip_data;
    }
}

void world_cycle(Vtop *top) {
    if (world.empty()) start(top);
    for (bool ended = false; !ended;) {
        now = next_edge[0];
        for (fs edge : next_edge) if (edge < now) now = edge;
        for (int clock = 0; clock < 4; clock++) {
            if (next_edge[clock] != now) continue;
            level[clock] ^= 1;
            next_edge[clock] += half[clock];
            if (clock == SDRAM && level[clock]) top->data_pads = at_design();
            if (clock == SYNC && level[clock]) ended = true;
        }
        top->board_clk = level[BOARD];
        top->clk = level[SYNC];
        top->sdram_clk = level[SDRAM];
        top->shifted_clk = level[CHIP];
        top->eval();
        note(top);
    }
}

void world_command(Vtop *top, const char *line) {
    char name[16];
    unsigned long long first = 0, count = 0;
    sscanf(line, "%15s %llu %llu", name, &first, &count);
    if (!strcmp(name, "clear")) {
        // Takes effect at an edge of the chip's clock.
        top->clear = 1;
        for (int k = 0; k < 8; k++) world_cycle(top);
        top->clear = 0;
    } else if (!strcmp(name, "load")) {
        std::ifstream file("words");
        for (uint64_t address, word; file >> std::hex >> address >> word;) words[address] = word;
    } else if (!strcmp(name, "save")) {
        FILE *file = fopen("saved", "w");
        for (uint64_t k = first; k < first + count; k++)
            fprintf(file, "%llx\n", (unsigned long long)words[k]);
        fclose(file);
    }
    FILE *done = fopen((std::string(name) + ".done").c_str(), "w");
    if (done) fclose(done);
}

void world_finish(Vtop *top) {
    printf("VIOLATIONS %llu\nSTEPS %llu\nREADS %llu\nWRITES %llu\n",
           (unsigned long long)top->violations, (unsigned long long)steps,
           (unsigned long long)top->reads, (unsigned long long)top->writes);
}
