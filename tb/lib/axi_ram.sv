// Behavioural AXI4 memory for simulation, with a file as its content if wanted.
//
// Incrementing bursts of full beats, byte strobes, one burst each way at a time and another one
// waiting: a beat a cycle without gaps between bursts, reads and writes side by side. A read takes
// the content of the cycle in which its beat is fetched. DECERR outside of the memory; other
// addresses of a burst still count.
//
// Plusargs:
//   +disk=FILE       content at the start: the file from address BASE on, zeros behind it
//   +disk_out=FILE   content at the end of the simulation, all BYTES of it
//
// Limitations: BASE is a multiple of 4096; no narrow, fixed or wrapping bursts, no exclusive
// accesses; addresses are aligned.

module axi_ram #(
    parameter int WIDTH = 256,
    parameter int ADDRESS_BITS = 32,
    parameter longint BASE = 0,
    parameter longint BYTES = 4096
) (
    input logic clk,
    input logic rst,

    input logic awid,
    input logic [ADDRESS_BITS-1:0] awaddr,
    input logic [7:0] awlen,
    input logic awvalid,
    output logic awready,

    input logic [WIDTH-1:0] wdata,
    input logic [WIDTH/8-1:0] wstrb,
    input logic wlast,
    input logic wvalid,
    output logic wready,

    output logic bid,
    output logic [1:0] bresp,
    output logic bvalid,
    input logic bready,

    input logic arid,
    input logic [ADDRESS_BITS-1:0] araddr,
    input logic [7:0] arlen,
    input logic arvalid,
    output logic arready,

    output logic rid,
    output logic [WIDTH-1:0] rdata,
    output logic [1:0] rresp,
    output logic rlast,
    output logic rvalid,
    input logic rready
);
  localparam int LANES = WIDTH / 8;
  localparam int BEATS = int'(BYTES / LANES);
  localparam logic [1:0] OKAY = 2'b00, DECERR = 2'b11;

  // Each word has its first byte on the left, as $fread fills it.
  logic [WIDTH-1:0] content[0:BEATS-1];

  string path;
  int file;

  initial begin
    for (int i = 0; i < BEATS; i++) content[i] = '0;
    if ($value$plusargs("disk=%s", path)) begin
      file = $fopen(path, "rb");
      if (file == 0) $fatal(1, "axi_ram: cannot read %s", path);
      void'($fread(content, file));
      $fclose(file);
    end
  end

  final begin
    if ($value$plusargs("disk_out=%s", path)) begin
      file = $fopen(path, "wb");
      if (file == 0) $fatal(1, "axi_ram: cannot write %s", path);
      for (int i = 0; i < BEATS; i++) $fwrite(file, "%u", turned(content[i]));
      $fclose(file);
    end
  end

  function automatic logic [WIDTH-1:0] turned(input logic [WIDTH-1:0] word);
    for (int i = 0; i < LANES; i++) turned[8*i+:8] = word[WIDTH-8-8*i+:8];
  endfunction

  function automatic logic inside_memory(input longint word);
    return word >= 0 && word < longint'(BEATS);
  endfunction

  // Beats are counted from BASE on; what lies below it is negative, and so never inside.
  function automatic longint word_of(input logic [ADDRESS_BITS-1:0] address);
    return (longint'(address) - BASE) >>> $clog2(LANES);
  endfunction

  // Reads.
  logic read_busy, read_waits, read_id, read_waits_id;
  longint read_word, read_waits_word;
  logic [7:0] read_left, read_waits_left;
  logic read_step;

  assign read_step = read_busy && (!rvalid || rready);
  assign arready = !read_waits;

  always_ff @(posedge clk) begin
    if (rvalid && rready) rvalid <= 1'b0;
    if (read_step) begin
      rvalid <= 1'b1;
      rid <= read_id;
      rlast <= read_left == 0;
      if (inside_memory(read_word)) begin
        rdata <= turned(content[int'(read_word)]);
        rresp <= OKAY;
      end else begin
        rdata <= '0;
        rresp <= DECERR;
      end
      read_word <= read_word + 1;
      read_left <= read_left - 1;
    end
    if (!read_busy || (read_step && read_left == 0)) begin
      read_busy <= read_waits || (arvalid && arready);
      read_waits <= 1'b0;
      read_id <= read_waits ? read_waits_id : arid;
      read_word <= read_waits ? read_waits_word : word_of(araddr);
      read_left <= read_waits ? read_waits_left : arlen;
    end else if (arvalid && arready) begin
      read_waits <= 1'b1;
      read_waits_id <= arid;
      read_waits_word <= word_of(araddr);
      read_waits_left <= arlen;
    end
    if (rst) begin
      read_busy  <= 1'b0;
      read_waits <= 1'b0;
      rvalid <= 1'b0;
    end
  end

  // Writes. The last beat needs room for its answer, and gives it: a burst crosses no multiple of
  // 4096, so that one which leaves the memory does so upwards.
  logic write_busy, write_waits, write_id, write_waits_id;
  longint write_word, write_waits_word;
  logic write_step;

  assign wready = write_busy && (!bvalid || bready);
  assign write_step = wvalid && wready;
  assign awready = !write_waits;

  always_ff @(posedge clk) begin
    if (bvalid && bready) bvalid <= 1'b0;
    if (write_step) begin
      if (inside_memory(write_word)) begin
        for (int i = 0; i < LANES; i++) begin
          if (wstrb[i]) content[int'(write_word)][WIDTH-8-8*i+:8] <= wdata[8*i+:8];
        end
      end
      write_word <= write_word + 1;
      if (wlast) begin
        bvalid <= 1'b1;
        bid <= write_id;
        bresp <= inside_memory(write_word) ? OKAY : DECERR;
      end
    end
    if (!write_busy || (write_step && wlast)) begin
      write_busy <= write_waits || (awvalid && awready);
      write_waits <= 1'b0;
      write_id <= write_waits ? write_waits_id : awid;
      write_word <= write_waits ? write_waits_word : word_of(awaddr);
    end else if (awvalid && awready) begin
      write_waits <= 1'b1;
      write_waits_id <= awid;
      write_waits_word <= word_of(awaddr);
    end
    if (rst) begin
      write_busy <= 1'b0;
      write_waits <= 1'b0;
      bvalid <= 1'b0;
    end
  end
endmodule
