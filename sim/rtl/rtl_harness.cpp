// Drives sim/rtl/top.py: fills and reads the memory, runs, traces what the neuron core writes, and
// saves and restores the whole state.
//
// Usage: Vtop PERIOD SDRAM_PERIOD. The periods of the two clocks, in any unit; the second is 0 for
// a memory without a clock of its own.
//
// Commands on stdin, answers on stdout, all little endian; FINISHED is 1 once the core is idle:
//   W address:u32 count:u32 data:u64[count]     -> nothing
//   R address:u32 count:u32                     -> data:u64[count]
//   G controls:u32[6] images:u32 ring:u32       -> nothing; starts a run, its cycles count from 0
//   C cycles:u64 first:u64 count:u64
//        -> finished:u32 violations:u32 phase_changes:u32 cycles:u64 counters:u32[N]
//           written:u64 count:u64 addresses:u16[count] data:u64[count]
//        Runs on, at most that many cycles. The neuron core has written so many words since the
//        start; of the `count` from number `first` on, those that came meanwhile follow.
//   S size:u32 path:u8[size]                    -> 'S': state saved to that file
//   L size:u32 path:u8[size]                    -> 'L': state taken from that file
//   T first:u64 last:u64 size:u32 path:u8[size]
//        -> 'T': the signals of these cycles of the next run go to that file
// A simulator that was compiled with a trace knows T, one that is savable S and L.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "Vtop.h"
#include "verilated.h"
#include "verilated_syms.h"
#if VM_TRACE_FST
#include "verilated_fst_c.h"
typedef VerilatedFstC Waveform;
#elif VM_TRACE
#include "verilated_vcd_c.h"
typedef VerilatedVcdC Waveform;
#else
#include "verilated_save.h"
#endif

static const int kStartCycles = 20000000;
static const int kSettleCycles = 4096;   // in which a memory has written what it was given

static Vtop *top;
static uint64_t *words;   // the memory: `words` of sim/twin/storage.v
static uint64_t depth;
static uint64_t cycles;   // since the run was started

static uint64_t period = 1, sdram_period;
static uint64_t sdram_edge;   // time from the core's last rising edge to the SDRAM's next one

struct Trace {
    uint64_t written = 0, first = 0, wanted = 0;
    std::vector<uint16_t> addresses;
    std::vector<uint64_t> data;

    void add(uint16_t address, uint64_t word) {
        if (written++ - first >= wanted) return;
        addresses.push_back(address);
        data.push_back(word);
    }
};
static Trace trace;

[[noreturn]] static void fail(const char *text) {
    fprintf(stderr, "%s\n", text);
    exit(1);
}

static uint64_t now;   // of waveforms: two for each unit of the periods

#if VM_TRACE
static Waveform *waveform;
static uint64_t record_first, record_last;
static bool running;

static void dump(uint64_t time) {
    if (waveform && running && cycles >= record_first && cycles < record_last) {
        waveform->dump(time);
    }
}
#else
static void dump(uint64_t) {}
#endif

// One cycle of the core's clock, and the edges of the SDRAM's before it. Inputs go to registers
// and outputs come from them (sim/rtl/top.py), so that one evaluation per edge is enough.
static void clock_cycle() {
    if (sdram_period) {
        for (; sdram_edge < period; sdram_edge += sdram_period) {
            top->sdram_clk = 1;
            top->eval();
            dump(now + 2 * sdram_edge);
            top->sdram_clk = 0;
            top->eval();
            dump(now + 2 * sdram_edge + 1);
        }
        sdram_edge -= period;
        if (sdram_edge == 0) {   // both at once
            top->sdram_clk = 1;
            sdram_edge = sdram_period;
        }
    }
    now += 2 * period;
    top->clk = 1;
    top->eval();
    dump(now);
    top->clk = top->sdram_clk = 0;
    top->eval();
    dump(now + 1);
}

static void get(void *data, size_t size) {
    if (size && fread(data, size, 1, stdin) != 1) exit(0);
}

template <typename T> static T get() {
    T value;
    get(&value, sizeof value);
    return value;
}

static void put(const void *data, size_t size) {
    if (size) fwrite(data, size, 1, stdout);
}

