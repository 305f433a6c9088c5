// Storage of a memory twin for simulators that read Verilog (see sim/twin/storage.py).
// A harness may read and write `words` behind the twin's back.
module storage #(parameter WORDS = 256, parameter ADDRESS_BITS = 8) (
    input clk,
    input [ADDRESS_BITS-1:0] r_address,
    output [63:0] r_data,
    input [ADDRESS_BITS-1:0] w_address,
    input [63:0] w_data,
    input w_en
);
    reg [63:0] words [0:WORDS-1] /* verilator public_flat_rw */;
    assign r_data = words[r_address];
    always @(posedge clk) if (w_en) words[w_address] <= w_data;
endmodule
