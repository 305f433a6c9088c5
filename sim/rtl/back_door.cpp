// A back door into the virtual board (sim/rtl/virtual_board.cpp): fills its arrays, and plants faults
// at a given byte of the line or cycle of a run. See sim/rtl/back_door.py for what it is for.
//
// Lines of commands, and the answer to each:
//   arrays                      -> ARRAYS name words bits, for every array that may be reached
//   load ARRAY FIRST PATH       -> OK: entries of an array, from FIRST on, taken from a file
//   forget ARRAY...             -> OK: arrays that a cold restart overwrites in part
//   identity NUMBER             -> OK: what the board says it is
//   decay                       -> OK: overwrites them now
//   now FAULT                   -> OK: done
//   at byte N FAULT             -> OK: when the board has received so many more bytes
//   at run N CYCLE FAULT        -> OK: in that cycle of the Nth run, counted from 1 and from now;
//                                  not at all if that ends before
//   planted                     -> PLANTED n: faults so far
// ARRAY is a number, in the order of `arrays`. Faults:
//   flip ARRAY ENTRY BIT
//   poke ARRAY ENTRY VALUE      the low 64 bits of an entry, in hexadecimal
//   restart CAUSE
//   die                         the process ends at once, as a board without power

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "Vtop.h"
#include "verilated.h"
#include "verilated_syms.h"

void restart_board(uint64_t after, unsigned cause);
void back_door_forget(unsigned cause);

struct Array {
    uint8_t *data;
    uint64_t words, bits, bytes;    // bytes of an entry
};

struct Event {
    bool at_byte;
    uint64_t run, moment;           // a cycle of that run, or a count of bytes
    std::string fault;
};

static std::map<std::string, Array> arrays;
static std::vector<Array> numbered;
static std::vector<Array> volatiles;
static std::vector<Event> events;
static uint64_t received, planted;
static uint64_t runs, run_cycles;
static bool was_running;

static void find_arrays() {
    if (!numbered.empty()) return;
    for (const auto &scope : *Verilated::scopeNameMap()) {
        if (!scope.second->varsp()) continue;
        for (const auto &variable : *scope.second->varsp()) {
            const VerilatedVar &found = variable.second;
            if (found.udims() != 1) continue;
            std::string name = std::string(scope.first) + "." + variable.first;
            for (char &byte : name) if (byte == ' ') byte = '_';
            arrays[name] = {static_cast<uint8_t *>(found.datap()), (uint64_t)found.elements(1),
                            found.entBits(), found.entSize()};
        }
    }
    for (const auto &array : arrays) numbered.push_back(array.second);
}

static const Array *get_array(std::istringstream &words) {
    size_t number;
    return words >> number && number < numbered.size() ? &numbered[number] : nullptr;
}

// Whether this was a fault that can be planted; done unless only looked at.
static bool plant(const std::string &fault, bool done = true) {
    planted += done;
    std::istringstream words(fault);
    std::string kind;
    words >> kind;
    if (kind == "die") {
        if (done) _exit(0);
        return true;
    }
    unsigned cause;
    if (kind == "restart") {
        if (!(words >> cause)) return false;
        if (done) restart_board(0, cause);
        return true;
    }
    const Array *array = get_array(words);
    uint64_t entry, value;
    if (!array || !(words >> entry) || entry >= array->words) return false;
    uint8_t *place = array->data + entry * array->bytes;
    if (kind == "flip") {
        if (!(words >> value) || value >= array->bits) return false;
        if (done) place[value / 8] ^= 1 << value % 8;
        return true;
    }
    if (kind != "poke" || !(words >> std::hex >> value)) return false;
    if (done) memcpy(place, &value, array->bytes < 8 ? array->bytes : 8);
    return true;
}

static bool load(std::istringstream &words) {
    const Array *array = get_array(words);
    uint64_t first;
    std::string path;
    if (!array || !(words >> first) || first > array->words || !std::getline(words >> std::ws, path))
        return false;
    FILE *file = fopen(path.c_str(), "rb");
    if (!file) return false;
    size_t room = (array->words - first) * array->bytes;
    size_t count = fread(array->data + first * array->bytes, 1, room, file);
    bool whole = fgetc(file) == EOF && count % array->bytes == 0;
    fclose(file);
    return whole;
}

static bool schedule(std::istringstream &words) {
    Event event = {};
    std::string unit;
    words >> unit;
    event.at_byte = unit == "byte";
    if (!event.at_byte) {
        if (unit != "run" || !(words >> event.run)) return false;
        event.run += runs;
    }
    if (!(words >> event.moment) || !std::getline(words >> std::ws, event.fault)) return false;
    if (event.at_byte) event.moment += received;
    if (!plant(event.fault, false)) return false;
    events.push_back(event);
    return true;
}

static bool obey(Vtop *top, const std::string &kind, std::istringstream &words) {
    if (kind == "load") return load(words);
    if (kind == "at") return schedule(words);
    if (kind == "decay") return back_door_forget(0), true;
    if (kind == "identity") return bool(words >> top->identity);
    if (kind == "forget") {
        volatiles.clear();
        while (const Array *array = get_array(words)) volatiles.push_back(*array);
        return words.eof();
    }
    std::string fault;
    return std::getline(words >> std::ws, fault) && plant(fault);
}

// Whether the line is one of the commands above; its answer.
bool back_door_command(Vtop *top, const char *line, std::string &answer) {
    std::istringstream words(line);
    std::string kind;
    words >> kind;
    find_arrays();
    if (kind == "arrays") {
        std::ostringstream said;
        said << "ARRAYS";
        for (const auto &array : arrays)
            said << ' ' << array.first << ' ' << array.second.words << ' ' << array.second.bits;
        answer = said.str();
        return true;
    }
    if (kind == "planted") {
        answer = "PLANTED " + std::to_string(planted);
        return true;
    }
    for (const char *known : {"load", "at", "identity", "forget", "decay", "now"}) {
        if (kind != known) continue;
        answer = obey(top, kind, words) ? "OK" : "NO";
        return true;
    }
    return false;
}

// After every cycle; `taken` is the count of bytes that the board has received.
void back_door_cycle(Vtop *top, uint64_t taken) {
    received = taken;
    bool running = top->leds & 1;
    if (running) {
        run_cycles++;
        if (!was_running) {
            runs++;
            run_cycles = 0;
        }
    }
    was_running = running;
    for (size_t index = 0; index < events.size(); index++) {
        Event event = events[index];
        bool late = !event.at_byte && runs > event.run;
        if (event.at_byte ? taken < event.moment
                          : !late && (!running || runs < event.run || run_cycles < event.moment))
            continue;
        events.erase(events.begin() + index--);
        if (!late) plant(event.fault);
    }
}

// What an SDRAM holds may be lost where it is calibrated anew (hw.register): here one block in 16,
// which is harder to notice than all of it.
void back_door_forget(unsigned cause) {
    const unsigned kAbort = 2, kWatchdog = 4;
    const uint64_t kBlock = 256, kBlocks = 16;
    if (cause == kAbort || cause == kWatchdog) return;
    static uint64_t state = 0x9e3779b97f4a7c15;
    state += received;
    for (const Array &array : volatiles) {
        for (uint64_t entry = state % kBlocks * kBlock; entry < array.words; entry++) {
            state ^= state << 13;    // Marsaglia's xorshift generator
            state ^= state >> 7;
            state ^= state << 17;
            memcpy(array.data + entry * array.bytes, &state, array.bytes < 8 ? array.bytes : 8);
            if (entry % kBlock == kBlock - 1) entry += (kBlocks - 1) * kBlock;
        }
    }
}
