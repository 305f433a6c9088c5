// The virtual board: hw.shell.Shell in Verilator, its line on a TCP socket of this machine.
//
// Usage: Vtop CYCLES: of a bit of the UART or, compiled with BYTES, from one byte to the next.
// Prints "PORT n", then serves one connection after the other. Sleeps while the design has nothing
// to do. Ends when stdin is closed: runs the design's final blocks, and prints "CYCLES n".
// With WORLD, another source says what a cycle of the clock is, takes further lines of stdin, and
// has something to print at the end (sim/gate/sdram_world.cpp).
// Restarts the design when that asks for it, and on a line "restart CYCLES CAUSE" on stdin, so many
// cycles later.
// With BACK_DOOR, another source plants faults (sim/rtl/back_door.cpp), and a line "fork PATH" makes
// another board in the same state: a process whose stdin and stdout are that Unix socket.

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

static const int kPollCycles = 1024;   // between two looks at the socket while running
static const int kResetCycles = 8;
static const int kAnswerCycles = 1000; // times the divisor: from a request to the restart
static const unsigned kLock = 5;       // hw.register.Restart
static const size_t kQueue = 4096;     // bytes read ahead, so that the sender feels the line

static int control_in = STDIN_FILENO, control_out = STDOUT_FILENO;
static int listener, connection = -1;
static std::deque<uint8_t> to_board;
static std::vector<uint8_t> to_host;
static uint64_t cycles;
static Vtop *top;
static uint64_t restart_at;            // 0: none is due
static unsigned restart_cause;
static std::string command;            // so far, of stdin
static uint64_t taken;                 // bytes that the board has received

#ifdef WORLD
void world_cycle(Vtop *top);
void world_command(Vtop *top, const char *line);
void world_finish(Vtop *top);
#endif

#ifdef BACK_DOOR
bool back_door_command(Vtop *top, const char *line, std::string &answer);
void back_door_cycle(Vtop *top, uint64_t taken);
void back_door_forget(unsigned cause);

void restart_board(uint64_t after, unsigned cause) {
    restart_cause = cause;
    restart_at = cycles + after + 1;
}
#endif

static void finish() {
#ifdef WORLD
    world_finish(top);
#endif
    top->final();
    fflush(stdout);
    dprintf(control_out, "CYCLES %llu\n", (unsigned long long)cycles);
    _exit(0);
}

// Listens on a free port, and says which.
static void open_port() {
    listener = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    if (bind(listener, (sockaddr *)&address, length) || listen(listener, 1)
        || getsockname(listener, (sockaddr *)&address, &length)) {
        perror("virtual board");
        _exit(1);
    }
    dprintf(control_out, "PORT %d\n", ntohs(address.sin_port));
}

#ifdef BACK_DOOR
// Another board in the same state, which has this end of the socket at `path`; no answer here.
static void fork_board(const char *path) {
    signal(SIGCHLD, SIG_IGN);
    if (fork() != 0) return;
    close(listener);
    if (connection >= 0) close(connection);
    connection = -1;
    close(control_in);
    close(control_out);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    control_in = control_out = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(control_in, (sockaddr *)&address, sizeof address)) _exit(1);
    open_port();
}
#endif

static void disconnect() {
    close(connection);
    connection = -1;
}

static void flush_to_host() {
    size_t sent = 0;
    while (connection >= 0 && sent < to_host.size()) {
        ssize_t count = send(connection, to_host.data() + sent, to_host.size() - sent,
                             MSG_NOSIGNAL);
        if (count < 0) disconnect();
        else sent += count;
    }
    to_host.clear();
}

// Takes a byte of the commands.
static void obey(char byte) {
    if (byte != '\n') {
        command += byte;
        return;
    }
    unsigned long long after;
    std::string line;
    line.swap(command);
    if (sscanf(line.c_str(), "restart %llu %u", &after, &restart_cause) == 2)
        restart_at = cycles + after + 1;
#ifdef BACK_DOOR
    std::string answer;
    if (line.compare(0, 5, "fork ") == 0) fork_board(line.c_str() + 5);
    else if (back_door_command(top, line.c_str(), answer))
        dprintf(control_out, "%s\n", answer.c_str());
#endif
#ifdef WORLD
    else world_command(top, line.c_str());
#endif
}

