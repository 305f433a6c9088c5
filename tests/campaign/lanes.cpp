// Runs a script on all lanes; tells which no longer do what lane 0 does. See lanes.py.
//
// Usage: lanes DIVISOR. Reads from the working folder: script, watch, flips, lut_rams, ram_flips, and
// K.cells and K.outputs of each block RAM. A lane that was caught becomes like lane 0.
//
// script: "send LABEL HEX", "run LABEL CYCLES" line by line; bytes of a request, answered by a frame.
// times, which may be missing: "LABEL CYCLE", before which the request is not sent.
// watch: "GROUP WORD BLOCK CELL LOW WIDTH": a part of a word of memory. Groups "records" and
// "result". flips: "LANE BLOCK CELL BIT". ram_flips: "LANE LUT-RAM BIT".

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "lanes.h"

static const int kCheckCycles = 2048;
static const int kAnswerCycles = 200000;
static const int kSlack = 20000;    // cycles for which lanes may be later than lane 0
static const int kSettle = 64;      // times a loop may change in one cycle

static Part &part(V &v, int k) { return ((Part *)&v)[k]; }

// Block RAM

static int place(unsigned a, int width) {
    return width == 18 ? 0 : (a & 8 ? 9 : 0) + (width < 9 && a & 4 ? 4 : 0)
                             + (width < 4 && a & 2 ? 2 : 0) + (width < 2 && a & 1 ? 1 : 0);
}

static unsigned mask(unsigned a, int width) {
    return width == 18 ? (a & 2 ? 0x3fe00 : 0) | (a & 1 ? 0x1ff : 0)
                       : ((1u << width) - 1) << place(a, width);
}

static void take(V *to, const V *from, int shift, V lanes) {
    for (int bit = 0; bit < 18; bit++)
        to[bit] = sel(lanes, bit + shift < 18 ? from[bit + shift] : ZERO, to[bit]);
}

// Calls one(lanes, address) for each address that some of the lanes have.
template <typename One> static void by_address(const V *address, V lanes, One one) {
    if (!any(lanes)) return;
    V apart = strays(address, 14) & lanes;
    V together = lanes & ~apart;
    if (any(together)) one(together, value(address, 14, 0));
    for (int k = 0; k < PARTS; k++)
        for (uint64_t left = part(apart, k); left; left &= left - 1) {
            int lane = 64 * k + __builtin_ctzll(left);
            V alone = ZERO;
            put(alone, lane, true);
            one(alone, value(address, 14, lane));
        }
}

static void read_word(Block &block, const V *address, int width, V lanes, V *latch) {
    by_address(address, lanes, [&](V some, unsigned a) {
        take(latch, block.cells[a >> 4], place(a & 15, width), some);
    });
}

static void write_bits(V *cell, const V *data, unsigned which, int shift, V lanes) {
    for (int bit = 0; bit < 18; bit++)
        if (which >> bit & 1) cell[bit] = sel(lanes, data[bit - shift], cell[bit]);
}

static void write_word(Block &block, const V *address, int width, V lanes, const V *data) {
    by_address(address, lanes, [&](V some, unsigned a) {
        write_bits(block.cells[a >> 4], data, mask(a & 15, width), place(a & 15, width), some);
    });
}

void block_step(Block &block, const Pins &p) {
    V(*out)[18] = block.outputs;
    take(out[3], out[1], 0, p.oceb);
    take(out[2], out[0], 0, p.ocea);
    if (block.width_a == 36 || block.width_b == 36) {
        by_address(p.adb, p.ceb, [&](V some, unsigned a) {
            take(out[0], block.cells[a >> 5 << 1], 0, some);
            take(out[1], block.cells[a >> 5 << 1 | 1], 0, some);
        });
        by_address(p.ada, p.cea, [&](V some, unsigned a) {
            write_bits(block.cells[a >> 5 << 1], p.dia, mask(a & 3, 18), 0, some);
            write_bits(block.cells[a >> 5 << 1 | 1], p.dib, mask(a >> 2 & 3, 18), 0, some);
        });
        return;
    }
    V write_a = p.cea & p.wea, write_b = p.ceb & p.web;
    V read_a = block.mode_a == 2 ? p.cea : p.cea & ~p.wea;
    V read_b = block.mode_b == 2 ? p.ceb : p.ceb & ~p.web;
    read_word(block, p.ada, block.width_a, read_a, out[0]);
    read_word(block, p.adb, block.width_b, read_b, out[1]);
    if (block.mode_a == 1) take(out[0], p.dia, 0, write_a);
    if (block.mode_b == 1) take(out[1], p.dib, 0, write_b);
    write_word(block, p.ada, block.width_a, write_a, p.dia);
    write_word(block, p.adb, block.width_b, write_b, p.dib);
}

// Multiplier: the product of the numbers without sign, less what a sign takes away.

static void add(V *sum, const V *what, int count, V lanes, int shift, bool less) {
    V carry = less ? lanes : ZERO;
    for (int bit = shift; bit < 36; bit++) {
        V x = bit - shift < count ? what[bit - shift] & lanes : ZERO;
        if (less) x ^= lanes;
        V s = sum[bit];
        sum[bit] = s ^ x ^ carry;
        carry = (s & x) | (carry & (s ^ x));
    }
}

