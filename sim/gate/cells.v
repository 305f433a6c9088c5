// Behaviour of the ECP5's larger cells, for designs as nextpnr-ecp5 writes them after routing.
// From Lattice FPGA-TN-02204 (memory), FPGA-TN-02205 (sysDSP), FPGA-TN-02200 (clocks).

// Block RAM of 18 kbit. WIDTH 36 is one port for writing (A) and one for reading (B), with byte
// enables in place of a write enable. The lower half goes in at DIA and comes out at DOA, as yosys
// connects it (techlibs/lattice/brams_map_16kd.v). PDPW16KD numbers its outputs otherwise: its DO0
// to DO17 are DOB (nextpnr, ecp5/pack.cc), and so the upper half.
// Output registers have a clock enable of their own. Contents and the four output registers are
// what the simulation puts there.
module gate_dp16kd #(
    parameter WIDTH_A = 18, WIDTH_B = 18, OUTREG_A = 0, OUTREG_B = 0,
    // 0: the output keeps its word during a write, 1: it shows the word written, 2: the old one.
    parameter MODE_A = 0, MODE_B = 0
) (
    input clka, clkb, cea, ceb, ocea, oceb, wea, web,
    input [13:0] ada, adb,
    input [17:0] dia, dib,
    output [17:0] doa, dob
);
    reg [17:0] cells [0:1023];
    reg [17:0] outputs [0:3];    // latch A, latch B, register A, register B
    localparam WIDE = WIDTH_A == 36 || WIDTH_B == 36;

    // Place of a narrow word's lowest bit: bytes of 9 bits, of which narrower words use 8.
    function [4:0] place(input [3:0] a, input integer width);
        place = width == 18 ? 0 : (a[3] ? 9 : 0) + (width < 9 && a[2] ? 4 : 0)
                + (width < 4 && a[1] ? 2 : 0) + (width < 2 && a[0] ? 1 : 0);
    endfunction
    function [17:0] mask(input [1:0] bytes, input integer width);
        mask = width == 18 ? {{9{bytes[1]}}, {9{bytes[0]}}} : (18'd1 << width) - 18'd1;
    endfunction

    wire [4:0] at_a = place(ada[3:0], WIDTH_A), at_b = place(adb[3:0], WIDTH_B);
    wire [17:0] mask_a = mask(ada[1:0], WIDTH_A) << at_a, mask_b = mask(adb[1:0], WIDTH_B) << at_b;
    wire [17:0] word_a = cells[ada[13:4]], word_b = cells[adb[13:4]];

    generate if (WIDE) begin
        always @(posedge clka) if (cea) begin
            if (ada[0]) cells[{ada[13:5], 1'b0}][8:0] <= dia[8:0];
            if (ada[1]) cells[{ada[13:5], 1'b0}][17:9] <= dia[17:9];
            if (ada[2]) cells[{ada[13:5], 1'b1}][8:0] <= dib[8:0];
            if (ada[3]) cells[{ada[13:5], 1'b1}][17:9] <= dib[17:9];
        end
        always @(posedge clkb) begin
            if (ceb) begin
                outputs[0] <= cells[{adb[13:5], 1'b0}];
                outputs[1] <= cells[{adb[13:5], 1'b1}];
            end
            if (oceb) outputs[3] <= outputs[1];
            if (ocea) outputs[2] <= outputs[0];
        end
    end else begin
        always @(posedge clka) begin
            if (cea) begin
                if (wea) cells[ada[13:4]] <= word_a & ~mask_a | dia << at_a & mask_a;
                if (!wea || MODE_A == 2) outputs[0] <= word_a >> at_a;
                else if (MODE_A == 1) outputs[0] <= dia;
            end
            if (ocea) outputs[2] <= outputs[0];
        end
        always @(posedge clkb) begin
            if (ceb) begin
                if (web) cells[adb[13:4]] <= word_b & ~mask_b | dib << at_b & mask_b;
                if (!web || MODE_B == 2) outputs[1] <= word_b >> at_b;
                else if (MODE_B == 1) outputs[1] <= dib;
            end
            if (oceb) outputs[3] <= outputs[1];
        end
    end endgenerate
    assign doa = OUTREG_A ? outputs[2] : outputs[0];
    assign dob = OUTREG_B ? outputs[3] : outputs[1];
endmodule

// Multiplier without registers.
module gate_mult18x18d(input [17:0] a, b, input signeda, signedb, output [35:0] p);
    assign p = $signed({{18{signeda & a[17]}}, a}) * $signed({{18{signedb & b[17]}}, b});
endmodule

// Clock buffer with enable: it takes effect while the clock is low.
module gate_dcca(input clki, ce, output clko);
    reg enabled = 0;
    always @(negedge clki) enabled <= ce;
    assign clko = clki & enabled;
endmodule

// Global set/reset. With SYNC (SGSR) it is released at the second rising edge of its clock.
module gate_gsr #(parameter SYNC = 0) (input gsr, clk, output released);
    reg [1:0] edges = 3;
    always @(posedge clk or negedge gsr) edges <= gsr ? {edges[0], 1'b1} : 2'd0;
    assign released = SYNC ? edges[1] : gsr;
endmodule