// The one array called `words`, wherever the memory twin has put it.
static void find_memory() {
    for (const auto &scope : *Verilated::scopeNameMap()) {
        const VerilatedVar *found = scope.second->varFind("words");
        if (!found) continue;
        if (words) fail("more than one memory");
        words = static_cast<uint64_t *>(found->datap());
        depth = found->totalSize() / sizeof(uint64_t);
    }
    if (!words) fail("no memory");
}

static uint64_t *range(uint32_t &count) {
    uint32_t address = get<uint32_t>();
    count = get<uint32_t>();
    if ((uint64_t)address + count > depth) fail("address beyond the memory");
    return words + address;
}

static void put_trace() {
    uint64_t count = trace.data.size();
    put(&trace.written, 8);
    put(&count, 8);
    put(trace.addresses.data(), 2 * count);
    put(trace.data.data(), 8 * count);
    trace.addresses.clear();
    trace.data.clear();
}

static void start() {
    top->program = get<uint32_t>();
    top->log = get<uint32_t>();
    top->image = get<uint32_t>();
    top->image_stride = get<uint32_t>();
    top->result = get<uint32_t>();
    top->result_stride = get<uint32_t>();
    top->count = get<uint32_t>();
    top->ring = get<uint32_t>();
    top->start = 1;
    clock_cycle();
    top->start = 0;
    clock_cycle();
    cycles = trace.written = now = 0;
#if VM_TRACE
    running = true;
#endif
}

static void advance() {
    uint64_t limit = cycles + get<uint64_t>();
    trace.first = get<uint64_t>();
    trace.wanted = get<uint64_t>();
    for (; top->busy && cycles < limit; cycles++) {
        if (top->trace_valid) trace.add(top->trace_address, top->trace_data);
        clock_cycle();
    }
    if (!top->busy) {
#if VM_TRACE
        if (running && waveform) waveform->close();
        if (running) waveform = nullptr;
        running = false;
#endif
        for (int k = 0; k < kSettleCycles; k++) clock_cycle();
    }
    uint32_t finished = !top->busy, violations = top->violations;
    uint32_t phase_changes = top->phase_changes;
    put(&finished, 4);
    put(&violations, 4);
    put(&phase_changes, 4);
    put(&cycles, 8);
    put(top->counters.data(), sizeof(top->counters));
    put_trace();
}

static std::string path() {
    std::string name(get<uint32_t>(), 0);
    get(&name[0], name.size());
    return name;
}

#if VM_TRACE
static void record() {
    record_first = get<uint64_t>();
    record_last = get<uint64_t>();
    waveform = new Waveform;
    top->trace(waveform, 99);
    waveform->open(path().c_str());
    if (!waveform->isOpen()) fail("cannot write the waveform");
    putchar('T');
}
#else
static void save() {
    VerilatedSave file;
    file.open(path());
    if (!file.isOpen()) fail("cannot write the checkpoint");
    file << cycles << sdram_edge << trace.written << *top;
    file.close();
    putchar('S');
}

static void restore() {
    VerilatedRestore file;
    file.open(path());
    if (!file.isOpen()) fail("cannot read the checkpoint");
    file >> cycles >> sdram_edge >> trace.written >> *top;
    file.close();
    putchar('L');
}
#endif

int main(int argc, char **argv) {
    if (argc != 3) fail("usage: Vtop PERIOD SDRAM_PERIOD");
    period = strtoull(argv[1], nullptr, 10);
    sdram_period = sdram_edge = strtoull(argv[2], nullptr, 10);
#if VM_TRACE
    Verilated::traceEverOn(true);
#endif
    top = new Vtop;
    top->eval();
    find_memory();
    for (int k = 0; !top->ready; k++) {   // an SDRAM starts and calibrates itself
        if (k == kStartCycles) fail("the memory does not become ready");
        clock_cycle();
    }
    for (;;) {
        uint32_t count;
        int kind = getchar();
        if (kind == 'W') {
            uint64_t *target = range(count);
            get(target, 8 * (size_t)count);
        } else if (kind == 'R') {
            const uint64_t *source = range(count);
            put(source, 8 * (size_t)count);
        } else if (kind == 'G') start();
        else if (kind == 'C') advance();
#if VM_TRACE
        else if (kind == 'T') record();
#else
        else if (kind == 'S') save();
        else if (kind == 'L') restore();
#endif
        else break;
        fflush(stdout);
    }
    top->final();
    delete top;
    return 0;
}