void multiply(const V *a, const V *b, V signed_a, V signed_b, V *product) {
    for (int bit = 0; bit < 36; bit++) product[bit] = ZERO;
    for (int bit = 0; bit < 18; bit++) add(product, a, 18, b[bit], bit, false);
    add(product, b, 18, signed_a & a[17], 18, true);
    add(product, a, 18, signed_b & b[17], 18, true);
}

// Lanes

static std::string now;    // what the script does
static uint64_t cycle;
static V active;           // lanes whose fault is still there

static void heal(V &v, V lanes) { v = sel(lanes, first(v), v); }

struct Receiver {
    unsigned received = 0, bits = 0, left = 0;
    std::vector<uint8_t> bytes;
};
static Receiver receivers[LANES];
static int divisor;

static void caught(V lanes, const std::string &how) {
    lanes &= active;
    if (!any(lanes)) return;
    for (int lane = 1; lane < LANES; lane++)
        if (get(lanes, lane)) {
            printf("caught %d %llu %s: %s\n", lane, (unsigned long long)cycle, now.c_str(),
                   how.c_str());
            printf("its %d ", lane);
            for (uint8_t byte : receivers[lane].bytes) printf("%02x", byte);
            printf("\n");
            M[lane] = ZERO;
            receivers[lane] = receivers[0];
        }
    fflush(stdout);
    active &= ~lanes;
    for (int k = 0; k < net_count; k++) heal(N[k], lanes);
    for (int k = 0; k < loop_count; k++) heal(B[k], lanes);
    for (int k = 0; k < 2; k++) heal(E[k], lanes);
    for (int k = 0; k < ram_count; k++)
        for (V &cell : R[k]) heal(cell, lanes);
    for (int k = 0; k < block_count; k++) {
        for (auto &cell : blocks[k].cells)
            for (V &bit : cell) heal(bit, lanes);
        for (auto &output : blocks[k].outputs)
            for (V &bit : output) heal(bit, lanes);
    }
    settle();
}

static void rest() {
    do settle();
    while (restart());
    V moving = loops();
    for (int times = 1; any(moving); times++) {
        if (times % kSettle == 0) caught(moving, "a loop of gates does not come to rest");
        settle();
        moving = loops();
    }
}

static void receive(V line) {
    for (int lane = 0; lane < LANES; lane++) {
        Receiver &r = receivers[lane];
        bool bit = get(line, lane);
        if (r.bits == 0) {
            if (!bit) {
                r.bits = 9;
                r.left = divisor + divisor / 2 - 1;
            }
        } else if (--r.left == 0) {
            r.left = divisor;
            if (--r.bits == 0) r.bytes.push_back(r.received);
            else r.received = r.received >> 1 | (bit ? 0x80 : 0);
        }
    }
}

static uint64_t stirs[LANES][2];     // the first cycle, and how many

static void step() {
    clock_edge();
    rest();
    cycle++;
    V now_stirred = stirred();
    for (int k = 0; k < PARTS; k++)
        for (uint64_t left = part(now_stirred, k); left; left &= left - 1) {
            uint64_t *its = stirs[64 * k + __builtin_ctzll(left)];
            if (!its[1]++) its[0] = cycle;
        }
    receive(sent());
}

// Words of memory that are looked at

struct Piece { int block, cell, low, width; };
struct Word {
    std::vector<Piece> pieces;
    std::vector<V> before;
    bool written = false, compared = false;
};
static std::map<std::string, std::vector<Word>> watched;

static std::vector<V> bits_of(const Word &word) {
    std::vector<V> bits;
    for (const Piece &piece : word.pieces)
        for (int bit = 0; bit < piece.width; bit++)
            bits.push_back(blocks[piece.block].cells[piece.cell][piece.low + bit]);
    return bits;
}

static void compare(const std::string &what, Word &word) {
    std::vector<V> bits = bits_of(word);
    caught(strays(bits.data(), bits.size()), what);
    word.compared = true;
}

// Records that lane 0 has had since the last check.
static void check_records() {
    int number = 0;
    for (Word &word : watched["records"]) {
        std::string what = "word " + std::to_string(number++) + " of the completion log";
        if (word.compared) continue;
        if (word.written) {
            compare(what, word);
            continue;
        }
        std::vector<V> bits = bits_of(word);
        for (size_t k = 0; k < bits.size(); k++)
            word.written |= get(bits[k], 0) != get(word.before[k], 0);
    }
}

static void check_all() {
    for (auto &group : watched) {
        int number = 0;
        for (Word &word : group.second)
            compare("word " + std::to_string(number++) + " of " + group.first + " at the end", word);
    }
}

static void print_answer(uint64_t begun) {
    printf("answer %s %llu ", now.c_str(), (unsigned long long)begun);
    for (uint8_t byte : receivers[0].bytes) printf("%02x", byte);
    printf("\n");
    fflush(stdout);
}

