// A routed design 256 times at once: bit n of every vector belongs to lane n. Lane 0 is the design
// as it is, each other one has a fault of its own. tests/campaign/lanes.py writes what calls this;
// the cells behave as in sim/gate/cells.v.

#pragma once

#include <cstdint>
#include <cstring>

#ifdef __AVX512VL__
#include <immintrin.h>
#endif

const int LANES = 256;
const int PARTS = LANES / 64;

typedef uint64_t V __attribute__((vector_size(LANES / 8)));
typedef uint64_t Part __attribute__((may_alias));

const V ZERO = {0, 0, 0, 0};
const V ONES = ~ZERO;

static inline V sel(V which, V yes, V no) { return no ^ (which & (yes ^ no)); }

// A LUT of three inputs, the lowest address bit first.
template <int TABLE> static inline V t3(V x, V y, V z) {
#ifdef __AVX512VL__
    return (V)_mm256_ternarylogic_epi64((__m256i)z, (__m256i)y, (__m256i)x, TABLE);
#else
    V low = ZERO, high = ZERO;
    if (TABLE & 1) low |= ~x & ~y;
    if (TABLE & 2) low |= x & ~y;
    if (TABLE & 4) low |= ~x & y;
    if (TABLE & 8) low |= x & y;
    if (TABLE & 16) high |= ~x & ~y;
    if (TABLE & 32) high |= x & ~y;
    if (TABLE & 64) high |= ~x & y;
    if (TABLE & 128) high |= x & y;
    return sel(z, high, low);
#endif
}

static inline bool any(V v) { return v[0] | v[1] | v[2] | v[3]; }

static inline V everywhere(bool bit) { return bit ? ONES : ZERO; }

static inline V first(V v) { return everywhere(v[0] & 1); }

static inline bool get(const V &v, int lane) {
    return ((const Part *)&v)[lane / 64] >> lane % 64 & 1;
}

static inline void put(V &v, int lane, bool bit) {
    Part &part = ((Part *)&v)[lane / 64];
    part = (part & ~(1ull << lane % 64)) | (uint64_t)bit << lane % 64;
}

static inline unsigned value(const V *bits, int count, int lane) {
    unsigned number = 0;
    for (int bit = 0; bit < count; bit++) number |= (unsigned)get(bits[bit], lane) << bit;
    return number;
}

// Lanes whose number is not that of lane 0.
static inline V strays(const V *bits, int count) {
    V found = ZERO;
    for (int bit = 0; bit < count; bit++) found |= bits[bit] ^ first(bits[bit]);
    return found;
}

// LUT-RAM of 16 bits.
static inline V ram_read(const V *cells, V a, V b, V c, V d) {
    const V place[4] = {a, b, c, d};
    if (!any(strays(place, 4))) return cells[value(place, 4, 0)];
    V row[8];
    for (int k = 0; k < 8; k++) row[k] = sel(a, cells[2 * k + 1], cells[2 * k]);
    for (int k = 0; k < 4; k++) row[k] = sel(b, row[2 * k + 1], row[2 * k]);
    return sel(d, sel(c, row[3], row[2]), sel(c, row[1], row[0]));
}

static inline void ram_write(V *cells, V enable, const V *place, V data) {
    if (!any(strays(place, 4) & enable)) {
        V &cell = cells[value(place, 4, 0)];
        cell = sel(enable, data, cell);
        return;
    }
    for (int k = 0; k < 16; k++) {
        V here = enable;
        for (int bit = 0; bit < 4; bit++) here &= k >> bit & 1 ? place[bit] : ~place[bit];
        cells[k] = sel(here, data, cells[k]);
    }
}

// Block RAM.
struct Block {
    int width_a, width_b, mode_a, mode_b;
    V cells[1024][18];
    V outputs[4][18];    // latch A, latch B, register A, register B
};

// Inputs of a block RAM; an enable is 0 where its port has no clock.
struct Pins {
    V cea, ceb, ocea, oceb, wea, web, ada[14], adb[14], dia[18], dib[18];
};

void block_step(Block &block, const Pins &pins);

void multiply(const V *a, const V *b, V signed_a, V signed_b, V *product);

// What the generated files define.
extern V N[], B[], M[LANES], E[2];      // nets, loops that were cut, the lane of each fault, the
                                        // edges at which global set/reset is released
extern V R[][16];                       // LUT-RAM
extern Block blocks[];
extern const int net_count, loop_count, ram_count, block_count;
extern const int rx_net;                // -1: none
void start();                           // state at power-up
void settle();                          // everything that is not clocked
void clock_edge();
bool restart();                         // global set/reset; whether it changed a register
V loops();                              // lanes in which a loop has not come to rest
V stirred();                            // lanes in which a faulty cell puts out something else
V sent();                               // the line from the design
