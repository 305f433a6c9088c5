// Drives sim/rtl_top.py: memory writes and reads, runs, and traces of what the units write.
//
// Commands on stdin, answers on stdout, all little endian:
//   W address:u32 count:u32 data:u64[count]          -> nothing
//   R address:u32 count:u32                          -> data:u64[count]
//   G controls:u32[6] images:u32 limit:u64           -> finished:u32 cycles:u64 counters:u32[N]
//        then per unit (neuron, attention) count:u64 addresses:u16[count] data:u64[count]
// Progress during a run goes to stderr, one line "cycles N" every 2^20 cycles.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

static Vtop *top;

struct Trace {
    std::vector<uint16_t> addresses;
    std::vector<uint64_t> data;
};
static Trace neuron, attention;

static void clock_cycle() {
    top->clk = 0;
    top->eval();
    top->clk = 1;
    top->eval();
}

// Outputs are sampled with the clock low, after the inputs of this cycle were applied.
static void settle() {
    top->clk = 0;
    top->eval();
}

static void get(void *data, size_t size) {
    if (size && fread(data, size, 1, stdin) != 1) exit(0);
}

static void put(const void *data, size_t size) {
    if (size) fwrite(data, size, 1, stdout);
}

static uint32_t get32() {
    uint32_t value;
    get(&value, 4);
    return value;
}

static void command(uint32_t address, uint32_t length, bool write) {
    top->command_address = address;
    top->command_length = length;
    top->command_write = write;
    top->command_valid = 1;
    for (bool taken = false; !taken;) {
        settle();
        taken = top->command_ready;
        clock_cycle();
    }
    top->command_valid = 0;
}

static void write_memory() {
    uint32_t address = get32(), count = get32();
    std::vector<uint64_t> data(count);
    get(data.data(), 8 * (size_t)count);
    for (uint32_t done = 0; done < count;) {
        uint32_t length = count - done < 128 ? count - done : 128;
        command(address + done, length, true);
        top->w_valid = 1;
        for (uint32_t k = 0; k < length;) {
            top->w_data = data[done + k];
            settle();
            if (top->w_ready) k++;
            clock_cycle();
        }
        top->w_valid = 0;
        done += length;
    }
}

static void read_memory() {
    uint32_t address = get32(), count = get32();
    std::vector<uint64_t> data(count);
    for (uint32_t done = 0; done < count;) {
        uint32_t length = count - done < 128 ? count - done : 128;
        command(address + done, length, false);
        top->r_ready = 1;
        for (uint32_t k = 0; k < length;) {
            settle();
            if (top->r_valid) data[done + k++] = top->r_data;
            clock_cycle();
        }
        top->r_ready = 0;
        done += length;
    }
    put(data.data(), 8 * (size_t)count);
}

static void put_trace(Trace &trace) {
    uint64_t count = trace.data.size();
    put(&count, 8);
    put(trace.addresses.data(), 2 * count);
    put(trace.data.data(), 8 * count);
    trace = Trace();
}

static void run() {
    top->program = get32();
    top->log = get32();
    top->image = get32();
    top->image_stride = get32();
    top->result = get32();
    top->result_stride = get32();
    top->count = get32();
    uint64_t limit, cycles = 0;
    get(&limit, 8);
    top->start = 1;
    clock_cycle();
    top->start = 0;
    while (cycles < limit) {
        settle();
        if (!top->busy) break;
        if (top->neuron_valid) {
            neuron.addresses.push_back(top->neuron_address);
            neuron.data.push_back(top->neuron_data);
        }
        if (top->attention_valid) {
            attention.addresses.push_back(top->attention_address);
            attention.data.push_back(top->attention_data);
        }
        clock_cycle();
        if ((++cycles & 0xFFFFF) == 0) fprintf(stderr, "cycles %llu\n", (unsigned long long)cycles);
    }
    uint32_t finished = !top->busy;
    put(&finished, 4);
    put(&cycles, 8);
    put(top->counters.data(), sizeof(top->counters));
    put_trace(neuron);
    put_trace(attention);
}

int main(int argc, char **argv) {
    Verilated::commandArgs(argc, argv);
    top = new Vtop;
    top->rst = 1;
    for (int k = 0; k < 4; k++) clock_cycle();
    top->rst = 0;
    for (;;) {
        int kind = getchar();
        if (kind == 'W') write_memory();
        else if (kind == 'R') read_memory();
        else if (kind == 'G') run();
        else break;
        fflush(stdout);
    }
    top->final();
    delete top;
    return 0;
}