static void send(const std::vector<uint8_t> &bytes) {
    uint64_t begun = cycle;
    for (Receiver &r : receivers) r.bytes.clear();
    for (uint8_t byte : bytes)
        for (unsigned bit = 0, frame = 1u << 9 | byte << 1; bit < 10; bit++)
            for (int k = 0; k < divisor; k++) {
                if (rx_net >= 0) {
                    V level = everywhere(frame >> bit & 1);
                    bool changed = any(level ^ N[rx_net]);
                    N[rx_net] = level;
                    if (changed) rest();
                }
                step();
            }
    auto complete = [](const Receiver &r) { return !r.bytes.empty() && r.bytes.back() == 0; };
    for (int k = 0; !complete(receivers[0]); k++) {
        if (k == kAnswerCycles) {
            fprintf(stderr, "%s: the design does not answer\n", now.c_str());
            print_answer(begun);
            exit(1);
        }
        step();
    }
    auto different = [] {
        V found = ZERO;
        for (int lane = 1; lane < LANES; lane++)
            put(found, lane, receivers[lane].bytes != receivers[0].bytes);
        return found & active;
    };
    for (int k = 0; k < kSlack && any(different()); k++) {
        step();
        if (k % 1024 == 0) {
            // What cannot become right any more need not be waited for.
            V wrong = ZERO;
            for (int lane = 1; lane < LANES; lane++) put(wrong, lane, complete(receivers[lane]));
            caught(wrong & different(), "another answer");
        }
    }
    caught(different(), "another answer, or none");
    print_answer(begun);
    for (int k = 0; k < 20 * divisor; k++) step();
}

static void load() {
    for (int k = 0; k < block_count; k++) {
        std::ifstream cells(std::to_string(k) + ".cells"), outputs(std::to_string(k) + ".outputs");
        unsigned word;
        for (auto &cell : blocks[k].cells) {
            cells >> std::hex >> word;
            for (int bit = 0; bit < 18; bit++) cell[bit] = everywhere(word >> bit & 1);
        }
        for (auto &output : blocks[k].outputs) {
            outputs >> std::hex >> word;
            for (int bit = 0; bit < 18; bit++) output[bit] = everywhere(word >> bit & 1);
        }
        if (!cells || !outputs) {
            fprintf(stderr, "no contents of block RAM %d\n", k);
            exit(1);
        }
    }
    std::ifstream rams("lut_rams");
    for (int k = 0; k < ram_count; k++) {
        unsigned word = 0;
        rams >> std::hex >> word;
        for (int bit = 0; bit < 16; bit++) R[k][bit] = everywhere(word >> bit & 1);
    }
    std::ifstream flips("flips"), ram_flips("ram_flips"), watch("watch");
    int lane, block, cell, bit;
    while (flips >> lane >> block >> cell >> bit) {
        V &v = blocks[block].cells[cell][bit];
        put(v, lane, !get(v, lane));
    }
    while (ram_flips >> lane >> block >> bit) put(R[block][bit], lane, !get(R[block][bit], lane));
    std::string group;
    size_t number;
    Piece piece;
    while (watch >> group >> number >> piece.block >> piece.cell >> piece.low >> piece.width) {
        auto &words = watched[group];
        if (words.size() <= number) words.resize(number + 1);
        words[number].pieces.push_back(piece);
    }
    for (auto &all : watched)
        for (Word &word : all.second) word.before = bits_of(word);
}

int main(int argc, char **argv) {
    if (argc != 2) return 1;
    divisor = atoi(argv[1]);
    for (int lane = 1; lane < LANES; lane++) put(M[lane], lane, true);
    active = ONES;
    put(active, 0, false);
    start();
    load();
    if (rx_net >= 0) N[rx_net] = ONES;
    now = "power-up";
    rest();
    std::ifstream script("script"), given("times");
    std::map<std::string, uint64_t> times;
    std::string line, word, rest_of_line;
    for (uint64_t at; given >> word >> at;) times[word] = at;
    while (std::getline(script, line)) {
        std::istringstream words(line);
        words >> word >> now >> rest_of_line;
        if (word == "run") {
            for (long k = 1, end = atol(rest_of_line.c_str()); k <= end; k++) {
                step();
                if (k % kCheckCycles == 0) check_records();
            }
        } else {
            std::vector<uint8_t> bytes;
            for (size_t at = 0; at + 1 < rest_of_line.size(); at += 2)
                bytes.push_back(std::stoi(rest_of_line.substr(at, 2), nullptr, 16));
            while (cycle < times[now]) step();
            send(bytes);
        }
    }
    now = "memory";
    check_all();
    for (auto &group : watched) {
        printf("words %s", group.first.c_str());
        for (Word &word : group.second) {
            uint64_t number = 0;
            int at = 0;
            for (V bit : bits_of(word)) number |= (uint64_t)get(bit, 0) << at++;
            printf(" %016llx", (unsigned long long)number);
        }
        printf("\n");
    }
    for (int lane = 1; lane < LANES; lane++)
        if (stirs[lane][1])
            printf("stirred %d %llu %llu\n", lane, (unsigned long long)stirs[lane][0],
                   (unsigned long long)stirs[lane][1]);
    printf("cycles %llu\n", (unsigned long long)cycle);
}