// Moves what has arrived into the queue; waits for something to arrive if `wait`.
static void attend(bool wait) {
    flush_to_host();
    pollfd files[2] = {{control_in, POLLIN, 0}, {connection >= 0 ? connection : listener,
                                                   POLLIN, 0}};
    if (poll(files, to_board.size() < kQueue ? 2 : 1, wait ? -1 : 0) <= 0) return;
    if (files[0].revents) {
        char bytes[64];
        ssize_t count = read(control_in, bytes, sizeof bytes);
        if (count <= 0) finish();
        for (ssize_t index = 0; index < count; ++index) obey(bytes[index]);
    }
    if (!files[1].revents) return;
    if (connection < 0) {
        connection = accept(listener, nullptr, nullptr);
        int yes = 1;
        setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        return;
    }
    uint8_t buffer[kQueue];
    ssize_t count = recv(connection, buffer, sizeof buffer, 0);
    if (count <= 0) disconnect();
    else to_board.insert(to_board.end(), buffer, buffer + count);
}

int main(int argc, char **argv) {
    if (argc != 2) return 1;
    const int divisor = atoi(argv[1]);

    open_port();
    top = new Vtop;
#ifdef BYTES
    const bool received_bits = false;
    int sending_bits = 0;    // cycles until the next byte
#else
    top->rx = 1;
    unsigned sending = 0, sending_bits = 0, sending_left = 0;    // frame bits still to drive
    unsigned received = 0, received_bits = 0, received_left = 0; // 0 bits: waits for a start bit
#endif
    int quiet = 0, until_poll = kPollCycles, resetting = 0;
    for (;;) {
        if (top->restart && !restart_at) {
            restart_cause = top->restart;
            restart_at = cycles + kAnswerCycles * divisor;
        }
        if (restart_at && cycles >= restart_at) {
            // The fields of hw.register.STATE_BITS above `busy`.
            unsigned lost = (top->state & 1) | (restart_cause == kLock);
            top->state = lost | restart_cause << 1 | ((top->state >> 4) + 1 & 0xff) << 4;
            restart_at = 0;
            resetting = kResetCycles;
#ifdef BACK_DOOR
            back_door_forget(restart_cause);
#endif
        }
        top->rst = resetting > 0;
        if (resetting) resetting--;
#ifdef BYTES
        top->received_valid = 0;
        if (sending_bits) {
            sending_bits--;
        } else if (!to_board.empty()) {
            top->received = to_board.front();
            top->received_valid = 1;
            sending_bits = divisor - 1;
            to_board.pop_front();
            ++taken;
        }
        if (top->sent_valid) to_host.push_back(top->sent);
#else
        if (sending_bits == 0 && !to_board.empty()) {
            sending = 1u << 9 | to_board.front() << 1;
            sending_bits = 10;
            sending_left = divisor;
            to_board.pop_front();
            ++taken;
        }
        if (sending_bits) {
            top->rx = sending & 1;
            if (--sending_left == 0) {
                sending >>= 1;
                sending_bits--;
                sending_left = divisor;
            }
        }

#endif
#ifdef WORLD
        world_cycle(top);
#else
        top->clk = 0;
        top->eval();
        top->clk = 1;
        top->eval();
#endif
        ++cycles;
#ifdef BACK_DOOR
        back_door_cycle(top, taken);
#endif

#ifndef BYTES
        if (received_bits == 0) {
            if (!top->tx) {
                received_bits = 9;
                received_left = divisor + divisor / 2 - 1;
            }
        } else if (--received_left == 0) {
            received_left = divisor;
            if (--received_bits == 0) to_host.push_back(received);
            else received = received >> 1 | (top->tx ? 0x80 : 0);
        }
#endif

        // The design may take some cycles to see a byte that just ended.
        bool active = top->busy || restart_at || resetting || sending_bits || received_bits
                      || !to_board.empty();
        quiet = active ? 0 : quiet + 1;
        if (quiet > 16 * divisor) {
            attend(true);
            quiet = 0;
        } else if (--until_poll == 0) {
            attend(false);
            until_poll = kPollCycles;
        }
    }
}
